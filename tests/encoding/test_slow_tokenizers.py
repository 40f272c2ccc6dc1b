"""Tokenizers that only transformers reads: run by it, or converted once into the cache."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertJapaneseTokenizer

from splade_os.encoding import DocumentEncoder, load_query_encoder
from splade_os.encoding.resolve import content_hash
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.encoding.tokenizer.check import PROBES
from splade_os.encoding.tokenizer.load import changes_of
from splade_os.errors import MissingExtraError, ModelError, SpladeError
from splade_os.export.torchscript import export_torchscript
from tests.encoding.test_tokenizers import CONFIG, assert_same
from tests.encoding.tiny_tokenizers import CLASSES
from tests.tiny_models import Router, change

SENTENCE = "東京大学の研究は日本語の文書検索エンジン"
_WORDS = ["東京", "大学", "の", "研究", "は", "日本", "語", "文書", "検索", "エンジン", "river"]
_PIECES = [*"東京大学の研究は日本語文書検索エンジン", *"abcdefghijklmnopqrstuvwxyz0123456789.,"]
TEXTS = [SENTENCE, "東京の river bank", "", "検索 " * 60, "[CLS] 日本語 [PAD] x", "🙃 ☃"]
MECAB: dict[str, Any] = {
    "word": {"word_tokenizer_type": "mecab", "mecab_kwargs": {"mecab_dic": "unidic_lite"}},
    "ipadic": {"word_tokenizer_type": "mecab", "mecab_kwargs": {"mecab_dic": "ipadic"}},
    "character": {
        "word_tokenizer_type": "mecab",
        "subword_tokenizer_type": "character",
        "mecab_kwargs": {"mecab_dic": "unidic_lite"},
    },
    "basic": {"word_tokenizer_type": "basic", "do_lower_case": True},
}


@pytest.fixture(scope="module", params=MECAB)
def japanese(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("japanese") / request.param
    return japanese_model(root, **MECAB[request.param])


def japanese_model(root: Path, **options: Any) -> Path:
    """A SparseEncoder with the tokenizer of Tohoku University's BERT models."""
    checkpoint = root / "mlm"
    checkpoint.mkdir(parents=True)
    pieces = [*_PIECES, *(f"##{piece}" for piece in _PIECES)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys([*_WORDS, *pieces])]
    (root / "vocab.txt").write_text("\n".join(tokens) + "\n")
    tokenizer = BertJapaneseTokenizer(str(root / "vocab.txt"), model_max_length=32, **options)
    torch.manual_seed(4)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokens),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=40,
            initializer_range=0.4,
        )
    )
    model.eval().save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    SparseEncoder(str(checkpoint), device="cpu").save_pretrained(str(root / "model"))
    return root / "model"


def ids(folder: Path, texts: list[str], length: int | None, special: bool) -> list[list[int]]:
    tokenizer = TextTokenizer(folder, max_length=length, lowercase=False, special_tokens=special)
    return [row.tolist() for row in tokenizer(texts)]


def test_japanese_vectors(japanese: Path) -> None:
    oracle = AutoTokenizer.from_pretrained(japanese)
    assert ids(japanese, TEXTS, 12, True) == oracle(TEXTS, truncation=True, max_length=12).input_ids
    theirs = SparseEncoder(str(japanese), device="cpu")
    encoder = DocumentEncoder.load(str(japanese), device="cpu")
    expected = theirs.encode_document(TEXTS).to_dense().numpy()
    np.testing.assert_allclose(encoder.encode(TEXTS).to_dense(), expected, atol=1e-5)
    chunked = DocumentEncoder.load(str(japanese), device="cpu", long_texts="chunk")
    assert chunked.encode(TEXTS).nnz > 0
    queries = load_query_encoder(str(japanese), "encoder")
    expected = theirs.encode_query(TEXTS).to_dense().numpy()
    np.testing.assert_allclose(queries.encode(TEXTS).to_dense(), expected, atol=1e-5)


def test_japanese_words(tmp_path: Path) -> None:
    folder = japanese_model(tmp_path, **MECAB["word"])
    vocabulary = DocumentEncoder.load(str(folder), device="cpu").vocabulary
    tokens = [vocabulary.tokens[i] for i in ids(folder, [SENTENCE], None, False)[0]]
    assert tokens[:3] == ["東京", "大学", "の"]
    assert "[UNK]" not in tokens


