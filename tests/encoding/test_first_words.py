"""The first word of a text, against the tokenizer's own cut of the text behind a space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SparseEncoder
from tokenizers import Tokenizer

from splade_os.encoding import DocumentEncoder
from splade_os.encoding.first_words import (
    FirstWords,
    space_before,
    splits_first_words,
    with_leading_space,
)
from splade_os.encoding.idf import IdfTable
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.errors import SettingsError
from splade_os.evaluation.memory import corpus_statistics
from splade_os.identity import ModelIdentity
from splade_os.ingest.documents.records import Record
from tests import tiny_models
from tests.encoding import spaced_tokenizers
from tests.encoding.spaced_models import symmetric

ODD = " \t\n\r\x00\x1c\u00a0\u2028\u0301'.,;(-12estriver日本の川🙃\u200d\ufeffÜé▁ĠĊ"
TEXTS = st.text(st.one_of(st.sampled_from(ODD), st.characters(exclude_categories=["Cs"])))
SPACED = st.lists(st.one_of(st.sampled_from([" ", " the", "river ", "\n", " (a"]), TEXTS))


def open_tokenizer(folder: Path, shape: str, **options: Any) -> TextTokenizer:
    spaced_tokenizers.save(spaced_tokenizers.tokenizer(shape), folder)
    given = {"max_length": None, "lowercase": False, "special_tokens": False, **options}
    return TextTokenizer(folder, **given)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[TextTokenizer, FirstWords]]:
    folder = tmp_path_factory.mktemp("split")
    opened = {s: open_tokenizer(folder / s, s) for s in spaced_tokenizers.SPLIT}
    return {shape: (each, FirstWords(each)) for shape, each in opened.items()}


@pytest.mark.parametrize("special", [True, False], ids=["special tokens", "bare"])
@pytest.mark.parametrize("shape", [*spaced_tokenizers.SPLIT, *spaced_tokenizers.WHOLE])
def test_which_tokenizers_do(shape: str, special: bool, tmp_path: Path) -> None:
    opened = open_tokenizer(tmp_path, shape, special_tokens=special)
    assert splits_first_words(opened) is (shape in spaced_tokenizers.SPLIT)


@pytest.mark.parametrize("shape", spaced_tokenizers.SPLIT)
@settings(max_examples=400)
@given(pieces=SPACED)
def test_any_text(
    split: dict[str, tuple[TextTokenizer, FirstWords]], shape: str, pieces: list[str]
) -> None:
    tokenizer, first_words = split[shape]
    text = "".join(pieces)
    special = tokenizer.vocabulary().special_ids
    plain, spaced = tokenizer([text, with_leading_space(text)])
    if set(plain.tolist()) & special:
        return  # a text without its special tokens is another text
    if tokenizer([with_leading_space(text)])[0].size == 0:
        return  # blank
    for _ in range(2):  # made, and remembered
        assert first_words(plain).tolist() == spaced.tolist()


@pytest.mark.parametrize("shape", spaced_tokenizers.SPLIT)
def test_a_word_is_the_same_everywhere(
    split: dict[str, tuple[TextTokenizer, FirstWords]], shape: str
) -> None:
    tokenizer, first_words = split[shape]
    inside, alone = tokenizer(["the river", "river"])
    assert alone.tolist() != inside[-1:].tolist() == first_words(alone).tolist()
    for text in ("", " ", "\n\n", "\t "):
        (ids,) = tokenizer([text])
        assert first_words(ids).tolist() == ids.tolist()


@pytest.mark.parametrize("shape", spaced_tokenizers.SPLIT)
def test_cut_texts(shape: str, tmp_path: Path) -> None:
    """What was cut, even within a character, is still the same text."""
    texts = ["river " * 30, "日本の川" * 20, "🙃" * 20, "the 日本の川" * 9]
    whole = open_tokenizer(tmp_path, shape)
    first_words = FirstWords(whole)
    decode = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).decode
    for text, ids in zip(texts, whole(texts), strict=True):
        for length in range(1, 40):
            got = first_words(ids[:length])
            assert decode(got.tolist()).lstrip() == decode(ids[:length].tolist()).lstrip(), text


def test_prompt_and_text() -> None:
    assert with_leading_space(" \nriver") == " river"
    assert with_leading_space("", "query: ") == "query: "
    assert with_leading_space(" river", "query:") == " query: river"
    assert with_leading_space("river", " query: ") == " query: river"
    assert space_before() == " " and with_leading_space("\t") == ""


DOCUMENTS = [f"a boat of the river {'and' * (i % 3)}" for i in range(99)] + ["river banks"]


@pytest.mark.parametrize("shape", ["roberta", "modernbert"])
def test_idf_queries(shape: str, tmp_path: Path) -> None:
    """One document of a hundred begins with the word; the query is the word alone."""
    model = str(symmetric(shape, tmp_path / shape))
    encoder = DocumentEncoder.load(model, device="cpu")
    assert encoder.identity.leading_space
    records = [Record(i, "t", f"d{i}", text, {}) for i, text in enumerate(DOCUMENTS, 1)]
    statistics = corpus_statistics(records, encoder)
    (river,) = encoder._tokenizer(["a river"])[0][2:-1].tolist()
    assert statistics.frequencies[river] == 100
    query = IdfQueryEncoder.load(model, statistics)
    oracle = IdfTable.from_statistics(statistics, query.vocabulary).weights
    ids, weights = query.encode(["river"]).row(0)
    assert (ids.tolist(), weights.tolist()) == ([river], [oracle[river]])
    assert query.encode([" river", "\nriver"]).row(1)[0].tolist() == [river]
    # as it was, for an index that was counted so
    old = IdfQueryEncoder.load(model, statistics, leading_space=False)
    assert river not in old.encode(["river"]).row(0)[0].tolist()
    before = DocumentEncoder.load(model, device="cpu", leading_space=False)
    assert corpus_statistics(records, before).frequencies[river] == 99


def test_vectors_stay(tmp_path: Path) -> None:
    """sentence-transformers is the oracle of the vectors, with the option and without."""
    model = str(symmetric("roberta", tmp_path / "model"))
    texts = ["river banks", " river", "the river", ""]
    oracle = SparseEncoder(model, device="cpu").encode_document(texts).to_dense().numpy()
    for spaced in (None, False):
        encoder = DocumentEncoder.load(model, device="cpu", leading_space=spaced)
        np.testing.assert_allclose(encoder.encode(texts).to_dense(), oracle, atol=1e-5)


def test_lexical_prior(tmp_path: Path) -> None:
    model = str(symmetric("roberta", tmp_path / "model"))
    load = DocumentEncoder.load
    spaced = load(model, device="cpu", lexical_weight=2.0)
    before = load(model, device="cpu", lexical_weight=2.0, leading_space=False)
    bare = load(model, device="cpu")
    (river,) = bare._tokenizer(["a river"])[0][2:-1].tolist()
    (first,) = bare._tokenizer(["river"])[0][1:-1].tolist()
    gained = [e.encode(["river"]).to_dense()[0] - bare.encode(["river"]).to_dense()[0]
              for e in (spaced, before)]  # fmt: skip
    assert gained[0][river] > 0 == gained[0][first]
    assert gained[1][first] > 0 == gained[1][river]
    # those vectors differ, so that one index takes only one of them
    assert "leading space" in (spaced.identity.difference(before.identity) or "")
    assert bare.identity.difference(load(model, device="cpu", leading_space=False).identity) is None


def test_the_table_of_a_model(tiny: Path) -> None:
    """Never of a model that learned one; and never where there is nothing to tell apart."""
    with pytest.raises(SettingsError, match="table of its own"):
        DocumentEncoder.load(str(tiny / "router"), device="cpu", leading_space=True)
    for kind in ("router", "bert"):
        assert not DocumentEncoder.load(str(tiny / kind), device="cpu").identity.leading_space


def test_a_table_of_a_model_with_such_a_tokenizer(tmp_path: Path) -> None:
    """A model of granite's kind that learned its table without a space."""
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding

    document = SparseEncoder(str(symmetric("roberta", tmp_path / "base")), device="cpu")
    width = len(document.tokenizer)
    static = SparseStaticEmbedding(tokenizer=document.tokenizer, weight=torch.rand(width) * 8)
    modules = tiny_models.Router.for_query_document(
        query_modules=[static], document_modules=list(document.children())
    )
    whole = SparseEncoder(modules=[modules], device="cpu")
    whole.save_pretrained(str(tmp_path / "model"))
    texts = ["river banks", "the river"]
    got = IdfQueryEncoder.load(str(tmp_path / "model")).encode(texts).to_dense()
    np.testing.assert_allclose(got, whole.encode_query(texts).to_dense().numpy(), atol=1e-6)
    assert not DocumentEncoder.load(str(tmp_path / "model"), device="cpu").identity.leading_space


def test_old_records_say_no(tiny: Path) -> None:
    identity = DocumentEncoder.load(str(tiny / "bert"), device="cpu").identity
    record = json.loads(identity.model_dump_json())
    del record["leading_space"]
    assert ModelIdentity(**record).leading_space is False
