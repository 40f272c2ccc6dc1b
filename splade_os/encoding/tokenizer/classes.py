"""What the tokenizer classes of transformers 5 build, whatever ``tokenizer.json`` says.

A class with a rule takes only the vocabulary of the file; normalizer, pre-tokenizer, options of the
model and special tokens come from ``tokenizer_config.json`` and the defaults of the class
(``transformers/models/*/tokenization_*.py``, ``__init__``). Here they are the JSON of
``tokenizers``, so that no transformers is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from splade_os.errors import ModelError

Json = dict[str, Any]

ALIASES = {
    "BartTokenizer": "RobertaTokenizer",
    "ElectraTokenizer": "BertTokenizer",
    "LEDTokenizer": "RobertaTokenizer",
    "LayoutLMTokenizer": "BertTokenizer",
    "LongformerTokenizer": "RobertaTokenizer",
    "LxmertTokenizer": "BertTokenizer",
    "MobileBertTokenizer": "BertTokenizer",
    "SqueezeBertTokenizer": "BertTokenizer",
}
"""Names under which transformers gives another class."""
SLOW = frozenset({"BertJapaneseTokenizer"})
"""Classes that no ``tokenizer.json`` can hold."""


class Settings:
    """``tokenizer_config.json`` as keyword arguments of a class.

    Raises:
        ModelError: a value is of the wrong type.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self._config, self._where = config, where

    def flag(self, name: str, default: bool) -> bool:
        """A boolean."""
        value = self._config.get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def optional_flag(self, name: str) -> bool | None:
        """A boolean, or ``None``."""
        return None if self._config.get(name) is None else self.flag(name, False)

    def number(self, name: str, default: int) -> int:
        """A whole number."""
        value = self._config.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
            raise self.wrong(name, "a token id")
        return value

    def wrong(self, name: str, wanted: str) -> ModelError:
        """The error of a value that is of the wrong type."""
        return ModelError(
            f"{self._where}: {name} is {self._config.get(name)!r}, not {wanted}.",
            hint="Download or save the model again.",
        )


class Pieces(NamedTuple):
    """Parts of a ``tokenizer.json``; ``model`` without vocabulary and merges."""

    normalizer: Json | None
    pre_tokenizer: Json | None
    model: Json


@dataclass(frozen=True)
class Rule:
    """What a class builds.

    Attributes:
        model: kind of the vocabulary.
        tokens: default of each special token, by its name in the configuration.
        affixes: names of the tokens before and after a text; ``None`` = as in the file.
        pieces: from settings, special tokens and the model and normalizer of the file;
            ``None`` = all as in the file.
        extra: default of ``extra_special_tokens``.
        flags: of special tokens that are given as plain strings.
    """

    model: str
    tokens: Mapping[str, str]
    affixes: tuple[str, str] | None
    pieces: Callable[[Settings, Mapping[str, str], Json, Any], Pieces] | None
    extra: tuple[str, ...] = ()
    flags: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)


def _names(cls: str, sep: str, unk: str, pad: str, mask: str, bos: str = "", eos: str = "") -> Json:
    names = {
        "bos_token": bos,
        "eos_token": eos,
        "unk_token": unk,
        "sep_token": sep,
        "pad_token": pad,
        "cls_token": cls,
        "mask_token": mask,
    }
    return {key: name for key, name in names.items() if name}


_BRACKETS = _names("[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]")
_ANGLES = _names("<s>", "</s>", "<unk>", "<pad>", "<mask>", "<s>", "</s>")
_ALBERT = _names("[CLS]", "[SEP]", "<unk>", "<pad>", "[MASK]", "[CLS]", "[SEP]")
_DEBERTA = _names("[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]", "[CLS]", "[SEP]")
_FUNNEL = _names("<cls>", "<sep>", "<unk>", "<pad>", "<mask>", "<s>", "</s>")
_CLS, _BOS = ("cls_token", "sep_token"), ("bos_token", "eos_token")
_END_OF_TEXT = "<|endoftext|>"


def _metaspace(scheme: str) -> Json:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}


def _replace(pattern: Json, content: str) -> Json:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _sequence(kind: str, parts: Sequence[Json]) -> Json:
    return {"type": "Sequence", kind: list(parts)}


