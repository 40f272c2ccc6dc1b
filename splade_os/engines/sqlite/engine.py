"""SQLite as an engine: one file, the standard library alone.

For notebooks, tests and machines without Java or Docker. Posting lists with weights truncated as
Lucene's FeatureField does, read as arrays; FTS5 for BM25. Scores equal those of a cluster; it takes
the same bulk bodies and refuses the same documents.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
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
    TextQuery,
)
from splade_os.engines.fields.stored import scored_vector
from splade_os.engines.sqlite.connections import Connections
from splade_os.engines.sqlite.filter_cache import FilterCache
from splade_os.engines.sqlite.pages import Pages, Row
from splade_os.engines.sqlite.ranking import Ranking, match_expression
from splade_os.engines.sqlite.transactions import Transaction, translated
from splade_os.engines.sqlite.upkeep import SQLiteUpkeep
from splade_os.engines.sqlite.views import View, Views
from splade_os.engines.sqlite.writes import Writer
from splade_os.errors import (
    DeploymentError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    IndexExistsError,
    IndexFormatError,
    IndexNotFoundError,
)
from splade_os.text_fields import selected
from splade_os.vocabulary import FEATURE_NAMING

_MARK = "\u241f"
_STEPS = 10_000  # of SQLite's machine between two looks at the clock


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
        self._views = Views(self._connections)
        self._filters = FilterCache()

    @property
    def _db(self) -> sqlite3.Connection:
        return self._connections.of_thread().connection

    def _transaction(self) -> Transaction:
        return Transaction(self._connections.of_thread(write=True), "write", self.url)

    def _reading(self) -> Transaction:
        return Transaction(self._connections.of_thread(), "read", self.url)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translated(error, self.url) from error

    @contextmanager
    def _within(
        self, db: sqlite3.Connection, seconds: float | None, index: str
    ) -> Iterator[Callable[[], None]]:
        """Ends what is asked of the file after that time; what is given raises then, too."""
        if seconds is None:
            yield lambda: None
            return
        end = time.monotonic() + seconds
        late = EngineTimeoutError(
            f"The search of {index} did not end in the time that it was given.",
            hint="Give it more (timeout=, --search-timeout), or make it cheaper: fewer terms.",
        )

        def on_time() -> None:
            if time.monotonic() > end:
                raise late

        db.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        try:
            yield on_time
            on_time()
        except sqlite3.OperationalError as error:
            if "interrupted" not in str(error):
                raise
            raise late from None
        finally:
            db.set_progress_handler(None, 0)

    def _number(self, index: str, db: sqlite3.Connection | None = None) -> int:
        with self._translated():
            row = (
                (db or self._db)
                .execute(
                    "SELECT number FROM indices WHERE name = ?1 "
                    "UNION SELECT in_index FROM aliases WHERE name = ?1",
                    (index,),
                )
                .fetchone()
            )
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
            for table in ("with_field_values", "with_posting_blocks"):
                db.execute(f"INSERT INTO {table} VALUES (?)", (cursor.lastrowid,))
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
                "field_values", "with_field_values", "posting_blocks", "with_posting_blocks",
                "states",
            ):  # fmt: skip
                db.execute(f"DELETE FROM {table} WHERE in_index = ?", (number,))
            db.execute("DELETE FROM indices WHERE number = ?", (number,))

    def index_meta(self, index: str) -> IndexMeta:
        with self._reading() as db:
            return _record(db, self._number(index))[1]

    def describe(self, index: str) -> tuple[IndexMeta, Identity]:
        return self.index_meta(index), self.identity(index)

    def stats(self, index: str) -> IndexStats:
        return IndexStats(self.count(index), self.path.stat().st_size)

    def bulk(
        self, index: str, body: bytes, *, attempts: int = 5, guard: str | None = None
    ) -> list[Outcome]:
        del attempts  # a file is there or it is not
        lines = iter(body.splitlines())
        self._views.sweep()
        with self._transaction() as db:
            number = self._number(index)
            if guard not in (None, self.guard(index)):
                raise IndexNotFoundError(f"{index} at {self.url} is not the index that it was.")
            writer = Writer(db, number, _record(db, number)[1])
            outcomes = [writer.act(line, lines) for line in lines]
            writer.finish()
        return outcomes

    def refresh(self, index: str) -> None:
        self._number(index)  # what is committed is searchable

    def active_copies(self, index: str) -> Sequence[int]:
        return ()

    def merge(self, index: str, segments: int = 1) -> None:
        number = self._number(index)
        with self._transaction() as db:
            db.execute(f"INSERT INTO content_{number} (content_{number}) VALUES ('optimize')")

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
        self._views.sweep()
        if request.after is None:
            with self._reading() as db:
                return self._searched(db, index, request, None)
        opened = request.after.pit or self._views.open()
        try:
            with self._views.use(opened) as (db, view):
                response = self._searched(db, index, request, view)
        except BaseException:
            if not request.after.pit:
                self._views.close(opened)
            raise
        if response.following is None:
            self._views.close(opened)
            return response
        return replace(response, following=replace(response.following, pit=opened))

    def _searched(
        self, db: sqlite3.Connection, index: str, request: SearchRequest, view: View | None
    ) -> SearchResponse:
        start = time.perf_counter()
        number = self._number(index, db)
        name, meta = _record(db, number)
        if isinstance(request.query, HybridQuery):
            raise EngineError("SQLite has no hybrid query.", hint="Leave the fusion to the client.")
        if isinstance(request.query, TextQuery):
            self.query_pipeline(index)
        with self._translated(), self._within(db, request.timeout, index) as on_time:
            pages = Pages(db, number, meta, self._filters, on_time)
            if isinstance(request.query, IdsQuery):
                rows, total = pages.by_id(request.query.ids), None
            else:
                ranking = _of_view(view, index, request, pages)
                rows, total = pages.page(request, ranking)
            hits = [_hit(db, number, row, request, meta, name) for row in rows]
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
        """Release the view of the file."""
        self._views.close(cursor.pit)

    def close(self) -> None:
        self._views.close_all()
        self._connections.close()


def _of_view(view: View | None, index: str, request: SearchRequest, pages: Pages) -> Ranking:
    """The ranking that a page is of: in a view it is made once."""
    if view is None:
        return pages.ranking(request)
    key = repr((index, request.query, request.filter, request.min_score))
    terms = request.terms
    if terms is not None:  # a long array is not whole in its text
        key += repr((list(terms.features), np.asarray(terms.weights, np.float32).tolist()))
    if view.ranking is None or view.key != key:
        view.key, view.ranking = key, pages.ranking(request)
    return view.ranking


def _record(db: sqlite3.Connection, number: int) -> tuple[str, IndexMeta]:
    """Name and meta of an index."""
    name, text = db.execute("SELECT name, meta FROM indices WHERE number = ?", (number,)).fetchone()
    try:
        return name, IndexMeta.read(orjson.loads(text))
    except (ValidationError, orjson.JSONDecodeError) as error:
        raise IndexFormatError(f"The record of the index {name} is damaged: {error}") from None


def _hit(
    db: sqlite3.Connection,
    number: int,
    row: Row,
    request: SearchRequest,
    meta: IndexMeta,
    index: str,
) -> EngineHit:
    source = orjson.loads(row.source)
    vector = source.pop(meta.field, None)
    if request.with_vector:  # not among what is stored for every hit
        (whole,) = db.execute(
            "SELECT source FROM documents WHERE number = ?", (row.document,)
        ).fetchone()
        vector = orjson.loads(whole).get(meta.field)
    source.pop(meta.hash_field, None)
    if request.source is not None:
        source = selected(source, request.source)
    return EngineHit(
        row.identifier,
        row.score,
        source,
        scored_vector(vector, meta) if request.with_vector else None,
        _marked(db, number, row.document, request.match) if request.highlight else (),
        index,
    )


def _marked(
    db: sqlite3.Connection, number: int, document: int, match: MatchQuery | None
) -> tuple[str, ...]:
    """The words of a document that a query matches, lower-cased."""
    words = match_expression(match) if match is not None else ""
    if not words:
        return ()
    table = f"content_{number}"
    row = db.execute(
        f"SELECT highlight({table}, 0, ?, ?) FROM {table} WHERE {table} MATCH ? AND rowid = ?",
        (_MARK, _MARK, words, document),
    ).fetchone()
    marked = str(row[0]).split(_MARK)[1::2] if row else ()
    return tuple(dict.fromkeys(word.lower() for word in marked))
