"""A text without content gets no vector; what is cut off is counted; texts can be normalised."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from splade_os import DocumentEncoder
from splade_os.encoding import load_query_encoder
from splade_os.encoding.text import has_content, normalized
from splade_os.encoding.tokenization import TextTokenizer

# marks that stand before a number and are seen, although Unicode calls them format characters
_SEEN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
_SEEN |= {*range(0x13430, 0x13440)}
_BLANK = [
    "",
    " \t\n\r\f\v",
    "\u00a0\u2003\u3000",
    "\u200b\u200c\u200d\u2060\ufeff",
    "\u00ad",
    "\x00\x07\x7f",
    "\ufffd\ufffd",
    "\u202a\u202c",
    "\ufe0f",
    "\u3164\u115f",
    "\u2800",
    " \u200b \u0085",
]


def test_what_unicode_calls_blank_has_no_content() -> None:
    blank = {"Cc", "Cf", "Zs", "Zl", "Zp"}
    wrong = [
        hex(i)
        for i in range(sys.maxunicode + 1)
        if unicodedata.category(chr(i)) in blank and i not in _SEEN and has_content(chr(i))
    ]
    assert not wrong


def test_what_is_seen_has_content() -> None:
    letters = {"L", "N", "P", "S"}
    blank = {0x115F, 0x1160, 0x2800, 0x3164, 0xFFA0, 0xFFFC, 0xFFFD}
    wrong = [
        hex(i)
        for i in range(sys.maxunicode + 1)
        if unicodedata.category(chr(i))[0] in letters and i not in blank and not has_content(chr(i))
    ]
    assert not wrong


@pytest.fixture(scope="module")
def encoder(tiny: Path) -> DocumentEncoder:
    return DocumentEncoder.load(str(tiny / "bert"), device="cpu", lexical_weight=1.0)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that has a token for every byte, so that nothing is unknown to it."""
    folder = tmp_path_factory.mktemp("bytes")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat and the dog in the sun"] * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("text", [*_BLANK, "日本 한국", "🙃"])
def test_a_text_without_content_has_no_vector(encoder: DocumentEncoder, text: str) -> None:
    """Blank, or of tokens that the vocabulary does not know."""
    batch = encoder.encode_content([text, "the cat", text])
    assert batch.active_dims().tolist()[::2] == [0, 0]
    assert batch.active_dims()[1] > 0
    assert not len(encoder.tokenize_documents([text])[0][0])


@pytest.mark.parametrize("text", ["the 日本", "\u200bcat\u200b", "."])
def test_what_has_some_content_is_encoded(encoder: DocumentEncoder, text: str) -> None:
    assert len(encoder.tokenize_documents([text])[0][0])


@pytest.mark.parametrize("text", _BLANK)
def test_blank_where_no_token_is_unknown(
    byte_level: Path, tiny: Path, tmp_path: Path, text: str
) -> None:
    encoder = bytes_encoder(byte_level, tiny, tmp_path)
    assert [len(ids) > 0 for ids in encoder.tokenize_documents([text, "日本"])[0]] == [False, True]


def bytes_encoder(byte_level: Path, tiny: Path, folder: Path) -> DocumentEncoder:
    """A model that is not loaded, with another tokenizer."""
    from shutil import copytree

    from tests.tiny_models import change

    model = copytree(tiny / "bert", folder / "model")
    (model / "tokenizer.json").write_bytes((byte_level / "tokenizer.json").read_bytes())
    change(model / "config.json", vocab_size=400)
    return DocumentEncoder.load(str(model), backend="none")


def test_the_prompt_alone_is_no_content(tiny: Path) -> None:
    plain = DocumentEncoder.load(str(tiny / "bert"), device="cpu")
    identity = plain.identity.model_copy(update={"prompt": "the dog "})
    prompted = DocumentEncoder(plain._backend, plain._tokenizer, identity, _choice(plain))
    texts = [*_BLANK, "日本", "cat", "the dog", "the"]
    counts = [len(ids) > 0 for ids in prompted.tokenize_documents(texts)[0]]
    assert counts == [False] * (len(_BLANK) + 1) + [True] * 3


