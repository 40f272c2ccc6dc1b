"""Tiny tokenizers of many classes, made by transformers itself from vocabularies trained here."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE, Unigram, WordPiece

from splade_os.encoding.tokenizer.check import PROBES

_TEXTS = [*PROBES, *PROBES, "the river bank of the old town", "search engine index documents"] * 3
_BRACKETS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ANGLES = ["<s>", "<pad>", "</s>", "<unk>"]
_ALBERT = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
_DEBERTA = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]

# class of transformers → model_type, kind of vocabulary, first tokens of the vocabulary
CLASSES: dict[str, tuple[str, str, list[str]]] = {
    "BertTokenizer": ("bert", "WordPiece", _BRACKETS),
    "DistilBertTokenizer": ("distilbert", "WordPiece", _BRACKETS),
    "ElectraTokenizer": ("electra", "WordPiece", _BRACKETS),
    "MPNetTokenizer": ("mpnet", "WordPiece", ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]),
    "FunnelTokenizer": (
        "funnel",
        "WordPiece",
        ["<pad>", "<unk>", "<cls>", "<sep>", "<mask>", "<s>", "</s>"],
    ),
    "ConvBertTokenizer": ("convbert", "WordPiece", _BRACKETS),
    "RobertaTokenizer": ("roberta", "BPE", [*_ANGLES, "<mask>"]),
    "LongformerTokenizer": ("longformer", "BPE", [*_ANGLES, "<mask>"]),
    "DebertaTokenizer": ("deberta", "BPE", _DEBERTA),
    "GPT2Tokenizer": ("gpt2", "BPE", ["<|endoftext|>"]),
    "XLMRobertaTokenizer": ("xlm-roberta", "Unigram", [*_ANGLES, "<mask>"]),
    "CamembertTokenizer": ("camembert", "Unigram", [*_ANGLES, "<mask>"]),
    "AlbertTokenizer": ("albert", "Unigram", _ALBERT),
    "FNetTokenizer": ("fnet", "Unigram", _ALBERT),
    "RemBertTokenizer": ("rembert", "Unigram", ["<pad>", "[CLS]", "<unk>", "[SEP]", "[MASK]"]),
    "DebertaV2Tokenizer": ("deberta-v2", "Unigram", _DEBERTA),
    "BigBirdTokenizer": ("big_bird", "Unigram", [*_ANGLES, "[CLS]", "[SEP]", "[MASK]"]),
    "GemmaTokenizer": ("modernbert", "BPE-space", ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]),
}
"""Classes whose ids are made without transformers."""


@cache
def _trained(kind: str, first: tuple[str, ...]) -> dict[str, Any]:
    """The model part of a tokenizer.json."""
    common: dict[str, Any] = {"special_tokens": list(first), "show_progress": False}
    if kind == "WordPiece":
        tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=900, limit_alphabet=500, **common)
    elif kind == "BPE":
        tokenizer = Tokenizer(BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, **common)
    elif kind == "BPE-space":
        tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        trainer = trainers.BpeTrainer(vocab_size=600, limit_alphabet=150, **common)
    else:
        tokenizer = Tokenizer(Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        unknown = next(token for token in first if "unk" in token.lower())
        trainer = trainers.UnigramTrainer(vocab_size=500, unk_token=unknown, **common)
    tokenizer.train_from_iterator(_TEXTS, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def vocabulary(name: str) -> Any:
    """The trained vocabulary of a class; `merges` has the rest of a BPE."""
    _, kind, first = CLASSES[name]
    vocab = _trained(kind, tuple(first))["vocab"]
    return [tuple(entry) for entry in vocab] if kind == "Unigram" else dict(vocab)


def merges(name: str) -> list[tuple[str, str]]:
    """Merges of a BPE class."""
    _, kind, first = CLASSES[name]
    return [tuple(pair) for pair in _trained(kind, tuple(first))["merges"]]


def make(name: str, folder: Path, **settings: Any) -> Path:
    """A folder with config.json, tokenizer.json and tokenizer_config.json as transformers saves
    them."""
    model_type, kind, _ = CLASSES[name]
    own = {"merges": merges(name)} if kind.startswith("BPE") else {}
    build: Callable[..., Any] = getattr(transformers, name)
    tokenizer = build(vocab=vocabulary(name), model_max_length=64, **own, **settings)
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder
