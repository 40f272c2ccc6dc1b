"""Batches of about equal work: texts of like length, a bounded number of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from splade_os.vectors import Ids

BUCKETS = (8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512)
"""Lengths in tokens to which batches are padded on a GPU; longer ones to multiples of 256."""


def padded_lengths(
    lengths: Sequence[int], buckets: Sequence[int] = (), limit: int | None = None
) -> npt.NDArray[np.int64]:
    """The length to which a batch is padded whose longest text has so many tokens.

    Args:
        lengths: tokens of texts.
        buckets: rising lengths, none = no rounding; above the last one, multiples of 256.
        limit: positions that the model has, which a bucket must not exceed.
    """
    exact = np.asarray(lengths, np.int64)
    if not len(buckets):
        return exact
    steps = np.asarray(buckets, np.int64)
    found = np.where(
        exact <= steps[-1], steps[np.searchsorted(steps[:-1], exact)], -(-exact // 256) * 256
    )
    return found if limit is None else np.maximum(exact, np.minimum(found, limit))


def token_budget(
    lengths: Sequence[int] | npt.NDArray[np.int64], budget: int, rows: int | None = None
) -> Iterator[npt.NDArray[np.int64]]:
    """Positions of each batch, longest texts first.

    Every batch holds at least one text, and as many as fit when each is padded to the
    longest: ``texts × longest <= budget`` and ``texts <= rows``. The largest batch comes first, so
    that a lack of memory shows at once.
    """
    lengths = np.asarray(lengths, np.int64)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        size = max(1, min(budget // longest, rows or len(order)))
        yield order[start : start + size]
        start += size


def pad(
    tokens: Sequence[Ids], length: int, *, pad_id: int = 0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Token ids ``(B, L)`` filled up with ``pad_id``, and which places are real ``(B, L)``."""
    lengths = np.array([len(ids) for ids in tokens], np.int64)
    mask = np.arange(length) < lengths[:, None]
    padded = np.full(mask.shape, pad_id, np.int64)
    padded[mask] = np.concatenate(tokens)
    return padded, mask
