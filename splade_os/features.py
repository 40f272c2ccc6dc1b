"""Arithmetic of Lucene's FeatureField, in which every engine stores ``rank_features``.

A weight is kept as the term frequency ``floatToIntBits(weight) >>> 15``: sign, exponent and
the 8 leading bits of the mantissa, truncated, never rounded (relative error below 2^-8).
Source: org.apache.lucene.document.FeatureField. All weights that share these bits form one
*bucket*; what is sent may be any number of the bucket, so we send the shortest decimal.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal

import numpy as np
import numpy.typing as npt

from splade_os.vectors import Weights

MIN_WEIGHT = float(np.finfo(np.float32).tiny)
"""Smallest weight that an engine accepts (Java's Float.MIN_NORMAL)."""

_SHIFT = 15
_MASK = np.uint32(0xFFFF_FFFF << _SHIFT & 0xFFFF_FFFF)


def bucket_of(weights: Weights) -> npt.NDArray[np.uint32]:
    """The stored term frequency of each weight; weights must be normal and positive."""
    return np.ascontiguousarray(weights, np.float32).view(np.uint32) >> np.uint32(_SHIFT)


def truncate(weights: Weights) -> Weights:
    """What the engine makes of each weight: the float32 with only its 9 leading bits."""
    bits = np.ascontiguousarray(weights, np.float32).view(np.uint32) & _MASK
    return bits.view(np.float32)


def _lower_edge(bucket: int) -> np.float32:
    return np.uint32(bucket << _SHIFT).view(np.float32)


def shortest_decimal(bucket: int) -> bytes:
    """The shortest JSON number that lands in ``bucket`` (ASCII).

    The first of 1, 2, 3 ... significant digits with a value in [lower edge, next edge).
    """
    lower = Decimal(float(_lower_edge(bucket)))
    upper = Decimal(float(_lower_edge(bucket + 1)))
    for digits in range(1, 20):
        candidate = Context(prec=digits, rounding=ROUND_CEILING).plus(lower)
        if candidate < upper and bucket_of(np.array([float(candidate)], np.float32))[0] == bucket:
            return _spell(candidate)
    raise AssertionError(f"no decimal in bucket {bucket}")  # 19 digits spell any float32


def _spell(number: Decimal) -> bytes:
    """The shorter of ``0.0012`` and ``1.2e-3``."""
    number = number.normalize()
    plain = f"{number:f}"
    _, digits, exponent = number.as_tuple()
    mantissa = "".join(map(str, digits))
    scientific = f"{mantissa}e{exponent}" if exponent else mantissa
    return min(plain, scientific, key=len).encode()


_TABLE = np.full(1 << (31 - _SHIFT), None, object)
"""`shortest_decimal` of every bucket of a positive float32 that was asked for."""
_SPELLED = np.zeros(len(_TABLE), bool)


def decimals(weights: Weights) -> list[bytes]:
    """`shortest_decimal` of each weight; weights must be normal and positive."""
    buckets = bucket_of(weights)
    if not _SPELLED[buckets].all():
        for bucket in np.unique(buckets[~_SPELLED[buckets]]).tolist():
            _TABLE[bucket] = shortest_decimal(bucket)
            _SPELLED[bucket] = True
    spelled: list[bytes] = _TABLE[buckets].tolist()
    return spelled