_QUOTES = (_replace({"String": "``"}, '"'), _replace({"String": "''"}, '"'))
_WORDS = {"type": "WhitespaceSplit"}


def _bert(settings: Settings, tokens: Mapping[str, str], model: Json, normalizer: Any) -> Pieces:
    del model, normalizer
    return Pieces(
        {
            "type": "BertNormalizer",
            "clean_text": settings.flag("clean_text", True),
            "handle_chinese_chars": settings.flag("tokenize_chinese_chars", True),
            "strip_accents": settings.optional_flag("strip_accents"),
            "lowercase": settings.flag("do_lower_case", True),
        },
        {"type": "BertPreTokenizer"},
        {
            "type": "WordPiece",
            "unk_token": tokens["unk_token"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
    )


def _bert_cleaned(
    settings: Settings, tokens: Mapping[str, str], model: Json, normalizer: Any
) -> Pieces:
    """`_bert` of the classes that have no ``clean_text``."""
    pieces = _bert(settings, tokens, model, normalizer)
    return pieces._replace(normalizer={**(pieces.normalizer or {}), "clean_text": True})


def _byte_level(
    settings: Settings, tokens: Mapping[str, str], model: Json, normalizer: Any
) -> Pieces:
    del tokens, model, normalizer
    return Pieces(
        None,
        {
            "type": "ByteLevel",
            "add_prefix_space": settings.flag("add_prefix_space", False),
            "trim_offsets": True,
            "use_regex": True,
        },
        {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
        },
    )


def _unigram(unk_id: int) -> Json:
    return {"type": "Unigram", "unk_id": unk_id, "byte_fallback": False}


def _prefix_space(settings: Settings, otherwise: str = "never") -> str:
    return "always" if settings.flag("add_prefix_space", True) else otherwise


def _charsmap(normalizer: Any) -> list[Json]:
    """SentencePiece's own normalisation, as the file has it."""
    if not isinstance(normalizer, dict):
        return []
    nested = normalizer.get("normalizers")
    parts = nested if normalizer.get("type") == "Sequence" else [normalizer]
    if not isinstance(parts, list):
        return []
    own = [p for p in parts if isinstance(p, dict) and p.get("type") == "Precompiled"]
    return own[:1]


def _position(model: Json, token: str, otherwise: int, score: float | None = 0.0) -> int:
    """Where a token stands in a Unigram vocabulary, with this score or (``None``) any."""
    for i, entry in enumerate(model["vocab"]):
        if entry[0] == token and (score is None or entry[1] == score):
            return i
    return otherwise


def _xlm_roberta(
    settings: Settings, tokens: Mapping[str, str], model: Json, normalizer: Any
) -> Pieces:
    del tokens, model
    own = _charsmap(normalizer)
    words = _sequence("pretokenizers", [_WORDS, _metaspace(_prefix_space(settings))])
    return Pieces(own[0] if own else None, words, _unigram(3))


def _camembert(
    settings: Settings, tokens: Mapping[str, str], model: Json, normalizer: Any
) -> Pieces:
    pieces = _xlm_roberta(settings, tokens, model, normalizer)
    return pieces._replace(model=_unigram(_position(model, tokens["unk_token"], 0, None)))


def _albert(settings: Settings, tokens: Mapping[str, str], model: Json, normalizer: Any) -> Pieces:
    del tokens, model
    steps = list(_QUOTES)
    if not settings.flag("keep_accents", False):
        steps += [{"type": "NFKD"}, {"type": "StripAccents"}]
    if settings.flag("do_lower_case", True):
        steps.append({"type": "Lowercase"})
    words = _sequence("pretokenizers", [_WORDS, _metaspace(_prefix_space(settings))])
    return Pieces(_sequence("normalizers", steps + _charsmap(normalizer)), words, _unigram(1))


def _rembert(settings: Settings, tokens: Mapping[str, str], model: Json, normalizer: Any) -> Pieces:
    del tokens, model
    steps = [*_QUOTES, _replace({"Regex": " {2,}"}, " ")]
    if not settings.flag("keep_accents", True):
        steps += [{"type": "NFKD"}, {"type": "StripAccents"}]
    if settings.flag("do_lower_case", False):
        steps.append({"type": "Lowercase"})
    normal = _sequence("normalizers", steps + _charsmap(normalizer))
    return Pieces(normal, _metaspace(_prefix_space(settings)), _unigram(2))


def _deberta_v2(
    settings: Settings, tokens: Mapping[str, str], model: Json, normalizer: Any
) -> Pieces:
    del normalizer
    steps: list[Json] = [{"type": "Lowercase"}] if settings.flag("do_lower_case", False) else []
    steps += [
        _replace({"Regex": r"\s{2,}|[\n\r\t]"}, " "),
        {"type": "NFC"},
        {"type": "Strip", "strip_left": False, "strip_right": True},
    ]
    words: list[Json] = []
    if settings.flag("split_by_punct", False):
        words.append({"type": "Punctuation", "behavior": "Isolated"})
    words.append(_metaspace(_prefix_space(settings, "first")))
    unknown = _position(model, tokens["unk_token"], settings.number("unk_id", 1))
    return Pieces(
        _sequence("normalizers", steps), _sequence("pretokenizers", words), _unigram(unknown)
    )


def _big_bird(
    settings: Settings, tokens: Mapping[str, str], model: Json, normalizer: Any
) -> Pieces:
    del normalizer
    steps = [
        {"type": "Strip", "strip_left": False, "strip_right": False},
        _replace({"Regex": " {2,}"}, "▁"),
    ]
    unknown = _position(model, tokens["unk_token"], 100)
    return Pieces(
        _sequence("normalizers", steps), _metaspace(_prefix_space(settings)), _unigram(unknown)
    )


def _gemma(settings: Settings, tokens: Mapping[str, str], model: Json, normalizer: Any) -> Pieces:
    del settings, model, normalizer
    return Pieces(
        _replace({"String": " "}, "▁"),
        {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        {
            "type": "BPE",
            "dropout": None,
            "unk_token": tokens["unk_token"],
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
        },
    )


_MASK_TAKES_THE_SPACE = {"mask_token": {"lstrip": True}}

RULES: dict[str, Rule] = {
    "BertTokenizer": Rule("WordPiece", _BRACKETS, _CLS, _bert_cleaned),
    "DistilBertTokenizer": Rule("WordPiece", _BRACKETS, _CLS, _bert_cleaned),
    "FunnelTokenizer": Rule("WordPiece", _FUNNEL, _CLS, _bert),
    "MPNetTokenizer": Rule(
        "WordPiece",
        {**_ANGLES, "unk_token": "[UNK]"},
        _CLS,
        _bert_cleaned,
        flags=_MASK_TAKES_THE_SPACE,
    ),
    "RobertaTokenizer": Rule("BPE", _ANGLES, _CLS, _byte_level),
    "DebertaTokenizer": Rule("BPE", _DEBERTA, _CLS, _byte_level),
    "GPT2Tokenizer": Rule(
        "BPE",
        dict.fromkeys(("bos_token", "eos_token", "unk_token"), _END_OF_TEXT),
        None,
        _byte_level,
    ),
    "GemmaTokenizer": Rule(
        "BPE",
        {
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "mask_token": "<mask>",
        },
        None,
        _gemma,
    ),
    "XLMRobertaTokenizer": Rule("Unigram", _ANGLES, _BOS, _xlm_roberta),
    "CamembertTokenizer": Rule(
        "Unigram",
        _ANGLES,
        _BOS,
        _camembert,
        extra=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
        flags=_MASK_TAKES_THE_SPACE,
    ),
    "AlbertTokenizer": Rule("Unigram", _ALBERT, None, _albert),
    "RemBertTokenizer": Rule("Unigram", _ALBERT, _CLS, _rembert),
    "DebertaV2Tokenizer": Rule("Unigram", _DEBERTA, _CLS, _deberta_v2),
    "BigBirdTokenizer": Rule(
        "Unigram",
        _names("[CLS]", "[SEP]", "<unk>", "<pad>", "[MASK]", "<s>", "</s>"),
        _CLS,
        _big_bird,
        flags=_MASK_TAKES_THE_SPACE,
    ),
    # subclasses without an __init__ of their own: the file, and the special tokens of the parent
    "ConvBertTokenizer": Rule("WordPiece", _BRACKETS, _CLS, None),
    "FNetTokenizer": Rule("Unigram", _ALBERT, None, None),
}