def _choice(encoder: DocumentEncoder):  # type: ignore[no-untyped-def]
    from splade_os.encoding.choice import choose

    return choose(Path(encoder.identity.name), "cpu", "float32", "torch")


WORDS = st.lists(
    st.sampled_from(["cat", "the", "dogs", "sun.", "日本", "\u200b", "x-y", "zzz"]), max_size=60
).map(" ".join)


@given(texts=st.lists(WORDS, max_size=6), length=st.integers(3, 20), special=st.booleans())
@pytest.mark.parametrize("kind", ["word pieces", "bytes"])
def test_what_is_cut_off_is_counted(
    kind: str, byte_level: Path, tiny: Path, texts: list[str], length: int, special: bool
) -> None:
    """Kept + lost = what the tokenizer gives without a limit."""
    folder = byte_level if kind == "bytes" else tiny / "bert"
    cut = TextTokenizer(folder, max_length=length, lowercase=False, special_tokens=special)
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    plain.no_truncation()
    plain.no_padding()
    whole = [encoding.ids for encoding in plain.encode_batch(texts, add_special_tokens=special)]
    ids, lost = cut.counted(texts)
    assert [list(found) for found in ids] == [list(found) for found in cut(texts)]
    assert [len(found) + missing for found, missing in zip(ids, lost, strict=True)] == [
        len(each) for each in whole
    ]
    uncut = TextTokenizer(folder, max_length=None, lowercase=False, special_tokens=special)
    assert uncut.counted(texts)[1] == [0] * len(texts)


@given(st.text())
def test_normal_form(text: str) -> None:
    assert normalized(text, "nfkc") == unicodedata.normalize("NFKC", text)
    assert normalized(text, "none") == text


FOLDED = {
    "\uff54\uff48\uff45 \uff43\uff41\uff54": "the cat",
    "the\u00a0\uff43at": "the cat",
    "\uff44og": "dog",
}


@pytest.mark.parametrize("name", ["bert", "router"])
def test_normalised_texts_have_the_vectors_of_plain_ones(tiny: Path, name: str) -> None:
    encoder = DocumentEncoder.load(str(tiny / name), device="cpu", normalize="nfkc")
    plain = DocumentEncoder.load(str(tiny / name), device="cpu")
    assert encoder.identity.difference(plain.identity) == "normalize 'nfkc' against 'none'"
    np.testing.assert_array_equal(
        encoder.encode(list(FOLDED)).to_dense(), plain.encode(list(FOLDED.values())).to_dense()
    )
    assert not np.array_equal(
        plain.encode(list(FOLDED)).to_dense(), plain.encode(list(FOLDED.values())).to_dense()
    )
    modes = ("idf", "encoder") if name == "router" else ("encoder",)
    for mode in modes:
        options = {"device": "cpu"} if mode == "encoder" else {}
        queries = load_query_encoder(str(tiny / name), mode, normalize="nfkc", **options)  # type: ignore[arg-type]
        unfolded = load_query_encoder(str(tiny / name), mode, **options)  # type: ignore[arg-type]
        np.testing.assert_array_equal(
            queries.encode(list(FOLDED)).to_dense(),
            unfolded.encode(list(FOLDED.values())).to_dense(),
        )


def test_an_identity_without_a_form_is_as_before(tiny: Path) -> None:
    """Indices and stamps of earlier versions, which did not note it, stay what they are."""
    from splade_os.identity import NO_VECTORS, ModelIdentity
    from splade_os.ingest.documents.stamps import Stamper

    identity = DocumentEncoder.load(str(tiny / "bert"), backend="none").identity
    old = identity.model_dump(exclude={"normalize"})
    assert ModelIdentity(**old).difference(identity) is None
    assert "normalize" not in NO_VECTORS
    keys = [Stamper(identity.model_copy(update={"normalize": form}), "r")._key for form in
            ("none", "nfkc")]  # fmt: skip
    assert keys[0] != keys[1]
