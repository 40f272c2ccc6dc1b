"""Term statistics of a corpus: what an IDF table is computed from."""

from __future__ import annotations

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
        self.documents += 1
        self.tokens += len(ids)
        self.frequencies[np.unique(ids)] += 1

    def __add__(self, other: TermStatistics) -> TermStatistics:
        return TermStatistics(
            self.documents + other.documents,
            self.tokens + other.tokens,
            self.frequencies + other.frequencies,
        )
