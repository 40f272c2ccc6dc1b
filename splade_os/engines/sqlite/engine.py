"""SQLite as an engine: one file, the standard library alone.

For notebooks, tests and machines without Java or Docker. A postings table with weights
truncated as Lucene's FeatureField does, the dot product in SQL, FTS5 for BM25. Scores equal
those of a cluster; it takes the same bulk bodies and refuses the same documents.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, NoReturn
from uuid import uuid4

import numpy as np
import orjson
from pydantic import ValidationError

from splade_os.engines.base import (
    Cursor,
    EngineHit,
    EngineInfo,
    HybridQuery,
    IdsQuery,
    IndexMeta,
    IndexStats,
    MatchQuery,
    Outcome,
    SearchRequest,
    SearchResponse,
    TermsQuery,
    TextQuery,
)
from splade_os.engines.rest.bodies import checked
from splade_os.engines.sqlite.filters import compile_filter
from splade_os.engines.sqlite.upkeep import SQLiteUpkeep
from splade_os.errors import (
    DeploymentError,
    EngineError,
    EngineUnavailableError,
    IndexExistsError,
    IndexFormatError,
    IndexNotFoundError,
)
from splade_os.features import MIN_WEIGHT, truncate
from splade_os.settings import private_file
from splade_os.text_fields import selected, stored_text
from splade_os.vocabulary import FEATURE_NAMING

_SCHEMA = """
CREATE TABLE IF NOT EXISTS indices (
    number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, meta TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS documents (
    number INTEGER PRIMARY KEY, in_index INTEGER NOT NULL, id TEXT NOT NULL,
    source BLOB NOT NULL, UNIQUE (in_index, id));
CREATE TABLE IF NOT EXISTS postings (
    in_index INTEGER, feature TEXT, document INTEGER, weight REAL NOT NULL,
    PRIMARY KEY (in_index, feature, document)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS postings_of_document ON postings (document);
CREATE TABLE IF NOT EXISTS statistics (
    in_index INTEGER PRIMARY KEY, documents INTEGER, tokens INTEGER, frequencies BLOB);
CREATE TABLE IF NOT EXISTS uuids (in_index INTEGER PRIMARY KEY, uuid TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tickets (in_index INTEGER, ticket TEXT, UNIQUE (in_index, ticket));
CREATE TABLE IF NOT EXISTS aliases (name TEXT PRIMARY KEY, in_index INTEGER NOT NULL);
"""
_MARK = "\u241f"
_INHERITED: list[sqlite3.Connection] = []  # from parent processes


class SQLiteEngine(SQLiteUpkeep):
    """Indices in one SQLite file, which is made if it is missing.

    Args:
        path: the file.

    Raises:
        EngineUnavailableError: it cannot be opened, or is no database.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.url = f"sqlite:///{self.path}"
        self._given: Sequence[str] = ()
        self._open()

    def _open(self) -> None:
        self._process, self._own_lock = os.getpid(), RLock()
        try:
            private_file(self.path)
            self._connection = sqlite3.connect(self.path, timeout=30, check_same_thread=False)
            self._connection.isolation_level = None  # transactions are ours
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_SCHEMA)
            # texts for a query: JSON would lose what stands behind U+0000
            self._connection.create_function("given", 1, lambda i: self._given[i])
        except (sqlite3.Error, OSError) as error:
            raise EngineUnavailableError(
                f"The file {self.path} cannot be opened as a database: {error}.",
                hint="Name a file that splade-os may write: --url sqlite:///FILE.",
            ) from error

    @property
    def _lock(self) -> RLock:
        self._reopen_in_child()
        return self._own_lock

    @property
    def _db(self) -> sqlite3.Connection:
        self._reopen_in_child()
        return self._connection

    def _reopen_in_child(self) -> None:
        """SQLite forbids to use a connection in a forked process, even to close it."""
        if os.getpid() != self._process:
            _INHERITED.append(self._connection)
            self._open()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise EngineError(f"{self.url}: {error}.") from error

    def _number(self, index: str) -> int:
        with self._lock, self._translated():
            row = self._db.execute(
                "SELECT number FROM indices WHERE name = ?1 "
                "UNION SELECT in_index FROM aliases WHERE name = ?1",
                (index,),
            ).fetchone()
        if row is None:
            raise IndexNotFoundError(
                f"There is no index {index} at {self.url}.",
                hint="Make it with: splade-os ingest SOURCE --index NAME.",
            )
        return int(row[0])

    def _name(self, number: int) -> str:
        with self._lock, self._translated():
            (name,) = self._db.execute(
                "SELECT name FROM indices WHERE number = ?", (number,)
            ).fetchone()
        return str(name)

    def info(self) -> EngineInfo:
        return EngineInfo("sqlite", sqlite3.sqlite_version)

    def create_index(
        self, index: str, meta: IndexMeta, settings: Mapping[str, Any] | None = None
    ) -> None:
        del settings  # of a cluster
        with self._transaction() as db:
            try:
                cursor = db.execute(
                    "INSERT INTO indices (name, meta) VALUES (?, ?)",
                    (index, meta.model_dump_json()),
                )
            except sqlite3.IntegrityError:
                raise IndexExistsError(f"The index {index} exists already.") from None
            db.execute("INSERT INTO uuids VALUES (?, ?)", (cursor.lastrowid, uuid4().hex))
            db.execute(
                f"CREATE VIRTUAL TABLE content_{cursor.lastrowid} "
                "USING fts5 (content, tokenize = 'porter unicode61')"
            )

    def delete_index(self, index: str) -> None:
        number = self._number(index)
        with self._transaction() as db:
            db.execute(f"DROP TABLE content_{number}")
            for table in ("postings", "documents", "statistics", "uuids", "tickets", "aliases"):
                db.execute(f"DELETE FROM {table} WHERE in_index = ?", (number,))
            db.execute("DELETE FROM indices WHERE number = ?", (number,))

    def index_meta(self, index: str) -> IndexMeta:
        number = self._number(index)
        with self._lock, self._translated():
            (text,) = self._db.execute(
                "SELECT meta FROM indices WHERE number = ?", (number,)
            ).fetchone()
        try:
            return IndexMeta.read(orjson.loads(text))
        except (ValidationError, orjson.JSONDecodeError) as error:
            raise IndexFormatError(f"The record of the index {index} is damaged: {error}") from None

    def stats(self, index: str) -> IndexStats:
        return IndexStats(self.count(index), self.path.stat().st_size)

    def bulk(self, index: str, body: bytes, *, attempts: int = 5) -> list[Outcome]:
        del attempts  # a file is there or it is not
        number, meta = self._number(index), self.index_meta(index)
        lines = iter(body.splitlines())
        outcomes = []
        with self._transaction() as db:
            for line in lines:
                (operation, action), *_ = orjson.loads(line).items()
                identifier = action["_id"]
                if operation == "delete":
                    outcomes.append(_delete(db, number, identifier))
                elif operation == "create" and _exists(db, number, identifier):
                    next(lines)
                    reason = "version_conflict_engine_exception: document already exists"
                    outcomes.append(Outcome(identifier, 409, None, reason))
                else:
                    outcomes.append(_index(db, number, identifier, next(lines), meta))
        return outcomes

    def refresh(self, index: str) -> None:
        self._number(index)  # what is committed is searchable

    def count(self, index: str) -> int:
        number = self._number(index)
        with self._lock, self._translated():
            (count,) = self._db.execute(
                "SELECT count(*) FROM documents WHERE in_index = ?", (number,)
            ).fetchone()
        return int(count)

    def field_types(self) -> Sequence[str]:
        return ("rank_features",)

    def feature_naming(self, field_type: str) -> str:
        if field_type not in self.field_types():
            raise EngineError(
                f"SQLite has no field of the type {field_type!r}.",
                hint="It has: rank_features. Choose with --field-type.",
            )
        return FEATURE_NAMING

    def query_pipeline(self, index: str) -> NoReturn:
        raise DeploymentError(
            "SQLite encodes no queries itself.", hint="Let the client encode them: mode idf."
        )

    def search(self, index: str, request: SearchRequest) -> SearchResponse:
        start = time.perf_counter()
        number, meta = self._number(index), self.index_meta(index)
        if isinstance(request.query, HybridQuery):
            raise EngineError("SQLite has no hybrid query.", hint="Leave the fusion to the client.")
        if isinstance(request.query, TextQuery):
            self.query_pipeline(index)
        with self._lock, self._translated():
            conditions, values = self._conditions(request)
            if isinstance(request.query, IdsQuery):
                rows = self._by_ids(number, request.query)
            elif isinstance(request.query, MatchQuery):
                rows = self._match(number, request, conditions, values)
            else:
                rows = self._dot_product(number, request, conditions, values)
        name = self._name(number)
        hits = [_hit(row, request, meta, name) for row in rows]
        following = None
        if request.after is not None and len(rows) == request.k:
            following = Cursor(after=(rows[-1][1], rows[-1][4]))
        total = (rows[0][5] if rows else 0) if request.total else None
        took = (time.perf_counter() - start) * 1000
        return SearchResponse(
            hits, took, total=total, following=following, index=name if hits else None
        )

    def search_many(
        self, index: str, requests: Sequence[SearchRequest]
    ) -> list[SearchResponse | EngineError]:
        results: list[SearchResponse | EngineError] = []
        for request in requests:
            try:
                results.append(self.search(index, request))
            except EngineError as error:
                results.append(error)
        return results

    def render(self, index: str, request: SearchRequest) -> bytes | None:
        """SQL, not JSON: there is no body."""

    def close_cursor(self, cursor: Cursor) -> None:
        """Nothing is held."""

    def _conditions(self, request: SearchRequest) -> tuple[str, dict[str, Any]]:
        """SQL over ``score``, ``document`` and the columns of documents."""
        parts = ["1"]
        values: dict[str, Any] = {"limit": request.k, "offset": request.offset}
        if request.filter:
            keep = compile_filter(request.filter)
            self._db.create_function("keep", 2, keep)
            parts.append("(SELECT keep(o.source, o.id) FROM documents o WHERE o.number = document)")
        if request.min_score is not None:
            parts.append("score >= :least")
            values["least"] = request.min_score
        if request.after is not None and request.after.after:
            parts.append("(score < :score OR (score = :score AND document > :document))")
            values["score"], values["document"] = request.after.after
        return " AND ".join(parts), values

    def _dot_product(
        self, number: int, request: SearchRequest, conditions: str, values: dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        assert isinstance(request.query, TermsQuery)
        self._given, weights = checked(request.query)
        # One look-up per feature in the clustered postings; ties in the order of insertion.
        terms = orjson.dumps(weights.tolist()).decode()
        return self._db.execute(
            "WITH terms AS (SELECT given(key) AS feature, value AS weight FROM json_each(:terms)), "
            "sums AS (SELECT document, sum(p.weight * t.weight) AS score FROM terms t "
            "         CROSS JOIN postings p ON p.in_index = :number AND p.feature = t.feature "
            "         GROUP BY document), "
            f"scores AS (SELECT document, score, count(*) OVER () AS total FROM sums "
            f"           WHERE {conditions} "
            "           ORDER BY score DESC, document LIMIT :limit OFFSET :offset) "
            "SELECT d.id, s.score, d.source, '', d.number, s.total FROM scores s "
            "JOIN documents d ON d.number = s.document ORDER BY s.score DESC, d.number",
            {"terms": terms, "number": number, **values},
        ).fetchall()

    def _by_ids(self, number: int, query: IdsQuery) -> list[tuple[Any, ...]]:
        found = {row[1]: row for row in self._stored(number, query.ids)}
        rows = [found[identifier] for identifier in query.ids if identifier in found]
        return [(identifier, 1.0, source, "", n) for n, identifier, source in rows]

    def _match(
        self, number: int, request: SearchRequest, conditions: str, values: dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        assert isinstance(request.query, MatchQuery)
        words = "".join(c if c.isalnum() else " " for c in request.query.text).split()
        if not words:
            return []
        table = f"content_{number}"
        expression = " OR ".join(f'"{word}"' for word in words)
        return self._db.execute(
            "WITH found AS (SELECT rowid AS document, -rank AS score, "
            f"                    highlight({table}, 0, :mark, :mark) AS marked "
            f"             FROM {table} WHERE {table} MATCH :words), "
            "scores AS (SELECT *, count(*) OVER () AS total FROM found "
            f"           WHERE {conditions} "
            "           ORDER BY score DESC, document LIMIT :limit OFFSET :offset) "
            "SELECT d.id, s.score, d.source, s.marked, d.number, s.total FROM scores s "
            "JOIN documents d ON d.number = s.document ORDER BY s.score DESC, d.number",
            {"mark": _MARK, "words": expression, **values},
        ).fetchall()

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _index(
    db: sqlite3.Connection, number: int, identifier: str, line: bytes, meta: IndexMeta
) -> Outcome:
    try:
        source = orjson.loads(line)
        postings = _postings(source.get(meta.field))
    except (orjson.JSONDecodeError, ValueError) as error:
        return Outcome(identifier, 400, reason=f"mapper_parsing_exception: {error}")
    existed = _delete(db, number, identifier).ok
    document = db.execute(
        "INSERT INTO documents (in_index, id, source) VALUES (?, ?, ?)",
        (number, identifier, line),
    ).lastrowid
    db.executemany(
        "INSERT INTO postings VALUES (?, ?, ?, ?)",
        [(number, feature, document, weight) for feature, weight in postings],
    )
    text = stored_text(source, meta.text_fields)
    db.execute(f"INSERT INTO content_{number} (rowid, content) VALUES (?, ?)", (document, text))
    return Outcome(identifier, 200 if existed else 201, "updated" if existed else "created")


def _exists(db: sqlite3.Connection, number: int, identifier: str) -> tuple[int] | None:
    """The number of a document in a 1-tuple, if it exists."""
    row: tuple[int] | None = db.execute(
        "SELECT number FROM documents WHERE in_index = ? AND id = ?", (number, identifier)
    ).fetchone()
    return row


def _delete(db: sqlite3.Connection, number: int, identifier: str) -> Outcome:
    row = _exists(db, number, identifier)
    if row is None:
        return Outcome(identifier, 404, "not_found", "no such document")
    db.execute("DELETE FROM postings WHERE document = ?", row)
    db.execute(f"DELETE FROM content_{number} WHERE rowid = ?", row)
    db.execute("DELETE FROM documents WHERE number = ?", row)
    return Outcome(identifier, 200, "deleted")


def _postings(vector: Any) -> list[tuple[str, float]]:
    """What FeatureField would store; refuses what it refuses."""
    if vector is None:
        return []
    if not isinstance(vector, dict):
        raise ValueError("[rank_features] fields must be json objects")
    for feature, weight in vector.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise ValueError(f"the weight of feature {feature!r} is no number")
        if not weight >= MIN_WEIGHT:
            raise ValueError(f"featureValue must be a positive normal float, got {weight}")
    weights = truncate(np.array(list(vector.values()), np.float32))
    return list(zip(vector, weights.tolist(), strict=True))


def _hit(row: tuple[Any, ...], request: SearchRequest, meta: IndexMeta, index: str) -> EngineHit:
    identifier, score, blob, marked, *_ = row
    source = orjson.loads(blob)
    vector = source.pop(meta.field, {})
    source.pop(meta.hash_field, None)
    if request.source is not None:
        source = selected(source, request.source)
    words = marked.split(_MARK)[1::2] if request.highlight else []
    return EngineHit(
        identifier,
        float(score),
        source,
        vector if request.with_vector else None,
        tuple(dict.fromkeys(word.lower() for word in words)),
        index,
    )
