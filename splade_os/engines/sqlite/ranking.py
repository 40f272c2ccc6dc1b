"""Documents of an SQLite file that a query finds, with their scores, as arrays."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splade_os.engines.base import MatchQuery, SearchRequest, SumQuery, TermsQuery
from splade_os.engines.rest.bodies import checked
from splade_os.engines.sqlite.postings import Documents, Postings, Scores


@dataclass(frozen=True)
class Ranking:
    """What a query finds; the best is the one with the highest score, of equal ones the first.

    Attributes:
        documents: their numbers, ascending.
        scores: of each.
    """

    documents: Documents
    scores: Scores

    def __len__(self) -> int:
        return len(self.documents)

    def best(self, count: int) -> npt.NDArray[np.int64]:
        """Places of the best, in their order."""
        chosen = np.arange(len(self))
        if count < len(self):  # to sort only those is much cheaper
            cut = len(self) - count
            chosen = np.flatnonzero(self.scores >= np.partition(self.scores, cut)[cut])
        return chosen[np.argsort(-self.scores[chosen], kind="stable")[:count]]

    def among(self, documents: Documents) -> Ranking:
        """Those of them."""
        last = max(self.documents.max(initial=0), documents.max(initial=0))
        those = np.zeros(last + 1, np.bool_)
        those[documents] = True
        return self._where(those[self.documents])

    def at_least(self, score: float) -> Ranking:
        return self._where(self.scores >= score)

    def after(self, score: float, document: int) -> Ranking:
        """What stands behind that one."""
        equal = (self.scores == score) & (self.documents > document)
        return self._where((self.scores < score) | equal)

    def _where(self, kept: npt.NDArray[np.bool_]) -> Ranking:
        return Ranking(self.documents[kept], self.scores[kept])


EMPTY = Ranking(np.empty(0, np.int64), np.empty(0, np.float64))


def ranked(
    db: sqlite3.Connection, number: int, request: SearchRequest, on_time: Callable[[], None]
) -> Ranking:
    """All that the query of a request finds, unfiltered.

    Args:
        number: of the index.
        on_time: raises where the time is over.
    """
    query = request.query
    if isinstance(query, MatchQuery):
        return _matching(db, number, query)
    parts = [
        _dot_product(db, number, query.terms if isinstance(query, SumQuery) else query, on_time)
    ]
    if isinstance(query, SumQuery):
        parts.append(_matching(db, number, query.match))
    found = EMPTY
    for part in parts:
        found = _added(found, part) if len(found) else part
    return found


def _dot_product(
    db: sqlite3.Connection, number: int, query: object, on_time: Callable[[], None]
) -> Ranking:
    """Σ query weight × stored weight: one look-up for each feature."""
    assert isinstance(query, TermsQuery)
    features, weights = checked(query)
    (last,) = db.execute("SELECT max(number) FROM documents").fetchone()
    scores, lists = np.zeros((last or 0) + 1), Postings(db, number)
    for feature, weight in zip(features, weights.tolist(), strict=True):
        on_time()
        documents, stored = lists.of(feature)
        scores[documents] += stored * weight
    found = np.flatnonzero(scores)
    return Ranking(found, scores[found])


def _matching(db: sqlite3.Connection, number: int, query: MatchQuery) -> Ranking:
    """FTS5's BM25 of the texts."""
    words = match_expression(query)
    if not words:
        return EMPTY
    table = f"content_{number}"
    # not its column rank, which takes longer; in the order of the documents, as FTS5 finds them
    rows = db.execute(
        f"SELECT rowid, -bm25({table}) FROM {table} WHERE {table} MATCH ?", (words,)
    ).fetchall()
    documents, scores = zip(*rows, strict=True) if rows else ((), ())
    found, order = np.unique(np.array(documents, np.int64), return_index=True)
    return Ranking(found, np.array(scores, np.float64)[order] * query.boost)


def match_expression(query: MatchQuery) -> str:
    """A text as FTS5 takes it: any of its words; empty where it has none."""
    words = "".join(c if c.isalnum() else " " for c in query.text).split()
    return " OR ".join(f'"{word}"' for word in words)


def _added(one: Ranking, other: Ranking) -> Ranking:
    """What either finds, with the sum of both scores."""
    documents = np.union1d(one.documents, other.documents)
    scores = np.zeros(len(documents))
    for part in (one, other):
        scores[np.searchsorted(documents, part.documents)] += part.scores
    return Ranking(documents, scores)