def test_japanese_table(japanese: Path, tmp_path: Path) -> None:
    document = SparseEncoder(str(japanese), device="cpu")
    static = SparseStaticEmbedding(tokenizer=document.tokenizer)
    torch.nn.init.uniform_(static.weight, 1, 2)
    modules = Router.for_query_document(
        query_modules=[static], document_modules=list(document.children())
    )
    model = SparseEncoder(modules=[modules], device="cpu")
    model.save_pretrained(str(tmp_path / "router"))
    expected = model.encode_query(TEXTS).to_dense().numpy()
    ours = load_query_encoder(str(tmp_path / "router")).encode(TEXTS).to_dense()
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_what_cuts_words_is_part_of_the_hash(tmp_path: Path) -> None:
    folder = japanese_model(tmp_path, **MECAB["word"])
    assert b"unidic-lite 1." in changes_of(folder)
    before = content_hash(folder)
    change(folder / CONFIG, mecab_kwargs={"mecab_dic": "ipadic"})
    assert content_hash(folder) != before


def test_japanese_in_the_engine_is_refused(japanese: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"BertJapaneseTokenizer: it runs in Python"):
        export_torchscript(str(japanese), tmp_path / "out")


def test_missing_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = japanese_model(tmp_path, **MECAB["word"])
    monkeypatch.setitem(sys.modules, "fugashi", None)
    with pytest.raises(MissingExtraError, match=r"splade-os\[japanese\]"):
        ids(folder, TEXTS, 12, True)


def test_options_of_mecab_are_not_the_models_to_choose(tmp_path: Path) -> None:
    folder = japanese_model(tmp_path, **MECAB["word"])
    change(folder / CONFIG, mecab_kwargs={"mecab_option": f"-o {tmp_path}/written"})
    with pytest.raises(ModelError, match="mecab_option"):
        ids(folder, TEXTS, 12, True)


SENTENCEPIECE = {
    "XLMRobertaTokenizer": "sentencepiece.bpe.model",
    "CamembertTokenizer": "sentencepiece.bpe.model",
    "AlbertTokenizer": "spiece.model",
    "DebertaV2Tokenizer": "spm.model",
}


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import sentencepiece

    root = tmp_path_factory.mktemp("pieces")
    corpus = root / "corpus.txt"
    lines = [line for text in PROBES for line in text.splitlines() if "\x00" not in line]
    corpus.write_text("\n".join(lines * 3))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(root / "m"),
        vocab_size=400,
        hard_vocab_limit=False,
        control_symbols=["[CLS]", "[SEP]", "[MASK]"],
    )
    return root / "m.model"


def alone(pieces: Path, folder: Path, name: str) -> Path:
    folder.mkdir()
    shutil.copy(pieces, folder / SENTENCEPIECE[name])
    (folder / CONFIG).write_text(json.dumps({"tokenizer_class": name}))
    (folder / "config.json").write_text(json.dumps({"model_type": CLASSES[name][0]}))
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPLADE_OS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_sentencepiece_alone(pieces: Path, tmp_path: Path, cache: Path, name: str) -> None:
    folder = alone(pieces, tmp_path / "model", name)
    assert_same(folder)
    assert len(list((cache / "tokenizers").iterdir())) == 1
    change(folder / CONFIG, do_lower_case=name != "AlbertTokenizer", truncation_side="left")
    assert_same(folder)


def test_converted_once(pieces: Path, tmp_path: Path, cache: Path) -> None:
    """After the first time neither transformers nor sentencepiece is needed."""
    folder = alone(pieces, tmp_path / "model", "XLMRobertaTokenizer")
    first = ids(folder, list(PROBES), 24, True)
    code = """
import json, sys
for name in ("transformers", "sentencepiece", "torch"):
    sys.modules[name] = None
from pathlib import Path
from splade_os.encoding.tokenization import TextTokenizer
tokenizer = TextTokenizer(Path(sys.argv[1]), max_length=24, lowercase=False, special_tokens=True)
print(json.dumps([row.tolist() for row in tokenizer(json.loads(sys.argv[2]))]))
"""
    probes = [text for text in PROBES if "\x00" not in text]
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), json.dumps(probes)],
        check=True,
        capture_output=True,
    )
    kept = [row for text, row in zip(PROBES, first, strict=True) if "\x00" not in text]
    assert json.loads(done.stdout) == kept


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_damaged_sentencepiece(pieces: Path, tmp_path: Path, cache: Path, damage: str) -> None:
    folder = alone(pieces, tmp_path / "model", "AlbertTokenizer")
    file = folder / SENTENCEPIECE["AlbertTokenizer"]
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[:100], "empty": b"", "other": b"<html>not here</html>"}[damage])
    with pytest.raises(SpladeError, match=str(folder)):
        ids(folder, list(PROBES), 24, True)
    assert not list(cache.glob("tokenizers/*"))
