"""Pages of a ranking in an SQLite file: filters, offsets, totals."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from splade_os.engines.base import IndexMeta, SearchRequest
from splade_os.engines.sqlite.candidates import candidates
from splade_os.engines.sqlite.filter_cache import FilterCache
from splade_os.engines.sqlite.filters import compile_filter
from splade_os.engines.sqlite.postings import Documents
from splade_os.engines.sqlite.ranking import Ranking, ranked

_TRIED, _FOR_EACH = 32, 16  # documents that a filter is asked of, and for each that has passed
_STRIDES = (256, 4096)  # of the best, that are sorted
_READ = (32, 128, 500)  # documents at a time; SQLite takes 999 values before 3.32
_ROWS = (
    "SELECT d.number, d.id, coalesce(s.stored, d.source) FROM documents d "
    "LEFT JOIN stored s ON s.document = d.number WHERE d.number IN "
)
Keep = Callable[[bytes, str], bool]


@dataclass(frozen=True)
class Row:
    """A hit: number, score, id and stored fields (JSON) of a document."""

    document: int
    score: float
    identifier: str
    source: bytes


class Pages:
    """Reads pages of one index, in one view of the file.

    Args:
        number, meta: of the index.
        cache: of the filters.
        on_time: raises where the time is over.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        number: int,
        meta: IndexMeta,
        cache: FilterCache,
        on_time: Callable[[], None],
    ) -> None:
        self._db, self._number, self._meta, self._cache = db, number, meta, cache
        self._on_time = on_time

    def ranking(self, request: SearchRequest) -> Ranking:
        """All that a request finds, but for what only stored fields tell of its filter."""
        found = ranked(self._db, self._number, request, self._on_time)
        if request.min_score is not None:
            found = found.at_least(request.min_score)
        _, ids = compile_filter(request.filter)
        return found if ids is None else found.among(self._numbers(sorted(ids)))

    def page(self, request: SearchRequest, ranking: Ranking) -> tuple[list[Row], int | None]:
        """The hits of a page of that ranking, and how many there are where that is asked for.

        A filter is asked of the best documents until enough have passed. Where few of them do, and
        where all are to be counted, it is asked of those that can pass.
        """
        keep, _ = compile_filter(request.filter)
        whole = ranking
        if request.after is not None and request.after.after:
            ranking = ranking.after(*request.after.after)
        wanted = request.offset + request.k
        if keep is None or request.total:
            if keep is not None:
                passing = self._kept(request, "passing", partial(self._passing, request, keep))
                whole, ranking = whole.among(passing), ranking.among(passing)
            rows = list(self._rows(ranking, ranking.best(wanted)[request.offset :]))
            return rows, len(whole) if request.total else None
        key = self._key(request, "candidates")
        if key is None or self._cache.get(key) is None:
            rows, done = self._passed(ranking, keep, wanted, _TRIED)
            if done:
                return rows[request.offset :], None
        some = self._kept(request, "candidates", partial(self._candidates, request))
        rows, _ = self._passed(ranking.among(some), keep, wanted, len(some))
        return rows[request.offset :], None

    def by_id(self, ids: Sequence[str]) -> list[Row]:
        """Documents by id, in that order, as if they were hits."""
        numbers = self._numbers(ids)
        all_same = Ranking(numbers, np.ones(len(numbers)))
        found = {row.identifier: row for row in self._rows(all_same, np.arange(len(numbers)))}
        return [found[each] for each in ids if each in found]

    def _rows(self, ranking: Ranking, places: npt.NDArray[np.int64]) -> Iterator[Row]:
        start, strides = 0, iter(_READ)
        while start < len(places):
            some = places[start : start + next(strides, _READ[-1])]
            start += len(some)
            numbers = ranking.documents[some].tolist()
            marks = ",".join("?" * len(numbers))
            found = self._db.execute(f"{_ROWS} ({marks})", numbers).fetchall()
            rows = {number: (identifier, source) for number, identifier, source in found}
            for number, score in zip(numbers, ranking.scores[some].tolist(), strict=True):
                yield Row(number, score, *rows[number])

    def _best_first(self, ranking: Ranking) -> Iterator[Row]:
        seen = 0
        for stride in (*_STRIDES, len(ranking)):
            yield from self._rows(ranking, ranking.best(stride)[seen:])
            seen = max(seen, stride)

    def _passed(
        self, ranking: Ranking, keep: Keep, wanted: int, tried: int
    ) -> tuple[list[Row], bool]:
        """The best that pass, and whether these are all that are wanted, or there are: it ends
        when ``tried`` have been asked, and some more for each that has passed."""
        rows: list[Row] = []
        for seen, row in enumerate(self._best_first(ranking)):
            if len(rows) == wanted:
                break
            if seen >= tried + _FOR_EACH * len(rows):
                return rows, False
            self._on_time()
            if keep(row.source, row.identifier):
                rows.append(row)
        return rows, True

    def _key(self, request: SearchRequest, what: str) -> tuple[str, ...] | None:
        """Of the filter in the cache; ``None`` of a file of before, until something is written."""
        state = self._db.execute(
            "SELECT state FROM states WHERE in_index = ?", (self._number,)
        ).fetchone()
        return None if state is None else (state[0], what, repr(request.filter))

    def _kept(self, request: SearchRequest, what: str, find: Callable[[], Documents]) -> Documents:
        key = self._key(request, what)
        found = None if key is None else self._cache.get(key)
        if found is None:
            found = find()
            if key is not None:
                self._cache.put(key, found)
        return found

    def _candidates(self, request: SearchRequest) -> Documents:
        """All that may pass, and others."""
        rest = [clause for clause in request.filter if "ids" not in clause]
        found = candidates(rest, self._number, (*self._meta.text_fields, self._meta.hash_field))
        known = "SELECT 1 FROM with_field_values WHERE in_index = ?"
        if found is None or not self._db.execute(known, (self._number,)).fetchone():
            every = "SELECT number FROM documents WHERE in_index = ?"
            found = (every, [self._number])
        return self._documents(*found)

    def _passing(self, request: SearchRequest, keep: Keep) -> Documents:
        """All that pass."""
        some = self._candidates(request)
        passed = []
        for row in self._rows(Ranking(some, np.zeros(len(some))), np.arange(len(some))):
            self._on_time()
            if keep(row.source, row.identifier):
                passed.append(row.document)
        return np.array(passed, np.int64)

    def _documents(self, sql: str, values: Sequence[Any]) -> Documents:
        rows = self._db.execute(sql, values).fetchall()
        return np.unique(np.array([number for (number,) in rows], np.int64))

    def _numbers(self, ids: Sequence[str]) -> Documents:
        found: list[int] = []
        for start in range(0, len(ids), _READ[-1]):
            some = ids[start : start + _READ[-1]]
            # as values: json_each ends a text at a NUL
            marks = ",".join("?" * len(some))
            found += (
                number
                for (number,) in self._db.execute(
                    f"SELECT number FROM documents WHERE in_index = ? AND id IN ({marks})",
                    (self._number, *some),
                )
            )
        return np.unique(np.array(found, np.int64))
