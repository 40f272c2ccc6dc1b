"""How sparse a set of vectors is, and what a search over it costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splade_os.vectors import SparseBatch


@dataclass
class Sparsity:
    """Counts over vectors that pass by; memory is one number per dimension.

    Attributes:
        frequencies: int64 ``(V,)``: in how many vectors each dimension is active.
        rows: number of vectors.
    """

    frequencies: npt.NDArray[np.int64]
    rows: int = 0

    @classmethod
    def empty(cls, width: int) -> Sparsity:
        """Of no vector yet, over ``width`` dimensions."""
        return cls(np.zeros(width, np.int64))

    @classmethod
    def of(cls, batch: SparseBatch) -> Sparsity:
        """Of the rows of a batch."""
        sparsity = cls.empty(batch.width)
        sparsity.add(batch)
        return sparsity

    def add(self, batch: SparseBatch) -> None:
        """Count the rows of a batch."""
        self.rows += len(batch)
        self.frequencies += np.bincount(batch.indices, minlength=len(self.frequencies))

    @property
    def active_dims(self) -> float:
        """Mean number of non-zero weights per vector."""
        return float(self.frequencies.sum() / self.rows) if self.rows else 0.0

    @property
    def sparsity_ratio(self) -> float:
        """Mean part of the dimensions that are zero."""
        return 1 - self.active_dims / len(self.frequencies)


def average_flops(queries: Sparsity, documents: Sparsity) -> float:
    """Expected number of multiplications for one query and one document:
    ``Σ_j P(q_j ≠ 0) · P(d_j ≠ 0)`` (SPLADE, Formal et al. 2021)."""
    if not queries.rows or not documents.rows:
        return 0.0
    return float((queries.frequencies / queries.rows) @ (documents.frequencies / documents.rows))
