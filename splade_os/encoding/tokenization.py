"""Text → token ids, with the `tokenizers` library alone (no transformers)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tokenizers import BertWordPieceTokenizer, Encoding, Tokenizer, normalizers

from splade_os.errors import EncodingError, ModelError
from splade_os.vectors import Ids
from splade_os.vocabulary import Vocabulary

_SPECIAL_KEYS = ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token")


class TextTokenizer:
    """The tokenizer of a model folder.

    Args:
        folder: holds ``tokenizer.json``, or ``vocab.txt`` of a BERT model.
        max_length: tokens after which a text is cut, special ones included; ``None`` = never.
        lowercase: lower-case the text first.
        special_tokens: add [CLS] and [SEP] (or what the model has).

    Raises:
        ModelError: no tokenizer, or a damaged one.
    """

    def __init__(
        self, folder: Path, *, max_length: int | None, lowercase: bool, special_tokens: bool
    ) -> None:
        self._tokenizer = _load(folder)
        self._special_tokens = special_tokens
        self._tokenizer.no_padding()
        if max_length is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(max_length)
        if lowercase:
            own = self._tokenizer.normalizer
            steps = [normalizers.Lowercase(), own] if own else [normalizers.Lowercase()]
            self._tokenizer.normalizer = normalizers.Sequence(steps)

    def __call__(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids of each text, int32 ``(L,)``.

        Raises:
            EncodingError: naming the position of a text that is no valid Unicode string; or one
                string instead of a list of them.
        """
        refuse_one_text(texts)
        return [np.array(encoding.ids, np.int32) for encoding in self._encodings(texts)]

    def counted(self, texts: Sequence[str]) -> tuple[list[Ids], list[int]]:
        """Token ids of each text, and how many more it has: those that were cut off.

        Raises:
            EncodingError: see `__call__`.
        """
        refuse_one_text(texts)
        encodings = self._encodings(texts)
        ids = [np.array(encoding.ids, np.int32) for encoding in encodings]
        limit = (self._tokenizer.truncation or {}).get("max_length", 0)
        added = self._tokenizer.num_special_tokens_to_add(False) if self._special_tokens else 0
        # what is cut off stands in pieces, each with its special tokens
        lost = [
            sum(len(piece) - added for piece in encoding.overflowing) if len(kept) == limit else 0
            for encoding, kept in zip(encodings, ids, strict=True)
        ]
        return ids, lost

    def _encodings(self, texts: Sequence[str]) -> list[Encoding]:
        try:
            encodings: list[Encoding] = self._tokenizer.encode_batch_fast(
                list(texts), add_special_tokens=self._special_tokens
            )
        except (TypeError, UnicodeEncodeError, ValueError) as error:
            raise _name_culprit(texts, error) from None
        return encodings

    def special_affixes(self) -> tuple[int, int]:
        """How many special tokens stand before and after a text."""
        encoding = self._tokenizer.encode("a", add_special_tokens=self._special_tokens)
        own = [i for i, added in enumerate(encoding.special_tokens_mask) if not added]
        return own[0], len(encoding.ids) - own[-1] - 1

    def to_json(self) -> dict[str, Any]:
        """What runs here, as a ``tokenizer.json``: lower-casing and truncation are part of it."""
        content: dict[str, Any] = orjson.loads(self._tokenizer.to_str())
        return content

    def vocabulary(self, size: int | None = None) -> Vocabulary:
        """All tokens by id; ``size`` pads with names for ids that no token has.

        Raises:
            ModelError: the tokenizer has more tokens than ``size``.
        """
        by_id = {i: token for token, i in self._tokenizer.get_vocab(True).items()}
        count = max(by_id) + 1
        if size is not None and count > size:
            raise ModelError(
                f"The tokenizer knows {count:,} tokens, the model's head only {size:,}: "
                "they do not belong together."
            )
        tokens = [by_id.get(i, f"[unnamed{i}]") for i in range(size or count)]
        special = {i for i, t in self._tokenizer.get_added_tokens_decoder().items() if t.special}
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        if unknown is not None:
            special |= {i for i, token in by_id.items() if token == unknown}
        return Vocabulary(tokens, special)


def refuse_one_text(texts: object) -> None:
    """A string is a sequence too, of its letters: nobody wants each of them encoded.

    Raises:
        EncodingError: it is no list of texts, but one.
    """
    if isinstance(texts, (str, bytes, bytearray)):
        raise EncodingError(
            f"The texts are one {type(texts).__name__}, not a list of strings.",
            hint="Pass a list, of one text as well: encode([text]).",
        )


def _load(folder: Path) -> Tokenizer:
    file = folder / "tokenizer.json"
    if file.is_file():
        try:
            return Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(
                f"{file} cannot be read: {error}", hint="Download or save the model again."
            ) from None
    vocabulary = folder / "vocab.txt"
    if not vocabulary.is_file():
        raise ModelError(f"{folder} has no tokenizer.json and no vocab.txt.")
    config_file = folder / "tokenizer_config.json"
    config = orjson.loads(config_file.read_bytes()) if config_file.is_file() else {}
    tokenizer: Tokenizer = BertWordPieceTokenizer(  # its wrapped Tokenizer
        str(vocabulary), lowercase=bool(config.get("do_lower_case", True))
    )._tokenizer
    names = [config.get(key) for key in _SPECIAL_KEYS]
    tokenizer.add_special_tokens([name for name in names if isinstance(name, str)])
    return tokenizer


def _name_culprit(texts: Sequence[object], error: Exception) -> EncodingError:
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            return EncodingError(f"Text {i} of the batch is a {type(text).__name__}, not a string.")
        try:
            text.encode()
        except UnicodeEncodeError as bad:
            return EncodingError(
                f"Text {i} of the batch is no valid Unicode: {bad.reason} at character {bad.start}."
            )
    return EncodingError(f"The tokenizer failed: {error}")
