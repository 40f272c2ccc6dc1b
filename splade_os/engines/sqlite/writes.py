"""The actions of a bulk request, on an index in an SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import orjson

from splade_os.engines.base import IndexMeta, Outcome
from splade_os.engines.sqlite.candidates import field_values
from splade_os.engines.sqlite.postings import Changes, buckets, pack
from splade_os.engines.sqlite.upkeep import version_of
from splade_os.errors import EngineError
from splade_os.text_fields import merged, stored_text

_OPERATIONS = frozenset({"index", "create", "update", "delete"})


class Writer:
    """Writes into one index; `finish` ends it, before the transaction does.

    Args:
        db: in a transaction.
        number, meta: of the index.
    """

    def __init__(self, db: sqlite3.Connection, number: int, meta: IndexMeta) -> None:
        self._db, self._number, self._meta = db, number, meta
        self._changes = Changes()
        pack(db, number)

    def finish(self) -> None:
        self._changes.write(self._db, self._number)
        # what is kept of an index's documents in memory is of one state of it
        self._db.execute("INSERT OR REPLACE INTO states VALUES (?, ?)", (self._number, uuid4().hex))

    def act(self, line: bytes, lines: Iterator[bytes]) -> Outcome:
        """One action: its line, and the next of ``lines`` where it has a document."""
        operation, identifier, version = _action(line)
        document = b"" if operation == "delete" else next(lines)
        row = self._db.execute(
            "SELECT number, source FROM documents WHERE in_index = ? AND id = ?",
            (self._number, identifier),
        ).fetchone()
        if version is not None and version != (row and version_of(row[1])):
            return _conflict(identifier, "the document has changed")
        if operation == "delete":
            return self._delete(identifier, row)
        if operation == "create" and row:
            return _conflict(identifier, "document already exists")
        if operation == "update":
            if row is None:
                reason = "document_missing_exception: document missing"
                return Outcome(identifier, 404, None, reason)
            try:
                # objects field by field, as the clusters do
                source = merged(orjson.loads(row[1]), orjson.loads(document)["doc"])
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                return Outcome(identifier, 400, None, f"mapper_parsing_exception: {error!r}")
            document = orjson.dumps(source)
        return self._index(identifier, document, row)

    def _index(self, identifier: str, line: bytes, row: tuple[int, Any] | None) -> Outcome:
        db, number, meta = self._db, self._number, self._meta
        try:
            source = orjson.loads(line)
            if not isinstance(source, dict):
                raise ValueError("a document is an object")
            vector = buckets(source.get(meta.field))
        except (orjson.JSONDecodeError, ValueError) as error:
            return Outcome(identifier, 400, reason=f"mapper_parsing_exception: {error}")
        if row is None:
            insert = "INSERT INTO documents (in_index, id, source) VALUES (?, ?, ?)"
            document = db.execute(insert, (number, identifier, line)).lastrowid
            assert document is not None
        else:
            document = row[0]
            self._forget(row)
            db.execute("UPDATE documents SET source = ? WHERE number = ?", (line, document))
        self._changes.put(document, vector)
        rest = {name: value for name, value in source.items() if name != meta.field}
        db.execute("INSERT INTO stored VALUES (?, ?)", (document, orjson.dumps(rest)))
        db.executemany(
            "INSERT INTO field_values VALUES (?, ?, ?, ?)",
            [(number, field, value, document) for field, value in self._values(rest)],
        )
        text = stored_text(source, meta.text_fields)
        db.execute(f"INSERT INTO content_{number} (rowid, content) VALUES (?, ?)", (document, text))
        return Outcome(identifier, 201 if row is None else 200, "updated" if row else "created")

    def _delete(self, identifier: str, row: tuple[int, Any] | None) -> Outcome:
        if row is None:
            return Outcome(identifier, 404, "not_found", "no such document")
        self._forget(row)
        self._db.execute("DELETE FROM documents WHERE number = ?", (row[0],))
        return Outcome(identifier, 200, "deleted")

    def _forget(self, row: tuple[int, Any]) -> None:
        """Take all that was derived from a document away."""
        document, source = row
        db, vector = self._db, orjson.loads(source).get(self._meta.field)
        self._changes.remove(document, vector if isinstance(vector, dict) else ())
        one = (document,)
        stored = db.execute("SELECT stored FROM stored WHERE document = ?", one).fetchone()
        if stored is not None:
            db.executemany(
                "DELETE FROM field_values "
                "WHERE in_index = ? AND field = ? AND value = ? AND document = ?",
                [(self._number, *v, document) for v in self._values(orjson.loads(stored[0]))],
            )
        db.execute("DELETE FROM stored WHERE document = ?", one)
        db.execute(f"DELETE FROM content_{self._number} WHERE rowid = ?", one)

    def _values(self, stored: Mapping[str, Any]) -> set[tuple[str, Any]]:
        return field_values(stored, (*self._meta.text_fields, self._meta.hash_field))


def _action(line: bytes) -> tuple[str, str, int | None]:
    """Operation, id, and version where one is named, of an action line of a bulk body.

    Raises:
        EngineError: it is none, as on the clusters of the whole request.
    """
    try:
        ((operation, action),) = orjson.loads(line).items()
        if operation in _OPERATIONS and isinstance(action["_id"], str):
            number = action.get("if_seq_no")
            return operation, action["_id"], None if number is None else int(number)
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    raise EngineError(
        "Malformed action/metadata line: an object with index, create, update or delete and its "
        "_id is expected.",
        status=400,
    )


def _conflict(identifier: str, what: str) -> Outcome:
    return Outcome(identifier, 409, None, f"version_conflict_engine_exception: {what}")
