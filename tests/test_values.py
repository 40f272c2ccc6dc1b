"""Properties of the values that cross borders."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from splade_os.features import MIN_WEIGHT, bucket_of, decimals, shortest_decimal, truncate
from splade_os.statistics import TermStatistics
from splade_os.vectors import SparseBatch
from splade_os.vocabulary import feature_name, token_of

weights = st.floats(MIN_WEIGHT, 2.0**127, width=32)


def frequency(weight: float) -> int:
    """Lucene's FeatureField, by the book: floatToIntBits(v) >>> 15."""
    return struct.unpack(">I", struct.pack(">f", weight))[0] >> 15


@given(st.lists(weights, min_size=1))
def test_truncation_is_lucenes(values: list[float]) -> None:
    array = np.array(values, np.float32)
    assert bucket_of(array).tolist() == [frequency(v) for v in values]
    kept = truncate(array)
    assert (kept <= array).all()
    assert bucket_of(kept).tolist() == bucket_of(array).tolist()
    assert (truncate(kept) == kept).all()


@given(st.lists(weights, min_size=1))
def test_decimals_land_in_their_bucket(values: list[float]) -> None:
    for value, text in zip(values, decimals(np.array(values, np.float32)), strict=True):
        assert frequency(float(text)) == frequency(value)


def test_decimals_are_the_shortest() -> None:
    def spelled(digits: int, exponent: int) -> list[str]:
        return [f"{d}e{exponent}" for d in range(10 ** (digits - 1), 10**digits)]

    for value in (0.1, 0.999, 1.0, 2.39, 3.0, 0.0123, 7.77):
        bucket = frequency(value)
        digits = len(shortest_decimal(bucket).decode().replace(".", "").strip("0").lstrip("0"))
        if digits == 1:
            continue
        shorter = [s for e in range(-8, 4) for s in spelled(digits - 1, e)]
        assert not any(frequency(float(s)) == bucket for s in shorter), value


@given(st.text(), st.text())
def test_feature_names(one: str, other: str) -> None:
    name = feature_name(one)
    assert name and "." not in name
    assert token_of(name) == one
    assert (feature_name(other) == name) == (one == other)


rows = st.lists(st.dictionaries(st.integers(0, 49), st.floats(0.125, 8, width=32)), max_size=8)


def batch_of(content: list[dict[int, float]]) -> SparseBatch:
    return SparseBatch.from_rows(
        [
            (np.array(sorted(row), np.int32), np.array([row[i] for i in sorted(row)], np.float32))
            for row in content
        ],
        50,
    )


@given(rows, st.randoms())
def test_batches(content: list[dict[int, float]], random: object) -> None:
    batch = batch_of(content)
    dense = batch.to_dense()
    assert len(batch) == len(content)
    for i, row in enumerate(content):
        assert {j: dense[i, j] for j in np.flatnonzero(dense[i])} == {
            j: np.float32(v) for j, v in row.items()
        }
    order = list(range(len(content)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert np.array_equal(batch.take(order).to_dense(), dense[order])
    twice = SparseBatch.concat([batch, batch], 50)
    assert np.array_equal(twice.to_dense(), np.concatenate([dense, dense]))


def test_statistics() -> None:
    one = TermStatistics.empty(5)
    one.count(np.array([1, 1, 3], np.int32))
    one.count(np.array([3], np.int32))
    both = one + one
    assert (both.documents, both.tokens) == (4, 8)
    assert both.frequencies.tolist() == [0, 2, 0, 4, 0]
