"""Vectors that documents bring: token → weight, checked, as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from operator import itemgetter
from typing import Any

import numpy as np

from splade_os.errors import InputError
from splade_os.vectors import Ids, Weights

Row = tuple[Ids, Weights]
_SHOWN = 40  # characters of a weight that is none
_HIGHEST = float(np.finfo(np.float32).max)


def vector_of(weights: Mapping[str, float], ids: Mapping[str, int]) -> Row:
    """Token → weight as a row; weights of zero are left out.

    Raises:
        InputError: a token that the vocabulary lacks, or a weight that is no finite number of
            at least zero (text and booleans are none).
    """
    try:
        return vectors_of([weights], ids)[0]
    except (InputError, KeyError, TypeError, ValueError):
        _check(weights, ids)
    positions = np.array([ids[token] for token in weights], np.int32)
    values = np.array(list(weights.values()), np.float32)
    positions, values = positions[values > 0], values[values > 0]
    order = np.argsort(positions, kind="stable")
    return positions[order], values[order]


def _check(weights: Mapping[str, float], ids: Mapping[str, int]) -> None:
    for token, weight in weights.items():
        if token not in ids:
            raise InputError(
                f"The vector has a term {token!r:.80}, which the model's vocabulary lacks."
            )
        if isinstance(weight, bool) or not isinstance(weight, int | float | np.number):
            raise InputError(
                f"The vector has for the term {token!r} the weight {_shown(weight)}, which is no "
                "number."
            )
        if not 0 <= weight <= _HIGHEST:  # also of NaN
            raise InputError(
                f"The vector has for the term {token!r} the weight {_shown(weight)}; it must be "
                "finite and not negative."
            )


def _shown(weight: Any) -> str:
    if isinstance(weight, int) and abs(weight) > 10**_SHOWN:
        return f"of about {weight.bit_length() * 0.30103:,.0f} digits"
    text = repr(weight)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def vectors_of(vectors: Sequence[Mapping[str, float]], ids: Mapping[str, int]) -> list[Row]:
    """`vector_of` of sound vectors.

    Raises:
        InputError, KeyError, TypeError, ValueError: one of them is not sound, or has a zero.
    """
    edges = np.cumsum([0, *map(len, vectors)])
    names = list(chain.from_iterable(vectors))
    numbers = list(chain.from_iterable(vector.values() for vector in vectors))
    # in one call of C: half the time of one call for each
    found_ids = itemgetter(*names)(ids) if len(names) > 1 else [ids[name] for name in names]
    positions = np.fromiter(found_ids, np.int32, edges[-1])
    found = np.array(numbers)  # finds a type for all: of text and lists it is none of numbers
    if found.ndim != 1 or (found.dtype.kind not in "fiu" and len(found)):
        raise InputError("a weight is no number")
    if not ((found > 0) & (found <= _HIGHEST)).all():
        raise InputError("a weight is not finite and greater than zero")
    if any(numbers[i] is True for i in np.flatnonzero(found == 1).tolist()):
        raise InputError("a weight is a boolean")  # among numbers they are taken as 1
    values = found.astype(np.float32)
    if not (values > 0).all():
        raise InputError("a weight is too small")
    ascends = np.ones(len(positions) + 1, bool)
    ascends[1:-1] = positions[1:] > positions[:-1]
    ascends[edges] = True
    if not ascends.all():
        key = np.repeat(np.arange(len(vectors), dtype=np.int64) << 32, np.diff(edges)) + positions
        order = np.argsort(key)
        positions, values = positions[order], values[order]
    bounds = edges.tolist()
    return [(positions[start:stop], values[start:stop]) for start, stop in pairwise(bounds)]
