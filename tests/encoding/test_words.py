"""Word by word, the ids of a text are those of the tokenizer: its own output is the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splade_os.encoding.query import IdfQueryEncoder
from splade_os.encoding.words import WordTokens, word_tokens

ODD = " \t\n\x00\x1c\u00a0\u2028\u0301\u0345\u0391Σς.É日本İß[SEP]#[UNK]'-_🙃\u200d\ufeff"
TEXTS = st.text(st.one_of(st.sampled_from(ODD), st.characters(exclude_categories=["Cs"])))


@pytest.fixture(scope="module")
def encoder(tiny: Path) -> IdfQueryEncoder:
    return IdfQueryEncoder.load(str(tiny / "router"))


@settings(max_examples=1000, deadline=None)
@given(texts=st.lists(TEXTS, max_size=5))
def test_any_text(encoder: IdfQueryEncoder, texts: list[str]) -> None:
    words = word_tokens(encoder.tokenizer)
    assert words is not None
    for text in [*texts, " ".join(texts)]:
        for _ in range(2):  # made, and remembered
            assert words.of(text) == encoder.tokenizer([text])[0].tolist()


def test_long_texts_are_cut_at_the_same_place(encoder: IdfQueryEncoder) -> None:
    words = word_tokens(encoder.tokenizer)
    assert words is not None
    for count in range(20, 80):
        text = " ".join(["cat"] * count + ["dog moon search"])
        assert words.of(text) == encoder.tokenizer([text])[0].tolist()


def test_memory_is_bounded(encoder: IdfQueryEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splade_os.encoding.words._MOST_WORDS", 10)
    words = WordTokens(encoder.tokenizer, None)
    for i in range(100):
        words.of(f"w{i} cat {'x' * 1000}{i}")
        assert len(words) <= 10


def test_other_tokenizers_are_left_alone(encoder: IdfQueryEncoder) -> None:
    class Other:
        convertible = True

        def __init__(self, **parts: object) -> None:
            self._parts = encoder.tokenizer.to_json() | parts

        def to_json(self) -> dict[str, object]:
            return self._parts

    assert word_tokens(Other()) is not None  # type: ignore[arg-type]
    for parts in (
        {"normalizer": None},
        {"normalizer": {"type": "NFKC"}},
        {"pre_tokenizer": {"type": "Metaspace"}},
        {"pre_tokenizer": None},
        {"model": {"type": "BPE"}},
        {"added_tokens": [{"content": "two words"}]},
    ):
        assert word_tokens(Other(**parts)) is None  # type: ignore[arg-type]
