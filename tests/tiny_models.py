"""Tiny random SPLADE models of every shape and era, saved by sentence-transformers itself.

The eras that it no longer writes are made from its own folder by moving files and rewriting
JSON; weights stay the same, so its output on the new folder is the oracle for the old one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file, save_file
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding
from tokenizers import BertWordPieceTokenizer
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    PreTrainedTokenizerFast,
)

try:
    from sentence_transformers.base.modules import Router
except ImportError:
    from sentence_transformers.models import Router

MAX_LENGTH = 48
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "a",
    "for",
    "that",
    "with",
    "on",
    "as",
    "by",
    "this",
    "it",
    "from",
    "at",
    "an",
    "be",
    "are",
    "search",
    "engine",
    "index",
    "document",
    "query",
    "term",
    "weight",
    "sparse",
    "vector",
    "learned",
    "retrieval",
    "model",
    "encode",
    "token",
    "score",
    "rank",
    "shard",
    "node",
    "cluster",
    "field",
    "mapping",
    "bulk",
    "ingest",
    "read",
    "write",
    "file",
    "line",
    "text",
    "word",
    "red",
    "green",
    "blue",
    "cat",
    "dog",
    "bird",
    "fish",
    "house",
    "tree",
    "river",
    "sun",
    "moon",
    "star",
    "night",
    "day",
    "small",
    "large",
    "old",
    "new",
    "fast",
    "slow",
]
_SUFFIXES = ["s", "ed", "ing", "er", "ly", "tion", "ness", "ment", "able", "al"]
TEXTS = [
    "The search engine ranks documents by their sparse vectors.",
    "",
    "cat",
    "日本語 ☃ 🙃",  # unknown characters only
    "A CAT and\na dog;\tone... two. 100% of it! " * 3,
    "learned sparse retrieval " * 100,
    "cat",
    "Ünïcode, naïve café",
    "[CLS] [MASK] in the text",
]


def vocabulary() -> list[str]:
    pieces = [*_LETTERS, *(f"##{c}" for c in _LETTERS), *(f"##{s}" for s in _SUFFIXES)]
    marks = [*"!%,;:'-()?", ".", "...", "##."]
    return [*_SPECIAL, *dict.fromkeys([*pieces, *marks, *_WORDS])]


def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    file = folder / "vocab.txt"
    file.write_text("\n".join(vocabulary()) + "\n")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=BertWordPieceTokenizer(str(file), lowercase=True)._tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=MAX_LENGTH,
    )
    file.unlink()
    return fast


def masked_lm(family: str, folder: Path, seed: int = 7) -> Path:
    """A plain masked-LM checkpoint with some thirty to a hundred active dimensions."""
    torch.manual_seed(seed)
    size = len(vocabulary())
    if family == "bert":
        model: Any = BertForMaskedLM(
            BertConfig(
                vocab_size=size,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=64,
                initializer_range=0.3,
            )
        )
        bias = model.cls.predictions.bias
    else:
        model = DistilBertForMaskedLM(
            DistilBertConfig(
                vocab_size=size,
                dim=32,
                n_layers=2,
                n_heads=2,
                hidden_dim=64,
                max_position_embeddings=64,
                initializer_range=0.3,
            )
        )
        bias = model.vocab_projector.bias
    with torch.no_grad():
        bias.normal_(-2.0 if family == "bert" else -4.0, 1.0)
    folder.mkdir(parents=True)
    model.eval().save_pretrained(folder)
    tokenizer(folder).save_pretrained(folder)
    return folder


def plain(family: str, folder: Path, seed: int = 7) -> Path:
    """Transformer + SpladePooling, as today's sentence-transformers saves it."""
    checkpoint = masked_lm(family, folder.with_name(folder.name + "-mlm"), seed)
    SparseEncoder(str(checkpoint), device="cpu").save_pretrained(str(folder))
    return folder


