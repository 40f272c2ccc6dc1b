"""Operations on the rows of a `SparseBatch`: combining, pruning, scaling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from splade_os.vectors import Ids, SparseBatch, Weights


def combine(
    rows: npt.NDArray[np.int64],
    ids: Ids,
    weights: Weights,
    *,
    count: int,
    width: int,
    how: Literal["max", "sum"],
) -> SparseBatch:
    """A batch from (row, id, weight) triples in any order; equal places are combined.

    Args:
        rows, ids, weights: of equal length; rows in ``0 .. count - 1``.
        count: rows of the result; width: V.
        how: what happens to several weights of one place.
    """
    keys = rows * width + ids
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], weights[order]
    first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else keys
    if len(keys):
        reduce = np.maximum if how == "max" else np.add
        values = reduce.reduceat(values, first)
    keys = keys[first]
    indptr = np.searchsorted(keys, np.arange(count + 1) * width)
    return SparseBatch(
        indptr.astype(np.int64), (keys % width).astype(np.int32), values.astype(np.float32), width
    )


def row_numbers(batch: SparseBatch) -> npt.NDArray[np.int64]:
    """The row of every weight, int64 ``(nnz,)``."""
    return np.repeat(np.arange(len(batch)), batch.active_dims())


def prune(
    batch: SparseBatch,
    *,
    min_weight: float = 0.0,
    max_ratio: float = 0.0,
    alpha_mass: float | None = None,
) -> SparseBatch:
    """Drop light weights, by the definitions of OpenSearch's ``sparse_encoding`` processor.

    Args:
        min_weight: keep ``w >= min_weight`` (``abs_value``).
        max_ratio: keep ``w >= max_ratio × heaviest of the row``.
        alpha_mass: keep the heaviest weights while their running sum is at most
            ``alpha_mass × sum of the row``. Unlike OpenSearch, the heaviest always stays, so
            that no document loses all its terms.
    """
    if not len(batch.values) or (min_weight <= 0 and max_ratio <= 0 and alpha_mass is None):
        return batch
    rows, values = row_numbers(batch), batch.values
    keep = values >= min_weight
    if max_ratio > 0:
        heaviest = np.zeros(len(batch), np.float32)
        np.maximum.at(heaviest, rows, values)
        keep &= values >= max_ratio * heaviest[rows]
    if alpha_mass is not None:
        order = np.lexsort((-values, rows))
        running = np.cumsum(values[order], dtype=np.float64)
        before = np.concatenate(([0.0], running))[batch.indptr]  # sum of all earlier rows
        sums, starts = np.diff(before), batch.indptr[rows]
        inside = running - before[rows] <= alpha_mass * sums[rows] * (1 + 1e-9)
        inside |= np.arange(len(values)) == starts
        kept = np.zeros(len(values), bool)
        kept[order] = inside
        keep &= kept
    return selected(batch, values, keep)


def scale(batch: SparseBatch, factors: Weights) -> SparseBatch:
    """Every weight times the factor of its token, ``(V,)``; what is not above 0 is dropped."""
    values = batch.values * factors[batch.indices]
    return selected(batch, values, values > 0)


def heaviest(batch: SparseBatch, most: int) -> SparseBatch:
    """The ``most`` heaviest weights of every row; of equal ones those of lower ids."""
    if not len(batch) or batch.active_dims().max() <= most:
        return batch
    rows = row_numbers(batch)
    order = np.lexsort((batch.indices, -batch.values, rows))
    keep = np.zeros(len(rows), bool)
    keep[order] = np.arange(len(rows)) - batch.indptr[rows] < most
    return selected(batch, batch.values, keep)


def stands(batch: SparseBatch, tokens: Sequence[Ids]) -> npt.NDArray[np.bool_]:
    """Which weights are of tokens that stand in their text, given as token ids, bool ``(nnz,)``."""
    places = np.repeat(np.arange(len(tokens)), [len(ids) for ids in tokens]) * batch.width
    own = places + np.concatenate([np.empty(0, np.int32), *tokens])
    return np.isin(row_numbers(batch) * batch.width + batch.indices, own)


def selected(batch: SparseBatch, values: Weights, keep: npt.NDArray[np.bool_]) -> SparseBatch:
    """The weights that are marked, with these values, both of a batch's length ``(nnz,)``."""
    counts = np.bincount(row_numbers(batch)[keep], minlength=len(batch))
    indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return SparseBatch(indptr, batch.indices[keep], values[keep], batch.width)
