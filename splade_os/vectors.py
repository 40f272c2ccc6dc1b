"""`SparseBatch`: the one value that crosses every border of the package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SparseBatch:
    """Rows of a sparse matrix over the vocabulary (CSR).

    Attributes:
        indptr: int64 ``(B + 1,)``; row ``i`` is the slice ``indptr[i]:indptr[i + 1]``.
        indices: int32 ``(nnz,)`` vocabulary ids, ascending within a row, each at most once.
        values: float32 ``(nnz,)`` weights, finite and greater than zero.
        width: size of the vocabulary, ``V``.
    """

    indptr: npt.NDArray[np.int64]
    indices: Ids
    values: Weights
    width: int

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def nnz(self) -> int:
        """Number of weights in all rows."""
        return int(self.indptr[-1])

    def row(self, i: int) -> tuple[Ids, Weights]:
        """Ids and weights of row ``i`` (views, not copies)."""
        if not 0 <= i < len(self):
            raise IndexError(f"row {i} of a batch of {len(self)}")
        start, stop = self.indptr[i], self.indptr[i + 1]
        return self.indices[start:stop], self.values[start:stop]

    def __iter__(self) -> Iterator[tuple[Ids, Weights]]:
        return (self.row(i) for i in range(len(self)))

    def active_dims(self) -> npt.NDArray[np.int64]:
        """Number of non-zero weights of each row, ``(B,)``."""
        return np.diff(self.indptr)

    def to_dense(self) -> Weights:
        """The matrix ``(B, V)``; for tests and small batches."""
        dense = np.zeros((len(self), self.width), np.float32)
        dense[np.repeat(np.arange(len(self)), self.active_dims()), self.indices] = self.values
        return dense

    def take(self, order: Sequence[int] | npt.NDArray[np.int64]) -> SparseBatch:
        """The rows ``order``, in that order."""
        rows = np.asarray(order, np.int64)
        lengths = self.active_dims()[rows]
        indptr = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        # position of every weight: its row's start in self, plus its offset in the row
        offsets = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)
        source = np.repeat(self.indptr[rows], lengths) + offsets
        return SparseBatch(indptr, self.indices[source], self.values[source], self.width)

    @classmethod
    def empty(cls, rows: int, width: int) -> SparseBatch:
        """``rows`` rows without any weight."""
        nothing = np.empty(0, np.int32), np.empty(0, np.float32)
        return cls(np.zeros(rows + 1, np.int64), *nothing, width)

    @classmethod
    def concat(cls, batches: Sequence[SparseBatch], width: int) -> SparseBatch:
        """All rows of ``batches``, one below the other."""
        if any(batch.width != width for batch in batches):
            raise ValueError(f"batches of different widths, expected {width}")
        lengths = [batch.active_dims() for batch in batches]
        indptr = np.concatenate(([0], *lengths)).cumsum().astype(np.int64)
        indices = np.concatenate([np.empty(0, np.int32), *(b.indices for b in batches)])
        values = np.concatenate([np.empty(0, np.float32), *(b.values for b in batches)])
        return cls(indptr, indices.astype(np.int32), values.astype(np.float32), width)

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[Ids, Weights]], width: int) -> SparseBatch:
        """A batch from ``(ids, weights)`` pairs whose ids ascend."""
        if len(rows) == 1:  # one query: nothing to put together
            ids, weights = rows[0]
            indptr = np.array([0, len(ids)], np.int64)
            return cls(indptr, np.asarray(ids, np.int32), np.asarray(weights, np.float32), width)
        indptr = np.cumsum([0, *(len(ids) for ids, _ in rows)]).astype(np.int64)
        indices = np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in rows)])
        values = np.concatenate([np.empty(0, np.float32), *(weights for _, weights in rows)])
        return cls(indptr, indices.astype(np.int32), values.astype(np.float32), width)
