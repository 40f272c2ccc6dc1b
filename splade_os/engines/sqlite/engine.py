"""SQLite as an engine: one file, the standard library alone.

For notebooks, tests and machines without Java or Docker. A postings table with weights
truncated as Lucene's FeatureField does, the dot product in SQL, FTS5 for BM25. Scores equal
those of a cluster; it takes the same bulk bodies and refuses the same documents.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
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
    Identity,
    IdsQuery,
    IndexMeta,
    IndexStats,
    MatchQuery,
    Outcome,
    SearchRequest,
    SearchResponse,
    SumQuery,
    TermsQuery,
    TextQuery,
)
from splade_os.engines.fields.stored import scored_vector
from splade_os.engines.rest.bodies import checked
from splade_os.engines.sqlite.candidates import candidates, field_values
from splade_os.engines.sqlite.connections import Connections
from splade_os.engines.sqlite.filters import compile_filter
from splade_os.engines.sqlite.upkeep import SQLiteUpkeep, version_of
from splade_os.errors import (
    DeploymentError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    IndexExistsError,
    IndexFormatError,
    IndexNotFoundError,
)
from splade_os.features import MIN_WEIGHT, truncate
from splade_os.text_fields import merged, selected, stored_text
from splade_os.vocabulary import FEATURE_NAMING

_OPERATIONS = frozenset({"index", "create", "update", "delete"})
_MARK = "\u241f"
_WINDOW = 2000  # of the best, which a filter looks at before all others
_FEW = 2000  # documents that are looked up one by one
_SHARE = 25  # where more than one document in that many can pass, enough of the best do
_STEPS = 10_000  # of SQLite's machine between two looks at the clock
_MAX_WEIGHT = float(np.finfo(np.float32).max)


class SQLiteEngine(SQLiteUpkeep):
    """Indices in one SQLite file, which is made when something is first written.

    Each thread has a connection of its own: searches run beside each other, and beside a writer.
    A file that may only be read can be searched.

    Args:
        path: the file.

    Raises:
        EngineUnavailableError: it cannot be opened, or is no database.
    """

    own_body = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.url = f"sqlite:///{self.path}"
        self._connections = Connections(self.path)

    @property
    def _db(self) -> sqlite3.Connection:
        return self._connections.of_thread()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._translated():
            db = self._connections.of_thread(write=True)
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise EngineError(f"{self.url}: {error}.") from error

    @contextmanager
    def _within(self, seconds: float | None, index: str) -> Iterator[None]:
        """Ends what this thread asks of the file after that time."""
        if seconds is None:
            yield
            return
        db, end = self._db, time.monotonic() + seconds
        db.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        try:
            yield
        except sqlite3.OperationalError as error:
            if "interrupted" not in str(error):
                raise
            raise EngineTimeoutError(
                f"The search of {index} did not end in the time that it was given.",
                hint="Give it more (timeout=, --search-timeout), or make it cheaper: fewer terms.",
            ) from None
        finally:
            db.set_progress_handler(None, 0)

    def _number(self, index: str) -> int:
        with self._translated():
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
        with self._translated():
            (name,) = self._db.execute(
                "SELECT name FROM indices WHERE number = ?", (number,)
            ).fetchone()
        return str(name)

    def info(self) -> EngineInfo:
        return EngineInfo("sqlite", sqlite3.sqlite_version)

    def ping(self) -> bool:
        try:
            self._db.execute("SELECT 1 FROM indices")
        except (sqlite3.Error, EngineUnavailableError):
            return False
        return True

    def create_index(
        self,
        index: str,
        meta: IndexMeta,
        settings: Mapping[str, Any] | None = None,
        mapping: Mapping[str, Any] | None = None,
    ) -> None:
        if mapping is not None:
            raise self._no_mappings()
        del settings  # of a cluster
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM aliases WHERE name = ?", (index,)).fetchone():
                raise IndexExistsError(f"{index} is an alias, so no index can have that name.")
            try:
                cursor = db.execute(
                    "INSERT INTO indices (name, meta) VALUES (?, ?)",
                    (index, orjson.dumps(meta.record()).decode()),
                )
            except sqlite3.IntegrityError:
                raise IndexExistsError(f"The index {index} exists already.") from None
            db.execute("INSERT INTO uuids VALUES (?, ?)", (cursor.lastrowid, uuid4().hex))
            db.execute("INSERT INTO with_field_values VALUES (?)", (cursor.lastrowid,))
            db.execute(
                f"CREATE VIRTUAL TABLE content_{cursor.lastrowid} "
                "USING fts5 (content, tokenize = 'porter unicode61')"
            )

    def delete_index(self, index: str) -> None:
        number = self._number(index)
        with self._transaction() as db:
            db.execute(f"DROP TABLE content_{number}")
            db.execute(
                "DELETE FROM stored WHERE document IN "
                "(SELECT number FROM documents WHERE in_index = ?)",
                (number,),
            )
            for table in (
                "postings", "documents", "statistics", "counts", "uuids", "load_states", "aliases",
                "field_values", "with_field_values",
            ):  # fmt: skip
                db.execute(f"DELETE FROM {table} WHERE in_index = ?", (number,))
            db.execute("DELETE FROM indices WHERE number = ?", (number,))

    def index_meta(self, index: str) -> IndexMeta:
        number = self._number(index)
        with self._translated():
            (text,) = self._db.execute(
                "SELECT meta FROM indices WHERE number = ?", (number,)
            ).fetchone()
        try:
            return IndexMeta.read(orjson.loads(text))
        except (ValidationError, orjson.JSONDecodeError) as error:
            raise IndexFormatError(f"The record of the index {index} is damaged: {error}") from None

    def describe(self, index: str) -> tuple[IndexMeta, Identity]:
        return self.index_meta(index), self.identity(index)

    def stats(self, index: str) -> IndexStats:
        return IndexStats(self.count(index), self.path.stat().st_size)

    def bulk(
        self, index: str, body: bytes, *, attempts: int = 5, guard: str | None = None
    ) -> list[Outcome]:
        del attempts  # a file is there or it is not
        meta, lines = self.index_meta(index), iter(body.splitlines())
        outcomes = []
        with self._transaction() as db:
            number = self._number(index)
            if guard not in (None, self.guard(index)):
                raise IndexNotFoundError(f"{index} at {self.url} is not the index that it was.")
            for line in lines:
                operation, identifier, version = _action(line)
                document = b"" if operation == "delete" else next(lines)
                there = _exists(db, number, identifier)
                if version is not None and version != _version(db, there):
                    outcomes.append(_conflict(identifier, "the document has changed"))
                elif operation == "delete":
                    outcomes.append(_delete(db, number, identifier, meta))
                elif operation == "create" and there:
                    outcomes.append(_conflict(identifier, "document already exists"))
                elif operation == "update":
                    outcomes.append(_update(db, number, identifier, document, meta))
                else:
                    outcomes.append(_index(db, number, identifier, document, meta))
        return outcomes

    def refresh(self, index: str) -> None:
        self._number(index)  # what is committed is searchable

    def count(self, index: str) -> int:
        number = self._number(index)
        with self._translated():
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
        with self._translated(), self._within(request.timeout, index):
            if isinstance(request.query, IdsQuery):
                rows, total = self._by_ids(number, request), None
            else:
                rows, total = self._ranked(number, request, meta)
        name = self._name(number)
        hits = [_hit(row, request, meta, name) for row in rows]
        following = None
        if request.after is not None and len(rows) == request.k:
            following = Cursor(after=(rows[-1].score, rows[-1].document))
        took = (time.perf_counter() - start) * 1000
        return SearchResponse(
            hits,
            took,
            total=total,
            following=following,
            index=name if hits else None,
            window=request.phases.window if request.phases else None,
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

    def _by_ids(self, number: int, request: SearchRequest) -> list[_Row]:
        assert isinstance(request.query, IdsQuery)
        found = {row[1]: row for row in self._stored(number, request.query.ids)}
        rows = [found[identifier] for identifier in request.query.ids if identifier in found]
        return [_Row(n, 1.0, identifier, source) for n, identifier, source in rows]

    def _ranked(
        self, number: int, request: SearchRequest, meta: IndexMeta
    ) -> tuple[list[_Row], int | None]:
        """The hits, and how many there are where that is asked for.

        A filter is asked of the best documents until enough of them have passed, and of their
        stored fields without the vector; where few can pass, of those alone.
        """
        keep, ids = compile_filter(request.filter) if request.filter else (None, None)
        among = self._among(number, request, meta, ids)
        scores, values = self._scores(number, request.query, among)
        if scores is None:
            return [], 0 if request.total else None
        conditions = ["1"]
        if request.min_score is not None:
            conditions.append("score >= :least")
            values["least"] = request.min_score
        if request.after is not None and request.after.after:
            conditions.append("(score < :score OR (score = :score AND document > :document))")
            values["score"], values["document"] = request.after.after
        if among is not None:
            # the + keeps SQLite from asking FTS5 once for each of them
            conditions.append("+document IN (SELECT value FROM json_each(:some))")
            values["some"] = orjson.dumps(among).decode()
        limited = keep is None
        every = "count(*) OVER ()" if request.total and limited else "0"
        values["limit"], values["offset"] = request.k, request.offset
        limit = "LIMIT :limit OFFSET :offset" if limited else "LIMIT :window"
        sql = (
            f"WITH scores AS ({scores}), "
            f"best AS MATERIALIZED (SELECT document, score, {every} AS total FROM scores "
            f"         WHERE {' AND '.join(conditions)} ORDER BY score DESC, document {limit}) "
            "SELECT b.document, b.score, d.id, coalesce((SELECT stored FROM stored "
            "       WHERE document = b.document), d.source), b.total FROM best b "
            "CROSS JOIN documents d ON d.number = b.document"
        )
        # Nearly always the hits are among the first, and to sort only those is much cheaper.
        windows = (-1,) if limited or request.total else (_WINDOW, -1)
        for window in windows:
            rows: list[_Row] = []
            seen = passed = found = 0
            first = 0 if limited else request.offset
            cursor = self._db.execute(sql, {**values, "window": window})
            for document, score, identifier, source, total in cursor:
                seen += 1
                if keep is not None and not keep(source, identifier):
                    continue
                passed += 1
                if first < passed and len(rows) < request.k:
                    rows.append(_Row(document, score, identifier, source))
                found = total if limited else passed
                if len(rows) == request.k and not limited and not request.total:
                    break
            cursor.close()
            if len(rows) == request.k or seen < window:
                break
        if request.total and limited and request.offset and not rows:  # behind the last one
            return [], self._ranked(number, replace(request, offset=0, k=1), meta)[1]
        if request.with_vector:
            rows = [replace(row, source=self._source(row.document)) for row in rows]
        if request.highlight and "words" in values:
            rows = [
                replace(row, marked=self._marked(number, row.document, values["words"]))
                for row in rows
            ]
        return rows, found if request.total else None

    def _among(
        self, number: int, request: SearchRequest, meta: IndexMeta, ids: set[str] | None
    ) -> list[int] | None:
        """The documents that alone can pass the filter; ``None`` = many, or nobody knows."""
        few: set[int] | None = None
        if ids is not None:
            few = {n for n, _, _ in self._stored(number, sorted(ids))}
        rest = [clause for clause in request.filter if "ids" not in clause]
        found = candidates(rest, number, (*meta.text_fields, meta.hash_field)) if rest else None
        known = "SELECT 1 FROM with_field_values WHERE in_index = ?"
        if found is not None and self._db.execute(known, (number,)).fetchone():
            sql, values = found
            (last,) = self._db.execute("SELECT max(number) FROM documents").fetchone()
            most = max(_FEW, (last or 0) // _SHARE)
            rows = self._db.execute(f"{sql} LIMIT ?", (*values, most + 1)).fetchall()
            if len(rows) <= most:
                documents = {document for (document,) in rows}
                few = documents if few is None else few & documents
        return None if few is None else sorted(few)

    def _source(self, document: int) -> bytes:
        (source,) = self._db.execute(
            "SELECT source FROM documents WHERE number = ?", (document,)
        ).fetchone()
        return bytes(source) if isinstance(source, bytes) else str(source).encode()

    def _marked(self, number: int, document: int, words: str) -> str:
        table = f"content_{number}"
        row = self._db.execute(
            f"SELECT highlight({table}, 0, ?, ?) FROM {table} WHERE {table} MATCH ? AND rowid = ?",
            (_MARK, _MARK, words, document),
        ).fetchone()
        return str(row[0]) if row else ""

    def _scores(
        self, number: int, query: Any, among: Sequence[int] | None
    ) -> tuple[str | None, dict[str, Any]]:
        """SQL of documents with their scores, or ``None`` where there are none."""
        if isinstance(query, MatchQuery):
            return self._match(number, query)
        few = among is not None and len(among) <= _FEW
        if not isinstance(query, SumQuery):
            return self._dot_product(number, query, few)
        terms, values = self._dot_product(number, query.terms, few)
        words, more = self._match(number, query.match)
        if words is None:
            return terms, values
        both = f"{terms} UNION ALL {words}"
        sql = f"SELECT document, sum(score) AS score FROM ({both}) GROUP BY document"
        return sql, {**values, **more}

    def _dot_product(self, number: int, query: Any, few: bool) -> tuple[str | None, dict[str, Any]]:
        """SQL of documents with their scores. One look-up per feature in the clustered postings,
        or per feature and document where those are few; ties in the order of insertion."""
        assert isinstance(query, TermsQuery)
        features, weights = checked(query)
        self._connections.give(features)
        some, one = "", ""
        if few:
            some, one = "CROSS JOIN json_each(:some) s", "AND p.document = s.value"
        return (
            "SELECT p.document AS document, sum(p.weight * t.weight) AS score FROM "
            "(SELECT given(key) AS feature, value AS weight FROM json_each(:terms)) t "
            f"{some} CROSS JOIN postings p "
            f"ON p.in_index = :number AND p.feature = t.feature {one} GROUP BY p.document",
            {"terms": orjson.dumps(weights.tolist()).decode(), "number": number},
        )

    def _match(self, number: int, query: Any) -> tuple[str | None, dict[str, Any]]:
        """SQL of documents with their scores, or ``None`` for a text without words."""
        assert isinstance(query, MatchQuery)
        words = "".join(c if c.isalnum() else " " for c in query.text).split()
        if not words:
            return None, {}
        table = f"content_{number}"
        expression = " OR ".join(f'"{word}"' for word in words)
        return (
            f"SELECT rowid AS document, -rank * :boost AS score FROM {table} "
            f"WHERE {table} MATCH :words",
            {"words": expression, "boost": query.boost},
        )

    def close(self) -> None:
        self._connections.close()


@dataclass(frozen=True)
class _Row:
    document: int
    score: float
    identifier: str
    source: bytes
    marked: str = ""


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


def _version(db: sqlite3.Connection, document: tuple[int] | None) -> int | None:
    if document is None:
        return None
    (source,) = db.execute("SELECT source FROM documents WHERE number = ?", document).fetchone()
    return version_of(source)


def _update(
    db: sqlite3.Connection, number: int, identifier: str, line: bytes, meta: IndexMeta
) -> Outcome:
    """Merge some fields into a document, as the clusters do: objects field by field."""
    row = db.execute(
        "SELECT source FROM documents WHERE in_index = ? AND id = ?", (number, identifier)
    ).fetchone()
    if row is None:
        return Outcome(identifier, 404, None, "document_missing_exception: document missing")
    try:
        source = merged(orjson.loads(row[0]), orjson.loads(line)["doc"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return Outcome(identifier, 400, None, f"mapper_parsing_exception: {error!r}")
    return _index(db, number, identifier, orjson.dumps(source), meta)


def _index(
    db: sqlite3.Connection, number: int, identifier: str, line: bytes, meta: IndexMeta
) -> Outcome:
    try:
        source = orjson.loads(line)
        if not isinstance(source, dict):
            raise ValueError("a document is an object")
        postings = _postings(source.get(meta.field))
    except (orjson.JSONDecodeError, ValueError) as error:
        return Outcome(identifier, 400, reason=f"mapper_parsing_exception: {error}")
    existed = _delete(db, number, identifier, meta).ok
    document = db.execute(
        "INSERT INTO documents (in_index, id, source) VALUES (?, ?, ?)",
        (number, identifier, line),
    ).lastrowid
    db.executemany(
        "INSERT INTO postings VALUES (?, ?, ?, ?)",
        [(number, feature, document, weight) for feature, weight in postings],
    )
    rest = {name: value for name, value in source.items() if name != meta.field}
    db.execute("INSERT INTO stored VALUES (?, ?)", (document, orjson.dumps(rest)))
    db.executemany(
        "INSERT INTO field_values VALUES (?, ?, ?, ?)",
        [(number, field, value, document) for field, value in _values_of(rest, meta)],
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


def _values_of(stored: Mapping[str, Any], meta: IndexMeta) -> set[tuple[str, Any]]:
    return field_values(stored, (*meta.text_fields, meta.hash_field))


def _delete(db: sqlite3.Connection, number: int, identifier: str, meta: IndexMeta) -> Outcome:
    row = _exists(db, number, identifier)
    if row is None:
        return Outcome(identifier, 404, "not_found", "no such document")
    stored = db.execute("SELECT stored FROM stored WHERE document = ?", row).fetchone()
    if stored is not None:
        db.executemany(
            "DELETE FROM field_values "
            "WHERE in_index = ? AND field = ? AND value = ? AND document = ?",
            [(number, *pair, *row) for pair in _values_of(orjson.loads(stored[0]), meta)],
        )
    db.execute("DELETE FROM postings WHERE document = ?", row)
    db.execute("DELETE FROM stored WHERE document = ?", row)
    db.execute(f"DELETE FROM content_{number} WHERE rowid = ?", row)
    db.execute("DELETE FROM documents WHERE number = ?", row)
    return Outcome(identifier, 200, "deleted")


def _postings(vector: Any) -> list[tuple[str, float]]:
    """What FeatureField would store; refuses what it refuses."""
    if vector is None or vector == []:
        return []
    if not isinstance(vector, dict):
        raise ValueError("[rank_features] fields must be json objects")
    weights: dict[str, float] = {}
    for feature, weight in vector.items():
        if weight is None:
            continue
        if isinstance(weight, bool) or not isinstance(weight, int | float | str):
            raise ValueError(f"the weight of feature {feature!r} is no number")
        value = float(weight)  # the clusters read a number in quotes, too
        if not MIN_WEIGHT <= value <= _MAX_WEIGHT:
            raise ValueError(f"featureValue must be a positive normal float, got {weight}")
        weights[feature] = value
    stored = truncate(np.array(list(weights.values()), np.float32))
    return list(zip(weights, stored.tolist(), strict=True))


def _hit(row: _Row, request: SearchRequest, meta: IndexMeta, index: str) -> EngineHit:
    source = orjson.loads(row.source)
    vector = source.pop(meta.field, {})
    source.pop(meta.hash_field, None)
    if request.source is not None:
        source = selected(source, request.source)
    words = row.marked.split(_MARK)[1::2] if request.highlight else []
    return EngineHit(
        row.identifier,
        float(row.score),
        source,
        scored_vector(vector, meta) if request.with_vector else None,
        tuple(dict.fromkeys(word.lower() for word in words)),
        index,
    )
