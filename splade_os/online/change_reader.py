"""What stands in a stream of changes → `Change`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from splade_os.ingest.documents.records import Item, RecordReader, Rejected
from splade_os.online.changes import Change, Delete, Update, Upsert

_KEYS = frozenset({"op", "id", "_id", "doc"})
_OPERATIONS = ("upsert", "update", "delete")
_ROWS = {"c": "after", "r": "after", "u": "after", "d": "before"}


@dataclass(frozen=True, slots=True)
class StreamedChange:
    """A change, and where it stood: ``position`` is its ordinal in the stream, from 1."""

    position: int
    item: Item
    change: Change

    def rejected(self, reason: str) -> Rejected:
        """The dead letter of one that could not be applied."""
        return Rejected(self.position, self.item.where, reason, self.item, self.change.id)


@dataclass(frozen=True)
class ChangeReader:
    """Makes changes of the items of a stream, each of which is one of

    - ``{"op": "upsert" | "update" | "delete", "id": "1", "doc": {...}}``: a deletion has no
      ``doc``; the id may stand in the document instead;
    - a document (an object without ``op``), to be written whole;
    - an event of Debezium: ``{"op": "c" | "r" | "u" | "d", "before": {...}, "after": {...}}``, also
      as the ``payload`` of an object.

    Attributes:
        records: how documents are read.
    """

    records: RecordReader

    def read(self, item: Item, position: int) -> StreamedChange | Rejected:
        """Check one item. One without an id is rejected: nothing could change it later."""
        identifier = None
        try:
            value = item.decode(item.raw) if item.decode else item.value
            operation, identifier, document = self._opened(value)
            if operation == "upsert":
                reader, value = self.records, document
                if identifier is not None:
                    reader = replace(reader, id_field=None)
                    value = {**{k: x for k, x in document.items() if k != "_id"}, "_id": identifier}
                found = reader.check(value, item, position)
                if isinstance(found, Rejected):
                    return found
                if found.hashed:
                    raise ValueError(self._nameless())
                return StreamedChange(position, item, Upsert(found))
            if identifier is None:
                identifier = self.records.id_of(dict(document))
            if identifier is None:
                raise ValueError(self._nameless())
            if operation == "delete":
                return StreamedChange(position, item, Delete(identifier))
            fields = {name: x for name, x in document.items() if name != "_id"}
            if not fields:
                raise ValueError("an update without a field: nothing would change")
            return StreamedChange(position, item, Update(identifier, fields))
        except (ValueError, RecursionError) as error:
            return Rejected(position, item.where, str(error), item, identifier)

    def _opened(self, value: Any) -> tuple[str, str | None, Mapping[str, Any]]:
        """Operation, id (if it stands outside of the document), document."""
        if not isinstance(value, dict):
            raise ValueError(f"not a JSON object but {type(value).__name__}")
        payload = value.get("payload")
        if isinstance(payload, dict) and "op" in payload:
            value = payload
        operation = value.get("op")
        if "op" not in value:
            return "upsert", None, value
        row = _ROWS.get(operation) if isinstance(operation, str) else None
        if row is not None and row in value:
            return "delete" if operation == "d" else "upsert", None, _object(value, row)
        if operation not in _OPERATIONS:
            raise ValueError(
                f"the operation {operation!r} is none of {', '.join(_OPERATIONS)}; a document with "
                "a field 'op' of its own goes into 'doc'"
            )
        other = [name for name in value if name not in _KEYS]
        if other:
            raise ValueError(
                f"a change has op, id and doc, and this one {other[0]!r}; the fields of its "
                "document go into 'doc'"
            )
        identifier = RecordReader().id_of(value)
        if operation == "delete":
            return operation, identifier, value.get("doc") or {}
        return operation, identifier, _object(value, "doc")

    def _nameless(self) -> str:
        return f"it has no id ({self.records.id_field or '_id, id; another field: --id FIELD'})"


def _object(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = value.get(name)
    if not isinstance(inner, dict):
        raise ValueError(f"{name!r} is no object but {type(inner).__name__}")
    return inner
