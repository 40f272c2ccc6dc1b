"""Pruning, windows and the lexical prior, against straightforward definitions."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splade_os import DocumentEncoder, SearchClient, ingest_documents
from splade_os.encoding.rows import prune
from splade_os.encoding.windows import split
from splade_os.engines import Engine
from splade_os.errors import SettingsError
from splade_os.ingest.documents.records import Record
from splade_os.vectors import SparseBatch

rows = st.lists(
    st.dictionaries(st.integers(0, 30), st.floats(0.125, 8, width=32)), min_size=1, max_size=6
)


def batch_of(content: list[dict[int, float]]) -> SparseBatch:
    return SparseBatch.from_rows(
        [
            (np.array(sorted(row), np.int32), np.array([row[i] for i in sorted(row)], np.float32))
            for row in content
        ],
        31,
    )


def as_dicts(batch: SparseBatch) -> list[dict[int, float]]:
    return [dict(zip(ids.tolist(), w.tolist(), strict=True)) for ids, w in batch]


@given(rows, st.floats(0, 4), st.floats(0, 0.99))
def test_thresholds(content: list[dict[int, float]], least: float, ratio: float) -> None:
    pruned = as_dicts(prune(batch_of(content), min_weight=least, max_ratio=ratio))
    for row, kept in zip(content, pruned, strict=True):
        bound = max([np.float32(ratio) * np.float32(max(row.values(), default=0)), least])
        for i, w in row.items():
            if abs(w - bound) > 1e-5:
                assert (i in kept) == (w >= bound)


@given(rows, st.floats(0.01, 1))
def test_alpha_mass(content: list[dict[int, float]], alpha: float) -> None:
    pruned = as_dicts(prune(batch_of(content), alpha_mass=alpha))
    for row, kept in zip(content, pruned, strict=True):
        assert bool(kept) == bool(row)
        total, mass = sum(row.values()), sum(kept.values())
        assert len(kept) <= 1 or mass <= alpha * total * (1 + 1e-6)
        if len(kept) < len(row):
            dropped = max(w for i, w in row.items() if i not in kept)
            assert dropped <= min(kept.values())
            assert mass + dropped > alpha * total * (1 - 1e-6)


@given(st.integers(0, 90), st.integers(4, 20), st.integers(0, 9))
def test_windows(length: int, size: int, stride: int) -> None:
    text = np.array([101, *range(1000, 1000 + length), 102], np.int32)
    if stride >= size - 2:
        with pytest.raises(SettingsError):
            split([text], size, stride, (1, 1))
        return
    windows, owners = split([text, text], size, stride, (1, 1))
    assert owners == sorted(owners) and set(owners) == {0, 1}
    mine = [w for w, owner in zip(windows, owners, strict=True) if owner == 0]
    assert all(len(w) <= size and w[0] == 101 and w[-1] == 102 for w in mine)
    seen = list(mine[0][1:-1])
    for before, after in pairwise(mine):
        assert np.array_equal(before[-1 - stride : -1], after[1 : 1 + stride]) or stride == 0
        seen += list(after[1 + stride : -1])
    assert seen == list(range(1000, 1000 + length))


def test_chunks_are_the_maximum_of_their_windows(tiny: Path) -> None:
    text = " ".join(
        f"{word} sparse"
        for word in ["cat", "dog", "sun", "moon", "red", "green", "search", "index"] * 9
    )
    load = DocumentEncoder.load
    chunked = load(str(tiny / "bert"), device="cpu", long_texts="chunk", max_length=24, stride=6)
    plain = load(str(tiny / "bert"), device="cpu", max_length=24)
    windows, _ = split(chunked.tokenize([text]), 24, 6, (1, 1))
    assert len(windows) > 5
    expected = plain.encode_tokens(windows).to_dense().max(0)
    ours = chunked.encode(["cat", text, ""])
    np.testing.assert_allclose(ours.to_dense()[1], expected, atol=1e-5)
    np.testing.assert_allclose(
        ours.take([0, 2]).to_dense(), plain.encode(["cat", ""]).to_dense(), atol=1e-5
    )


def test_lexical_prior_is_bm25(tiny: Path) -> None:
    load = DocumentEncoder.load
    texts = ["the cat and the dog", "cat", "red sun " * 30, "", "日本"]
    without = load(str(tiny / "router"), device="cpu")
    encoder = load(str(tiny / "router"), device="cpu", lexical_weight=1.5, average_length=7)
    gained = encoder.encode(texts).to_dense() - without.encode(texts).to_dense()
    scale = 1.5 * encoder.identity.mean_weight
    assert scale > 0
    names, special = encoder.vocabulary.tokens, encoder.vocabulary.special_ids
    for text, row in zip(encoder.tokenize(texts), gained, strict=True):
        words = [i for i in text.tolist() if i not in special]
        expected = np.zeros(len(names))
        for i, f in Counter(words).items():
            norm = 1.2 * (1 - 0.75 + 0.75 * len(words) / 7)
            expected[i] = scale * f * 2.2 / (f + norm)
        np.testing.assert_allclose(row, expected, atol=1e-4)


def test_options_are_remembered_and_obeyed(engine: Engine, index: str, tiny: Path) -> None:
    options = {"lexical_weight": 2.0, "max_ratio": 0.1, "max_active_dims": 20}
    encoder = DocumentEncoder.load(str(tiny / "router"), device="cpu", **options)
    words = ["cat dog", "red sun", "search engine"]
    ingest_documents(
        [Record(i, f"t:{i}", f"d{i}", text, {"text": text}) for i, text in enumerate(words)],
        engine=engine,
        index=index,
        encoder=encoder,
        dead_letters="never.jsonl",
    )
    meta = engine.index_meta(index).model
    assert meta == encoder.identity
    again = DocumentEncoder.load(str(tiny / "router"), device="cpu", **meta.options().model_dump())
    assert again.identity == meta
    for text, identifier in (("cat", "d0"), ("sun", "d1"), ("engine", "d2")):
        results = SearchClient(engine=engine, index=index).search(text)
        assert results[0].id == identifier  # the prior puts every word of a text into its vector
        assert math.isfinite(results[0].score)


@pytest.mark.parametrize(
    "options", [{"max_ratio": 1.5}, {"max_length": 0}, {"long_texts": "fold"}, {"colour": 1}]
)
def test_wrong_options(tiny: Path, options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(options))):
        DocumentEncoder.load(str(tiny / "bert"), device="cpu", **options)
