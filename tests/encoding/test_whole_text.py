"""What the lexical prior sees of a text, how much is stored, and what fires by itself."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from splade_os import DocumentEncoder
from splade_os.encoding.expansion import keeps_no_expansion
from splade_os.encoding.rows import heaviest
from splade_os.encoding.windows import cut
from splade_os.vectors import SparseBatch
from splade_os.vocabulary import Vocabulary
from tests.encoding.test_options import as_dicts, batch_of, rows

WORDS = ("cat", "the", "dogs", "sun.", "red", "search", "x-y", "3", "日本")
TEXTS = st.lists(
    st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join), min_size=1, max_size=4
)
KINDS = {
    "cut": {"max_length": 12},
    "chunks": {"max_length": 12, "long_texts": "chunk", "stride": 3},
}


@cache
def load(model: str, **options: object) -> DocumentEncoder:
    return DocumentEncoder.load(model, device="cpu", **options)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(texts=TEXTS, average=st.integers(1, 80))
def test_the_prior_is_bm25_over_the_whole_text(
    kind: str, texts: list[str], average: int, tiny: Path
) -> None:
    """Counted by the tokenizer alone, without a limit."""
    model = str(tiny / "router")
    plain = load(model, **KINDS[kind])
    prior = load(model, lexical_weight=2.0, mean_weight=0.5, average_length=average, **KINDS[kind])
    tokenizer = Tokenizer.from_file(str(next((tiny / "router").rglob("tokenizer.json"))))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    special = prior.vocabulary.special_ids
    gained = prior.encode_content(texts).to_dense() - plain.encode_content(texts).to_dense()
    for text, row in zip(texts, gained, strict=True):
        words = [i for i in tokenizer.encode(text).ids if i not in special]
        expected = np.zeros(len(row))
        for i, f in Counter(words).items():
            expected[i] = f * 2.2 / (f + 1.2 * (0.25 + 0.75 * len(words) / average))
        np.testing.assert_allclose(row, expected, atol=1e-4)


@settings(max_examples=10)
@given(texts=TEXTS)
def test_an_index_of_before_sees_what_the_model_sees(texts: list[str], tiny: Path) -> None:
    options = {"lexical_weight": 2.0, "mean_weight": 0.5, "max_length": 12}
    before = load(str(tiny / "router"), whole_text=False, **options)
    assert before.identity.average_length == 100
    assert "average_length" in before.left_open and "whole_text" not in before.left_open
    whole = before.tokenize(texts)
    expected = before.encode_tokens([cut(ids, 12, (1, 1), "right") for ids in whole])
    np.testing.assert_allclose(before.encode(texts).to_dense(), expected.to_dense(), atol=1e-5)
    for ids in whole:
        assert len(before.counted(ids)) <= 10


@pytest.mark.parametrize("side", ["left", "right"])
@given(text=TEXTS.map(" ".join), length=st.integers(2, 20))
def test_cut_as_the_tokenizer_cuts(side: str, text: str, length: int, tiny: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny / "bert" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    whole = np.array(tokenizer.encode(text).ids, np.int32)
    tokenizer.enable_truncation(length, direction=side)
    ours = cut(whole, length, (1, 1), side)  # type: ignore[arg-type]
    assert ours.tolist() == tokenizer.encode(text).ids


@given(rows, st.integers(1, 8))
def test_heaviest(content: list[dict[int, float]], most: int) -> None:
    for row, kept in zip(content, as_dicts(heaviest(batch_of(content), most)), strict=True):
        best = sorted(row.items(), key=lambda item: (-item[1], item[0]))[:most]
        assert kept == dict(best)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [1, 5, 16])
def test_active_dims_are_what_is_stored(kind: str, most: int, tiny: Path) -> None:
    texts = ["cat dog red sun moon green search index " * 8, "cat", ""]
    options = {"lexical_weight": 2.0, "mean_weight": 0.5, "average_length": 20.0, **KINDS[kind]}
    encoder = load(str(tiny / "router"), max_active_dims=most, **options)
    dims = encoder.encode_content(texts).active_dims().tolist()
    assert dims[0] == most and 0 < dims[1] <= most and not dims[2]
    # in an index that was made before, the number is that of the model's own terms
    own = load(str(tiny / "router"), max_active_dims=most, active_dims_of="model", **options)
    assert own.identity.active_dims_of == "model" != encoder.identity.active_dims_of
    assert own.encode_content(texts).active_dims()[0] > most


@pytest.mark.parametrize(
    ("token", "silent"),
    [
        ("what", True), ("Ġwhat", True), ("▁The", True), ("?", True), ("##s", True), ("7", True),
        ("2024", True), ("##19", True), ("...", True), ("x", True), ("é", True), ("я", True),
        ("cat", False), ("##ing", False), ("b12", False), ("日", False), ("の", False),
        ("outlook", False), ("Ġ", True),
    ],
)  # fmt: skip
def test_what_says_nothing(token: str, silent: bool) -> None:
    assert keeps_no_expansion(Vocabulary([token], set())).tolist() == [silent]


@settings(max_examples=10)
@given(texts=TEXTS)
def test_masked_expansion(texts: list[str], tiny: Path) -> None:
    plain = load(str(tiny / "bert"))
    masked = load(str(tiny / "bert"), mask_expansion=True)
    silent = keeps_no_expansion(plain.vocabulary)
    expected = plain.encode_content(texts).to_dense()
    for row, ids in zip(expected, plain.tokenize(texts), strict=True):
        absent = np.ones(len(row), bool)
        absent[ids] = False
        row[silent & absent] = 0
    np.testing.assert_array_equal(masked.encode_content(texts).to_dense(), expected)
    assert masked.identity.difference(plain.identity)


def test_nothing_is_masked_in_nothing(tiny: Path) -> None:
    masked = load(str(tiny / "bert"), mask_expansion=True)
    assert len(masked.encode_content([])) == 0
    assert masked.encode_content([""]).active_dims().tolist() == [0]
    assert isinstance(masked.encode_content([""]), SparseBatch)
