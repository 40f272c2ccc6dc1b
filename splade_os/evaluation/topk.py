"""Exact retrieval over documents that stream by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from splade_os.evaluation.runs import Run
from splade_os.vectors import SparseBatch

_SCORES = 16_000_000  # scores of one block of documents held at once (64 MB)


class TopK:
    """The best documents of every query, by the exact dot product.

    Memory: the queries, ``k`` hits for each of them, and one block of scores; it does not grow
    with the documents. As in sentence-transformers' evaluators documents of score 0 may be
    ranked, and ties go to the smaller id, whatever the order in which documents come.

    Args:
        queries: ``(Q, V)``.
        k: documents to keep per query.
    """

    def __init__(self, queries: SparseBatch, k: int) -> None:
        self._queries = queries
        self._columns: sparse.csr_matrix | None = None  # (V, Q)
        self._count, self._k = len(queries), k
        self._hits: list[list[tuple[float, str]]] = [[] for _ in range(self._count)]  # (-score, id)
        self._worst = np.full(self._count, -np.inf, np.float32)

    def add(self, ids: Sequence[str], documents: SparseBatch) -> None:
        """Score ``documents``; row ``i`` has the id ``ids[i]``."""
        block = max(1, _SCORES // max(1, self._count))
        # a table of weights may know fewer tokens than the model has dimensions
        width = max(documents.width, self._queries.width)
        matrix = _csr(documents, width)
        if self._columns is None:
            self._columns = _csr(self._queries, width).T.tocsr()
        for start in range(0, len(documents), block):
            scores = (matrix[start : start + block] @ self._columns).toarray()  # (n, Q)
            self._merge(ids[start : start + block], np.ascontiguousarray(scores.T))

    def _merge(self, ids: Sequence[str], scores: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    ) -> None:  # fmt: skip
        if scores.shape[1] > self._k:  # only those that reach the k-th best of the block
            cut = scores.shape[1] - self._k
            worst = np.maximum(self._worst, np.partition(scores, cut, axis=1)[:, cut])
        else:
            worst = self._worst
        found = scores >= worst[:, None]
        for query in np.flatnonzero(found.any(axis=1)):
            places = np.flatnonzero(found[query]).tolist()
            hits = self._hits[query]
            hits += [(-float(scores[query, i]), ids[i]) for i in places]
            hits.sort()
            del hits[self._k :]
            if len(hits) == self._k:
                self._worst[query] = -hits[-1][0]

    def run(self, query_ids: Sequence[str]) -> Run:
        """The hits of every query, best first; ``query_ids[i]`` names row ``i``."""
        return {
            query: {document: -score for score, document in hits}
            for query, hits in zip(query_ids, self._hits, strict=True)
        }


def _csr(batch: SparseBatch, width: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((batch.values, batch.indices, batch.indptr), shape=(len(batch), width))
