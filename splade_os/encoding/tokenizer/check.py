# ruff: noqa: RUF001  (texts that look alike are the point)
"""Thirty texts through our tokenizer and through that of transformers: the first difference
refuses the model. A wrong token id is a wrong vector, and nothing else would ever show it."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from splade_os.encoding.tokenizer.build import reading
from splade_os.encoding.tokenizer.convert import SlowTokenizer, make
from splade_os.encoding.tokenizer.files import TokenizerFiles
from splade_os.encoding.tokenizer.load import load, stamp_of
from splade_os.errors import ModelError

_LENGTH = 24
"""Tokens after which the texts are cut, special ones included."""
PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "river",
    " river  bank ",
    "U.S.A. v1.2.3, e-mail: a.b@c.example/x?y=1&z=2",
    "It's 3:45 p.m.; we'll pay $1,234.56 (or 12%)!",
    "CamelCase snake_case ALLCAPS mIxEd",
    "naïve café Ünïcode Ångström",
    "nai\u0308ve cafe\u0301 A\u030angstro\u0308m",
    "İstanbul ISTANBUL ıI ſ ẞß ΣΊΣΥΦΟΣ",
    "ﬁ ﬂ ½ ① ２０２６ ｆｕｌｌ ㌔",
    "``quoted'' “quoted” ‘quoted’ … – —",
    "Москва — столица России",
    "Η Αθήνα είναι η πρωτεύουσα της Ελλάδας",
    "القاهرة هي عاصمة مصر، ومدينة كبيرة",
    "नई दिल्ली भारत की राजधानी है",
    "กรุงเทพมหานครเป็นเมืองหลวง",
    "東京大学の研究は日本語の文書検索エンジン",
    "北京是中华人民共和国的首都。",
    "서울은 대한민국의 수도이다",
    "ha\u0300 nội Việt Nam",
    "🙃 👩‍👩‍👧‍👦 🇺🇳 ☃️ e\u0301🙂",
    "a\x00b\x07c\x1b[0m \x7f \x85 \u200b\u200d\ufeff x",
    "tab\tnew\nline\r\nform\x0cfeed \u00a0 \u2028 \u3000",
    "[CLS] [SEP] [PAD] [MASK] [UNK] x[MASK]y",
    "<s> </s> <pad> <mask> <unk> x<mask>y  <mask> ",
    "<bos> <eos> <|endoftext|> [cls]",
    "",
    " \n\t ",
    "x" * 130,
    "one two three four five six seven eight nine ten " * 12 + "the very last words",
)
"""Six scripts and more, accents, ligatures, emoji, control characters, literal special tokens,
nothing, blanks, a word and a text that are too long."""


def check_tokenizer(folder: Path) -> None:
    """Compare a folder's tokenizer with transformers', once while its files stay the same.

    Nothing happens where transformers is not installed.

    Raises:
        ModelError: they differ in a text, which is named; or transformers cannot make it.
        MissingExtraError: a package that this tokenizer needs is not installed.
    """
    if find_spec("transformers") is not None:
        _check(folder, stamp_of(folder))


@lru_cache(256)
def _check(folder: Path, stamp: Any) -> None:
    del stamp  # part of the key
    ours = load(folder)
    if isinstance(ours, SlowTokenizer):
        return  # it is that of transformers
    theirs = make(TokenizerFiles(folder))
    texts = list(PROBES)
    ours.tokenizer.enable_truncation(_LENGTH, direction=ours.truncation_side)
    for special in (True, False):
        with reading(f"The tokenizer of {folder}"):
            got = ours.tokenizer.encode_batch_fast(texts, add_special_tokens=special)
            wanted = theirs(texts, truncation=True, max_length=_LENGTH, add_special_tokens=special)[
                "input_ids"
            ]
        for text, own, their in zip(PROBES, got, wanted, strict=True):
            if own.ids != their:
                raise _differs(folder, ours.class_name, text, own.ids, their)


def _differs(folder: Path, name: str, text: str, ours: list[int], theirs: list[int]) -> ModelError:
    place = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
    return ModelError(
        f"The tokenizer of {folder} ({name}) gives other token ids than that of transformers, so "
        f"every vector would be wrong. First difference: text {text!r:.80}, token {place}: "
        f"{ours[place : place + 4]} here, {theirs[place : place + 4]} there.",
        hint="Save the tokenizer again with transformers (AutoTokenizer.from_pretrained(FOLDER)"
        ".save_pretrained(FOLDER)), so that tokenizer.json and tokenizer_config.json agree.",
    )
