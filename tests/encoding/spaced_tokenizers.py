"""Tokenizers of the shapes that models have, trained on the spot by `tokenizers`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

CORPUS = [
    "the river runs to the sea, and the boats go down the river",
    "a small river in the north of the country",
    "The River Thames; (river) is one of the rivers of England",
    "cats and dogs in the garden, 12 of them and 1 more: e s t",
    "Über die Brücke, naïve café, 日本の川 강의 река в море 🙃",
] * 40
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
# of Llama 3 and its descendants
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLIT = ("roberta", "modernbert", "llama3", "gemma")
"""``river`` and `` river`` are two tokens."""
WHOLE = ("roberta-prefix", "wordpiece", "metaspace", "unigram", "characters", "whitespace")
"""They are one, or the space is a token by itself."""


def tokenizer(
    shape: str, corpus: Iterable[str] = CORPUS, size: int = 700, special: bool = True
) -> Tokenizer:
    """A trained tokenizer; ``special``: it puts a text between ``<s>`` and ``</s>``."""
    made = Tokenizer(models.BPE())
    if shape in ("roberta", "modernbert", "roberta-prefix"):
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=shape == "roberta-prefix")
        made.decoder = decoders.ByteLevel()
        if shape == "modernbert":
            made.normalizer = normalizers.NFC()
    elif shape == "llama3":
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        made.decoder = decoders.ByteLevel()
    elif shape == "gemma":
        made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        made.normalizer = normalizers.Replace(" ", "▁")
        made.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
    elif shape == "wordpiece":
        made = Tokenizer(models.WordPiece(unk_token="<unk>"))
        made.normalizer = normalizers.BertNormalizer()
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    elif shape in ("metaspace", "unigram"):
        if shape == "unigram":
            made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        made.decoder = decoders.Metaspace()
    elif shape == "characters":
        made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    else:
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.train_from_iterator(corpus, _trainer(made, shape, size))
    if special:
        ends = [(name, made.token_to_id(name)) for name in ("<s>", "</s>")]
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=ends
        )
    return made


def _trainer(made: Tokenizer, shape: str, size: int) -> trainers.Trainer:
    if shape == "wordpiece":
        return trainers.WordPieceTrainer(
            vocab_size=size, special_tokens=SPECIAL, show_progress=False
        )
    if shape == "unigram":
        return trainers.UnigramTrainer(
            vocab_size=size, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        )
    byte_level = shape in ("roberta", "roberta-prefix", "modernbert", "llama3")
    fallback = [f"<0x{i:02X}>" for i in range(256)] if shape == "gemma" else []
    return trainers.BpeTrainer(
        vocab_size=size + len(fallback),
        special_tokens=[*SPECIAL, *fallback],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if byte_level else [],
        show_progress=False,
    )


def save(made: Tokenizer, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    return folder
