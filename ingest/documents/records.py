"""What a source yields: an `Item`; what becomes of it: a `Record`, or a `Rejected`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from sys import getsizeof
from typing import TYPE_CHECKING, Any

import orjson

from splade_os.ingest.documents.envelopes import VECTOR_KEY as VECTOR_KEY
from splade_os.ingest.documents.envelopes import opened, what_is_there
from splade_os.ingest.documents.json_form import parse_document, to_json
from splade_os.text_fields import stored_text as stored_text  # where documents are read again
from splade_os.text_fields import texts_at, values_at

if TYPE_CHECKING:
    from splade_os.ingest.documents.encoded_rows import EncodedRow

DEFAULT_TEXT_FIELDS = ("title", "text")
MAX_ID_BYTES = 512
"""Limit of OpenSearch and Elasticsearch."""
_ID_FIELDS = ("_id", "id")


_EMPTY = 1000  # bytes of a record of nothing


def _memory(value: Any) -> int:
    """Bytes that a value takes, about."""
    if isinstance(value, str):  # outside ASCII Python keeps it in UTF-8, too, once it was written
        return getsizeof(value) if value.isascii() else getsizeof(value) + 2 * len(value)
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Mapping):
        return 100 + sum(100 + _memory(each) for each in value.values())
    if isinstance(value, list | tuple):
        return 60 + sum(map(_memory, value))
    return 30


@dataclass(slots=True)
class Item:
    """One thing that stands in a source.

    Attributes:
        where: for people, ``corpus.jsonl:17``.
        raw: the bytes as they stood there, where the source has them.
        value: the value, where the source has it already.
        decode: makes the value from ``raw`` when it is wanted; raises ValueError.
    """

    where: str
    raw: bytes = b""
    value: Any = None
    decode: Callable[[bytes], Any] | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A document to be indexed.

    Attributes:
        position: ordinal in the source, from 1.
        where: for people, ``corpus.jsonl:17``.
        id: document id.
        text: what is encoded: the text fields, joined.
        source: the document as it is stored.
        vector: token → weight of a document that was encoded before, else ``None``.
        item, reader: what it was made from and how, for a dead letter.
        present: bit i is set where the i-th text field held text; ``None`` = not known.
        hashed: it has no id of its own: the id is a hash of it.
        export: the kind of export that the document was taken out of (see `envelopes`).
        encoded: what an encoded row brings: vector, counted tokens, hashes.
    """

    position: int
    where: str
    id: str
    text: str
    source: Mapping[str, Any]
    vector: Mapping[str, float] | None = None
    item: Item | None = None
    reader: RecordReader | None = None
    present: int | None = None
    hashed: bool = False
    export: str | None = None
    encoded: EncodedRow | None = None

    def memory(self) -> int:
        """Bytes that it takes, about: what it was read from, its values, and its text."""
        text, row = _memory(self.text), self.encoded
        if self.item is None or not self.item.raw or row is not None:
            encoded = 0 if row is None else len(row.document) + 8 * len(row.ids)
            return _EMPTY + text + _memory(self.source) + _memory(self.vector) + encoded
        raw = len(self.item.raw)  # all of it is in the values once more, and most is text
        return _EMPTY + text + raw + max(text, raw)

    def original(self) -> Any:
        """What stood in the source; made from the record where nothing did."""
        if self.item is None:
            vector = {} if self.vector is None else {VECTOR_KEY: self.vector}
            return {"_id": self.id, **self.source, **vector}
        return self.item.decode(self.item.raw) if self.item.decode else self.item.value

    def same_content(self, other: Record) -> bool:
        """Whether the other one would be stored, and found, as this one is."""
        if self.item and other.item and self.item.raw and self.item.raw == other.item.raw:
            return True
        mine, theirs = ((x.text, x.source, x.vector) for x in (self, other))
        return to_json(mine, sort_keys=True) == to_json(theirs, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something in a source that is no document: ``item`` is what stood there."""

    position: int
    where: str
    reason: str
    item: Item
    id: str | None = None
    reader: RecordReader | None = None

    def memory(self) -> int:
        """Bytes that it takes, about."""
        return len(self.item.raw) + _memory(self.item.value) + _EMPTY

    def original(self) -> Any:
        """The document; where there is none, what stood there as text. Bytes that are no UTF-8
        stand in it as halves of surrogate pairs (PEP 383), so that none is lost."""
        item = self.item
        try:
            value = item.decode(item.raw) if item.decode else item.value
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return value
        if isinstance(item.value, str):
            return item.value
        if item.raw or value is None:
            return item.raw.decode("utf-8", "surrogateescape").rstrip("\r\n")
        return to_json(value).decode()


@dataclass(frozen=True)
class RecordReader:
    """Makes records from the items of a source.

    Attributes:
        text_fields: fields to encode, in order, or paths to them (``meta.title``). Numbers and
            dates are taken as text, of arrays every element; missing and null ones are skipped.
        id_field: field of the id, or path to it; default ``_id``, else ``id``, else a hash of
            the whole record.
        join: what stands between two texts.
        keep: fields to store; default all.
        drop: fields not to store.
        rename: new name of a stored field.
        vectors: documents bring their vectors, in the field ``vector``.
    """

    text_fields: Sequence[str] = DEFAULT_TEXT_FIELDS
    id_field: str | None = None
    join: str = " "
    keep: Sequence[str] | None = None
    drop: Sequence[str] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    vectors: bool = False

    @property
    def stored_text_fields(self) -> tuple[str, ...]:
        """The text fields by the names under which they are stored."""

        def stored(name: str) -> str:
            if name in self.rename:
                return self.rename[name]
            first, dot, rest = name.partition(".")
            return self.rename.get(first, first) + dot + rest

        return tuple(stored(name) for name in self.text_fields)

    def read(self, item: Item, position: int) -> Record | Rejected:
        """Check one item of a source."""
        try:
            value = item.decode(item.raw) if item.decode else item.value
        except (ValueError, RecursionError) as error:
            return Rejected(position, item.where, str(error), item, None, self)
        return self.check(value, item, position)

    def check(self, value: Any, item: Item, position: int) -> Record | Rejected:
        """Check the value of an item."""
        if not isinstance(value, dict):
            reason = f"not a JSON object but {type(value).__name__}"
            return Rejected(position, item.where, reason, item, None, self)
        identifier: str | None = None
        try:
            value, export = opened(value, item.raw)
            identifier = self.id_of(value)
            texts, present = self._texts_of(value)
            vector = value.get(VECTOR_KEY) if self.vectors else None
            if self.vectors and not isinstance(vector, dict):
                raise ValueError(f"no object of token and weight in the field {VECTOR_KEY!r}")
            source = self._stored(value)
        except ValueError as error:
            return Rejected(position, item.where, str(error), item, identifier, self)
        return Record(
            position=position,
            where=item.where,
            id=hash_of(value) if identifier is None else identifier,
            text=self.join.join(texts),
            source=source,
            vector=vector,
            item=item,
            reader=self,
            present=present,
            hashed=identifier is None,
            export=export,
        )

    def id_of(self, value: dict[str, Any]) -> str | None:
        """The id that the record has.

        Raises:
            ValueError: it cannot be one.
        """
        found: Any = None
        if self.id_field is not None:
            found = value.get(self.id_field)
            if found is None:
                several = [x for x in values_at(value, self.id_field) if x is not None]
                if len(several) > 1:
                    raise ValueError(f"the id field {self.id_field!r} has {len(several)} values")
                if not several:
                    raise ValueError(f"the id field {self.id_field!r} is missing")
                (found,) = several
        else:
            found = next((value[name] for name in _ID_FIELDS if value.get(name) is not None), None)
            if found is None:
                return None
        if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
            raise ValueError(f"the id {_short(found)} is neither text nor a whole number")
        identifier = str(found)
        if len(identifier) > MAX_ID_BYTES // 4 and (
            len(identifier.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES
        ):
            raise ValueError(f"the id is longer than {MAX_ID_BYTES} bytes")
        return identifier

    def _texts_of(self, value: dict[str, Any]) -> tuple[list[str], int]:
        """The texts to encode, and which of the text fields held some."""
        texts: list[str] = []
        present = 0
        for i, name in enumerate(self.text_fields):
            part = value.get(name)
            found = ([part] if part else []) if isinstance(part, str) else texts_at(value, name)
            if found:
                texts += found
                present |= 1 << i
        if not (
            present
            or self.vectors
            or any(n in value or values_at(value, n) for n in self.text_fields)
        ):
            names = ", ".join(self.text_fields)
            there = what_is_there(value, self.text_fields)
            raise ValueError(f"none of the text fields {names} is there; {there}")
        return texts, present

    def _stored(self, value: dict[str, Any]) -> Mapping[str, Any]:
        if self.keep is not None:
            value = {name: value[name] for name in self.keep if name in value}
        # `_id` is the engine's own; inside a document it is refused
        left_out = {"_id", *self.drop, *((VECTOR_KEY,) if self.vectors else ())}
        rename = self.rename
        if not rename:
            return {name: x for name, x in value.items() if name not in left_out}
        names = [name for name in value if name not in left_out]
        stored = {rename.get(name, name): value[name] for name in names}
        if len(stored) < len(names):
            new = [rename.get(name, name) for name in names]
            twice = next(name for name in new if new.count(name) > 1)
            raise ValueError(
                f"two fields would be stored as {twice!r} (drop or rename the other one, too)"
            )
        return stored


def hash_of(value: dict[str, Any]) -> str:
    """An id for a record that has none: equal for equal records, whatever their order of fields.

    32 characters; two different ones never meet (128 bits).
    """
    return hashlib.blake2b(to_json(value, sort_keys=True), digest_size=16).hexdigest()


def parse_json(raw: bytes) -> Any:
    """The value of one JSON text.

    Raises:
        ValueError: saying that it is none, or that it has a key twice.
    """
    try:
        return parse_document(raw)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error}") from None


def _short(value: Any) -> str:
    """A value for a message, not endless."""
    text = to_json(value).decode()
    return text if len(text) <= 60 else f"{text[:60]}..."
