"""What a source yields: an `Item`; what becomes of it: a `Record`, or a `Rejected`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

DEFAULT_TEXT_FIELDS = ("title", "text")
VECTOR_KEY = "vector"
"""Field of pre-encoded documents, as Anserini's JsonVectorCollection has it."""
_MAX_ID_BYTES = 512  # limit of OpenSearch and Elasticsearch
_ID_FIELDS = ("_id", "id")
_MAX_RAW = 1_000_000  # characters of something damaged that its dead letter keeps


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
    """

    position: int
    where: str
    id: str
    text: str
    source: Mapping[str, Any]
    vector: Mapping[str, float] | None = None
    item: Item | None = None
    reader: RecordReader | None = None

    def original(self) -> Any:
        """What stood in the source; made from the record where nothing did."""
        if self.item is None:
            return {"_id": self.id, **self.source}
        return self.item.decode(self.item.raw) if self.item.decode else self.item.value


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something in a source that is no document: ``raw`` is what stood there."""

    position: int
    where: str
    reason: str
    raw: str
    id: str | None = None
    reader: RecordReader | None = None


@dataclass(frozen=True)
class RecordReader:
    """Makes records from the items of a source.

    Attributes:
        text_fields: fields to encode, in order; missing and null ones are skipped.
        id_field: field of the id; default ``_id``, else ``id``, else a hash of the text.
        join: what stands between two text fields.
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
        return tuple(self.rename.get(name, name) for name in self.text_fields)

    def read(self, item: Item, position: int) -> Record | Rejected:
        """Check one item of a source."""
        try:
            value = item.decode(item.raw) if item.decode else item.value
        except (ValueError, RecursionError) as error:
            return Rejected(position, item.where, str(error), text_of(item), None, self)
        return self.check(value, item, position)

    def check(self, value: Any, item: Item, position: int) -> Record | Rejected:
        """Check the value of an item."""

        def reject(reason: str, identifier: str | None = None) -> Rejected:
            return Rejected(position, item.where, reason, text_of(item), identifier, self)

        if not isinstance(value, dict):
            return reject(f"not a JSON object but {type(value).__name__}")
        parts = []
        for name in self.text_fields:
            part = value.get(name)
            if part is not None and not isinstance(part, str):
                return reject(f"field {name!r} is {type(part).__name__}, not text")
            if part:
                parts.append(part)
        vector = None
        if self.vectors:
            vector = value.get(VECTOR_KEY)
            if not isinstance(vector, dict):
                return reject(f"no object of token and weight in the field {VECTOR_KEY!r}")
        elif not any(name in value for name in self.text_fields):
            return reject(f"none of the text fields {', '.join(self.text_fields)} is there")
        text = self.join.join(parts)
        if self.id_field is not None and value.get(self.id_field) is None:
            return reject(f"the id field {self.id_field!r} is missing")
        names = (self.id_field,) if self.id_field is not None else _ID_FIELDS
        found = next((value[name] for name in names if value.get(name) is not None), None)
        if found is None:
            if vector is not None and not text:
                return reject("a vector without text needs an id")
            found = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
            return reject(f"the id {found!r} is neither text nor a whole number")
        identifier = str(found)
        if len(identifier) > _MAX_ID_BYTES // 4 and (
            len(identifier.encode("utf-8", "surrogatepass")) > _MAX_ID_BYTES
        ):
            return reject(f"the id is longer than {_MAX_ID_BYTES} bytes")
        return Record(
            position, item.where, identifier, text, self._stored(value), vector, item, self
        )

    def _stored(self, value: dict[str, Any]) -> Mapping[str, Any]:
        if self.keep is not None:
            value = {name: value[name] for name in self.keep if name in value}
        # `_id` is the engine's own; inside a document it is refused
        left_out = {"_id", *self.drop, *((VECTOR_KEY,) if self.vectors else ())}
        rename = self.rename
        return {rename.get(name, name): x for name, x in value.items() if name not in left_out}


def parse_json(raw: bytes) -> Any:
    """The value of one JSON text.

    Raises:
        ValueError: saying that it is none.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error}") from None


def text_of(item: Item) -> str:
    """What stood there, for people: as text, not endless."""
    if item.raw or item.value is None:
        return item.raw.decode("utf-8", "replace").rstrip("\r\n")[:_MAX_RAW]
    try:
        return orjson.dumps(item.value, default=str).decode()[:_MAX_RAW]
    except (TypeError, orjson.JSONEncodeError):
        return repr(item.value)[:_MAX_RAW]


def stored_text(document: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The text of a document as it is stored."""
    return " ".join(str(document[name]) for name in fields if document.get(name))