def router(folder: Path) -> Path:
    """An inference-free model: static query side, DistilBERT document side."""
    checkpoint = masked_lm("distilbert", folder.with_name(folder.name + "-mlm"))
    document = SparseEncoder(str(checkpoint), device="cpu")
    torch.manual_seed(3)
    static = SparseStaticEmbedding(
        tokenizer=document.tokenizer, weight=torch.rand(len(vocabulary())) * 8
    )
    modules = Router.for_query_document(
        query_modules=[static], document_modules=list(document.children())
    )
    SparseEncoder(modules=[modules], device="cpu").save_pretrained(str(folder))
    return folder


def change(file: Path, **values: Any) -> None:
    content = json.loads(file.read_text()) if file.is_file() else {}
    content.update(values)
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def change_table(model: Path, copy: Path, where: slice, value: float) -> Path:
    """A copy of a Router whose IDF table has another weight in some places."""
    shutil.copytree(model, copy)
    file = copy / "query_0_SparseStaticEmbedding" / "model.safetensors"
    weights = load_file(file)["weight"]
    weights[where] = value
    save_file({"weight": weights}, file)
    return copy


def _old_transformer(folder: Path) -> None:
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": MAX_LENGTH, "do_lower_case": False})
    )
    change(folder / "tokenizer_config.json", model_max_length=10**30)


def plain_50(modern: Path, folder: Path) -> Path:
    """The layout of 5.0 to 5.3."""
    shutil.copytree(modern, folder)
    old = "sentence_transformers.sparse_encoder.models."
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"idx": 0, "name": "0", "path": "", "type": old + "MLMTransformer"},
                {"idx": 1, "name": "1", "path": "1_SpladePooling", "type": old + "SpladePooling"},
            ]
        )
    )
    pooling = folder / "1_SpladePooling" / "config.json"
    dimension = json.loads(pooling.read_text())["embedding_dimension"]
    change(pooling, embedding_dimension=None, word_embedding_dimension=dimension)
    _old_transformer(folder)
    return folder


def router_50(modern: Path, folder: Path, *, prerelease: bool = False, asym: bool = False) -> Path:
    """The Router of 5.0 to 5.3; ``prerelease``: its query side is still called IDF."""
    shutil.copytree(modern, folder)
    old = "sentence_transformers.sparse_encoder.models."
    static = "IDF" if prerelease else "SparseStaticEmbedding"
    query, document = f"query_0_{static}", "document_0_MLMTransformer"
    if prerelease:
        (folder / "query_0_SparseStaticEmbedding").rename(folder / query)
    (folder / "document_0_Transformer").rename(folder / document)
    router_config = {
        "types": {
            query: f"{old}{static}.{static}",
            document: f"{old}MLMTransformer.MLMTransformer",
            "document_1_SpladePooling": f"{old}SpladePooling.SpladePooling",
        },
        "structure": {"query": [query], "document": [document, "document_1_SpladePooling"]},
        "parameters": {"default_route": "document", "allow_empty_key": True},
    }
    (folder / "router_config.json").unlink()
    name = "config.json" if asym else "router_config.json"
    (folder / name).write_text(json.dumps(router_config))
    kind = "Asym" if asym else "Router"
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"sentence_transformers.models.{kind}"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    _old_transformer(folder / document)
    return folder


def idf_json(modern: Path, folder: Path) -> Path:
    """A query side that names a JSON table, as OpenSearch's doc models ship it."""
    shutil.copytree(modern, folder)
    part = folder / "query_0_SparseStaticEmbedding"
    weights = load_file(part / "model.safetensors")["weight"].tolist()
    table = dict(zip(vocabulary(), weights, strict=True))
    (folder / "idf.json").write_text(json.dumps(table))
    (part / "idf.json").write_text(json.dumps(table))
    (part / "config.json").write_text(json.dumps({"path": "idf.json"}))
    (part / "model.safetensors").unlink()
    return folder
