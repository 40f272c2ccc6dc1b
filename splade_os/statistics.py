"""Term statistics of a corpus: what an IDF table is computed from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
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
        """Statistics of no document."""
        return cls(0, 0, np.zeros(width, np.int64))

    @classmethod
    def of(cls, documents: Iterable[npt.ArrayLike], width: int) -> TermStatistics:
        """Count documents given as their token ids (repetitions allowed)."""
        frequencies = np.zeros(width, np.int64)
        count = tokens = 0
        for ids in documents:
            array = np.asarray(ids, np.int64)
            frequencies[np.unique(array)] += 1
            count, tokens = count + 1, tokens + len(array)
        return cls(count, tokens, frequencies)

    def __add__(self, other: TermStatistics) -> TermStatistics:
        return TermStatistics(
            self.documents + other.documents,
            self.tokens + other.tokens,
            self.frequencies + other.frequencies,
        )
