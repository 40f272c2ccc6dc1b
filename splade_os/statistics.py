"""Term statistics of a corpus: what an IDF table is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(eq=False)
class TermStatistics:
    """Document frequencies over a vocabulary.

    Attributes:
        documents: number of documents counted, ``N``.
        tokens: number of their tokens (for the mean length).
        frequencies: int64 ``(V,)``: in how many documents each token occurs.
    """

    documents: int
    tokens: int
    frequencies: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, width: int) -> TermStatistics:
        """Statistics of no document over ``width`` tokens."""
        return cls(0, 0, np.zeros(width, np.int64))

    def count(self, ids: npt.NDArray[np.int32]) -> None:
        """Count one document, given as its token ids (repetitions allowed)."""
        self.count_many([ids])

    def count_many(self, documents: Sequence[npt.NDArray[np.int32]], sign: int = 1) -> None:
        """Count documents, given as their token ids; ``sign`` -1 takes them out again."""
        if not documents:
            return
        width = len(self.frequencies)
        lengths = [len(ids) for ids in documents]
        rows = np.repeat(np.arange(len(documents), dtype=np.int64), lengths)
        seen = np.unique(rows * width + np.concatenate(documents)) % width
        self.documents += sign * len(documents)
        self.tokens += sign * sum(lengths)
        self.frequencies += sign * np.bincount(seen, minlength=width)

    def __add__(self, other: TermStatistics) -> TermStatistics:
        return TermStatistics(
            self.documents + other.documents,
            self.tokens + other.tokens,
            self.frequencies + other.frequencies,
        )
