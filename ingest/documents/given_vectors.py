"""Vectors that documents bring: token → weight, checked, as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise

import numpy as np

from splade_os.errors import InputError
from splade_os.vectors import Ids, Weights

Row = tuple[Ids, Weights]


def vector_of(weights: Mapping[str, float], ids: Mapping[str, int]) -> Row:
    """Token → weight as a row; weights of zero are left out.

    Raises:
        InputError: a token that the vocabulary lacks, or a weight that is none.
    """
    try:
        positions = np.array([ids[token] for token in weights], np.int32)
        values = np.array(list(weights.values()), np.float32)
    except KeyError as error:
        raise InputError(
            f"The vector has a term {error.args[0]!r}, which the model's vocabulary lacks."
        ) from None
    except (TypeError, ValueError):
        bad = next(w for w in weights.values() if not isinstance(w, int | float))
        raise InputError(f"The vector has a weight {bad!r}, which is no number.") from None
    if len(values) and not (np.isfinite(values) & (values >= 0)).all():
        bad = values[~(np.isfinite(values) & (values >= 0))][0]
        raise InputError(f"The vector has a weight {bad}; it must be finite and not negative.")
    if not (values > 0).all():
        positions, values = positions[values > 0], values[values > 0]
    if len(positions) > 1 and not (positions[1:] > positions[:-1]).all():
        order = np.argsort(positions, kind="stable")
        positions, values = positions[order], values[order]
    return positions, values


def vectors_of(vectors: Sequence[Mapping[str, float]], ids: Mapping[str, int]) -> list[Row]:
    """`vector_of` of sound vectors.

    Raises:
        InputError, KeyError, TypeError, ValueError: one of them is not sound, or has a zero.
    """
    edges = np.cumsum([0, *map(len, vectors)])
    names, numbers = chain.from_iterable(vectors), chain.from_iterable(v.values() for v in vectors)
    positions = np.fromiter(map(ids.__getitem__, names), np.int32, edges[-1])
    values = np.fromiter(numbers, np.float32, edges[-1])
    if not (np.isfinite(values) & (values > 0)).all():
        raise InputError("a weight is not finite and greater than zero")
    ascends = np.ones(len(positions) + 1, bool)
    ascends[1:-1] = positions[1:] > positions[:-1]
    ascends[edges] = True
    if not ascends.all():
        key = np.repeat(np.arange(len(vectors), dtype=np.int64) << 32, np.diff(edges)) + positions
        order = np.argsort(key)
        positions, values = positions[order], values[order]
    bounds = edges.tolist()
    return [(positions[start:stop], values[start:stop]) for start, stop in pairwise(bounds)]
