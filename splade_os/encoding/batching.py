"""Batches of about equal work: texts of like length, a bounded number of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from splade_os.vectors import Ids


def token_budget(lengths: Sequence[int], budget: int) -> Iterator[npt.NDArray[np.int64]]:
    """Positions of each batch, longest texts first.

    Every batch holds at least one text, and as many as fit when each is padded to the
    longest: ``texts × longest <= budget``. The largest batch comes first, so that a lack of
    memory shows at once.
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        size = max(1, budget // longest)
        yield order[start : start + size]
        start += size


def pad(
    tokens: Sequence[Ids], length: int, rows: int | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Token ids ``(B, L)`` filled up with 0, and which places are real ``(B, L)``.

    ``rows`` adds rows of padding up to that many.
    """
    lengths = np.zeros(rows or len(tokens), np.int64)
    lengths[: len(tokens)] = [len(ids) for ids in tokens]
    mask = np.arange(length) < lengths[:, None]
    padded = np.zeros(mask.shape, np.int64)
    padded[mask] = np.concatenate(tokens)
    return padded, mask
