"""What a source yields: a `Record`, or a `Rejected` that says why it is none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DEFAULT_TEXT_FIELDS = ("title", "text")
_MAX_ID_BYTES = 512  # limit of OpenSearch and Elasticsearch
_ID_FIELDS = ("_id", "id")
_JOIN = " "


@dataclass(frozen=True)
class Record:
    """A document to be indexed.

    Attributes:
        position: line or ordinal in the source, from 1.
        where: for people, ``corpus.jsonl:17``.
        id: document id.
        text: what is encoded: the text fields, joined by a blank.
        source: the document as it is stored.
    """

    position: int
    where: str
    id: str
    text: str
    source: Mapping[str, Any]


@dataclass(frozen=True)
class Rejected:
    """Something in a source that is no document: ``raw`` is what stood there."""

    position: int
    where: str
    reason: str
    raw: str
    id: str | None = None


@dataclass(frozen=True)
class RecordReader:
    """Makes records from JSON objects.

    Attributes:
        text_fields: fields to encode, in order; missing and null ones are skipped.
        id_field: field of the id; default ``_id``, else ``id``, else a hash of the text.
    """

    text_fields: Sequence[str] = DEFAULT_TEXT_FIELDS
    id_field: str | None = None

    def read(self, value: Any, position: int, where: str, raw: str) -> Record | Rejected:
        """Check one value of a source."""

        def reject(reason: str, identifier: str | None = None) -> Rejected:
            return Rejected(position, where, reason, raw, identifier)

        if not isinstance(value, dict):
            return reject(f"not a JSON object but {type(value).__name__}")
        parts = []
        for name in self.text_fields:
            part = value.get(name)
            if part is not None and not isinstance(part, str):
                return reject(f"field {name!r} is {type(part).__name__}, not text")
            if part:
                parts.append(part)
        if not any(name in value for name in self.text_fields):
            return reject(f"none of the text fields {', '.join(self.text_fields)} is there")
        text = _JOIN.join(parts)
        if self.id_field is not None and value.get(self.id_field) is None:
            return reject(f"the id field {self.id_field!r} is missing")
        names = (self.id_field,) if self.id_field is not None else _ID_FIELDS
        found = next((value[name] for name in names if value.get(name) is not None), None)
        if found is None:
            found = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
            return reject(f"the id {found!r} is neither text nor a whole number")
        identifier = str(found)
        if len(identifier.encode("utf-8", "surrogatepass")) > _MAX_ID_BYTES:
            return reject(f"the id is longer than {_MAX_ID_BYTES} bytes")
        # `_id` is the engine's own; inside a document it is refused
        source = {name: field for name, field in value.items() if name != "_id"}
        return Record(position, where, identifier, text, source)
