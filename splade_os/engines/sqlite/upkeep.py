"""Reading documents, aliases and statistics of indices in an SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from hashlib import blake2b
from typing import Any

import numpy as np
import orjson

from splade_os.engines.base import (
    Identity,
    IndexLayout,
    IndexListing,
    IndexMeta,
    StatisticsVersion,
    StoredDocument,
)
from splade_os.engines.load_state import LoadState
from splade_os.engines.sqlite.connections import Connections
from splade_os.engines.sqlite.filters import compile_filter
from splade_os.errors import EngineError, IndexFormatError
from splade_os.statistics import BASE, Count, TermStatistics, base_of, summed
from splade_os.text_fields import selected

_MOST_VALUES = 500  # of one statement; SQLite's limit is 999 before 3.32


class SQLiteUpkeep:
    """Part of `SQLiteEngine`."""

    url: str
    _connections: Connections

    @property
    def _db(self) -> sqlite3.Connection:
        raise NotImplementedError

    def _name(self, number: int) -> str:
        raise NotImplementedError

    def _number(self, index: str) -> int:
        raise NotImplementedError

    def index_meta(self, index: str) -> IndexMeta:
        raise NotImplementedError

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        raise NotImplementedError

    def _translated(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def documents(
        self, index: str, ids: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, Mapping[str, Any]]:
        number = self._number(index)
        with self._translated():
            return {
                identifier: _fields(blob, fields)
                for _, identifier, blob in self._stored(number, ids)
            }

    def stored(
        self, index: str, ids: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, StoredDocument]:
        number = self._number(index)
        with self._translated():
            return {
                identifier: StoredDocument(_fields(blob, fields), (version_of(blob), 1))
                for _, identifier, blob in self._stored(number, ids)
            }

    def _stored(self, number: int, ids: Sequence[str]) -> Iterator[tuple[int, str, bytes]]:
        """Number, id and source of those documents that are there."""
        for start in range(0, len(ids), _MOST_VALUES):
            some = ids[start : start + _MOST_VALUES]
            # as values: json_each ends a text at a NUL
            marks = ",".join("?" * len(some))
            yield from self._db.execute(
                f"SELECT number, id, source FROM documents WHERE in_index = ? AND id IN ({marks})",
                (number, *some),
            )

    def scan(
        self,
        index: str,
        fields: Sequence[str] | None = None,
        *,
        page: int = 1000,
        filter: Sequence[Mapping[str, Any]] = (),
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        number = self._number(index)
        keep, ids = compile_filter(filter)
        handle = self._connections.snapshot()
        try:
            with self._translated():
                cursor = handle.connection.execute(
                    "SELECT id, source FROM documents WHERE in_index = ? ORDER BY number", (number,)
                )
            while True:
                with self._translated():
                    rows = cursor.fetchmany(page)
                if not rows:
                    return
                for identifier, blob in rows:
                    if ids is not None and identifier not in ids:
                        continue
                    if keep is None or keep(blob, identifier):
                        yield identifier, _fields(blob, fields)
        finally:
            handle.close()

    def settings(self, index: str) -> Mapping[str, Any]:
        self._number(index)
        return {}

    def update_settings(self, index: str, settings: Mapping[str, Any]) -> None:
        self._number(index)  # a file has nothing to set

    def properties(self, index: str) -> Mapping[str, str]:
        self._number(index)
        return {}  # a file maps nothing

    def adopt(self, index: str, meta: IndexMeta) -> None:
        raise EngineError("In an SQLite file every index is one of splade-os.")

    def check_writable(self, index: str, meta: IndexMeta) -> None:
        self._number(index)  # a file keeps what it is given

    def update_meta(self, index: str, meta: IndexMeta) -> None:
        number = self._number(index)
        with self._transaction() as db:
            record = orjson.dumps(meta.record()).decode()
            db.execute("UPDATE indices SET meta = ? WHERE number = ?", (record, number))

    def load_state(self, index: str) -> LoadState | None:
        number = self._number(index)
        with self._translated():
            known = self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'load_states'")
            row = (
                known.fetchone()
                and self._db.execute(  # not in old files that are only read
                    "SELECT state FROM load_states WHERE in_index = ?", (number,)
                ).fetchone()
            )
        return None if row is None else LoadState.model_validate_json(row[0])

    def save_load_state(self, index: str, state: LoadState) -> None:
        number = self._number(index)
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO load_states VALUES (?, ?)",
                (number, state.model_dump_json()),
            )

    def layout(self, index: str) -> IndexLayout:
        raise self._no_mappings()

    def _no_mappings(self) -> EngineError:
        return EngineError(
            f"{self.url} has no mappings: SQLite takes documents as they are.",
            hint="--like and --mapping are for OpenSearch and Elasticsearch.",
        )

    def indices(self, pattern: str) -> list[str]:
        with self._translated():
            rows = self._db.execute(
                "SELECT name FROM indices WHERE name GLOB ? ORDER BY name", (pattern,)
            ).fetchall()
        return [name for (name,) in rows]

    def overview(self) -> list[IndexListing]:
        found = []
        with self._translated():
            rows = self._db.execute(
                "SELECT a.name, i.name FROM aliases a JOIN indices i ON i.number = a.in_index"
            ).fetchall()
        for name in self.indices("*"):
            try:
                meta: IndexMeta | None = self.index_meta(name)
            except IndexFormatError:
                meta = None
            aliases = tuple(sorted(alias for alias, index in rows if index == name))
            found.append(IndexListing(name, aliases, meta))
        return found

    def alias_targets(self, alias: str) -> list[str]:
        with self._translated():
            rows = self._db.execute(
                "SELECT i.name FROM aliases a JOIN indices i ON i.number = a.in_index "
                "WHERE a.name = ?",
                (alias,),
            ).fetchall()
        return [name for (name,) in rows]

    def identity(self, index: str) -> Identity:
        number = self._number(index)
        with self._translated():  # files of before know no uuids
            row = self._db.execute(
                "SELECT uuid FROM uuids WHERE in_index = ?", (number,)
            ).fetchone()
        return frozenset({(self._name(number), row[0] if row else str(number))})

    def guard(self, index: str) -> str:
        ((_, uuid),) = self.identity(index)
        return uuid

    def remove_alias(self, alias: str, index: str) -> None:
        number = self._number(index)
        with self._transaction() as db:
            db.execute("DELETE FROM aliases WHERE name = ? AND in_index = ?", (alias, number))

    def point_alias(self, alias: str, index: str) -> None:
        number = self._number(index)
        if self.indices(alias):
            raise EngineError(f"{alias} is an index, so it cannot be an alias.", status=400)
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?)", (alias, number))

    def counts(self, index: str) -> list[Count]:
        number = self._number(index)
        with self._translated():
            rows = self._db.execute("SELECT record FROM counts WHERE in_index = ?", (number,))
            found = [Count.unpacked(orjson.loads(record)) for (record,) in rows]
            before = self._db.execute(
                "SELECT documents, tokens, frequencies FROM statistics WHERE in_index = ?",
                (number,),
            ).fetchone()
        if not found and before is not None:  # of a file of before
            frequencies = np.frombuffer(before[2], "<i8").astype(np.int64)
            found = [Count(BASE, TermStatistics(before[0], before[1], frequencies))]
        return found

    def save_count(self, index: str, count: Count) -> None:
        number = self._number(index)
        with self._transaction() as db:
            _save_count(db, number, count)

    def save_base(self, index: str, base: Count) -> None:
        number = self._number(index)
        with self._transaction() as db:
            _save_count(db, number, base)
            covered = [(number, run) for run in base.covers]
            db.executemany("DELETE FROM counts WHERE in_index = ? AND run = ?", covered)

    def save_statistics(self, index: str, statistics: TermStatistics) -> None:
        self.save_base(index, base_of(statistics, self.counts(index)))

    def load_statistics(
        self, index: str, identity: Identity = frozenset()
    ) -> TermStatistics | None:
        del identity  # a file is near
        return summed([self.counts(index)])

    def statistics_version(self, index: str, identity: Identity = frozenset()) -> StatisticsVersion:
        del identity
        number = self._number(index)
        with self._translated():
            rows = self._db.execute("SELECT run, record FROM counts WHERE in_index = ?", (number,))
            return frozenset((run, version_of(record), 0) for run, record in rows)


def _save_count(db: sqlite3.Connection, number: int, count: Count) -> None:
    record = orjson.dumps(count.packed())
    db.execute("INSERT OR REPLACE INTO counts VALUES (?, ?, ?)", (number, count.run, record))


def _fields(blob: bytes, names: Sequence[str] | None) -> Mapping[str, Any]:
    source: dict[str, Any] = orjson.loads(blob)
    return source if names is None else selected(source, names)


def version_of(source: bytes | str) -> int:
    """A number that another content does not have: in place of a sequence number."""
    data = source.encode() if isinstance(source, str) else source
    return int.from_bytes(blake2b(data, digest_size=7).digest())
