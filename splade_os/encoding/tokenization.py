"""Text → token ids, as transformers would give them, in most cases without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import orjson
from tokenizers import Encoding, Tokenizer, normalizers

from splade_os.encoding.downloaded import AGAIN
from splade_os.encoding.tokenizer.build import BuiltTokenizer, is_of_tokenizers, reading
from splade_os.encoding.tokenizer.convert import SlowTokenizer
from splade_os.encoding.tokenizer.files import TokenizerFiles
from splade_os.encoding.tokenizer.load import load
from splade_os.errors import EncodingError, ModelError
from splade_os.vectors import Ids
from splade_os.vocabulary import Vocabulary

_MOST_GAPS = 1_000_000  # ids that no token has: a head is padded by some hundred at most

_CHARACTERS = 1_000_000  # of the texts that are cut at once
_PADDED = 63  # entries by which heads are rounded up to a multiple


class TokenizerBackend(Protocol):
    """What runs behind a `TextTokenizer`: ``tokenizers``, or a tokenizer of transformers."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, cut, and with special tokens where they are wanted."""

    def counted(self, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """`encode`, and how many tokens were cut off each text."""

    def affixes(self) -> tuple[int, int]:
        """How many special tokens stand before and after a text."""

    def ids(self) -> dict[str, int]:
        """Id of every token, added ones included."""

    def special_ids(self) -> set[int]:
        """Ids of special and unknown tokens."""

    def to_json(self) -> dict[str, Any] | None:
        """A ``tokenizer.json``, or ``None`` where none can hold it."""


class TextTokenizer:
    """The tokenizer of a model folder.

    Attributes:
        pad_id: id of padding, or ``None``.
        truncation_side: ``left`` or ``right``, the end at which long texts are cut.

    Args:
        folder: holds ``tokenizer.json`` or another vocabulary, and what transformers reads beside
            it (`splade_os.encoding.tokenizer`).
        max_length: tokens after which a text is cut, special ones included; ``None`` = never.
        lowercase: lower-case the text first.
        special_tokens: add [CLS] and [SEP] (or what the model has). Without, it is the tokenizer
            of queries by table, where padding counts for nothing, as in sentence-transformers.

    Raises:
        ModelError: no tokenizer, a damaged one, or one that nobody knows.
        MissingExtraError: only transformers can read it, and that is not installed.
    """

    def __init__(
        self, folder: Path, *, max_length: int | None, lowercase: bool, special_tokens: bool
    ) -> None:
        loaded = load(folder)
        self._folder, self._class = folder, loaded.class_name
        self._max_length = max_length
        self.truncation_side: Literal["left", "right"] = (
            "left" if loaded.truncation_side == "left" else "right"
        )
        options = (max_length, lowercase, special_tokens)
        self._backend: TokenizerBackend = (
            _InPython(loaded, *options)
            if isinstance(loaded, SlowTokenizer)
            else _InRust(loaded, *options)
        )
        ids = self._backend.ids()
        self.pad_id = ids.get(loaded.pad_token) if loaded.pad_token else None
        self._dropped = None if special_tokens else self.pad_id
        self._limit: int | None = None

    def __call__(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids of each text, int32 ``(L,)``.

        Raises:
            EncodingError: naming the position of a text that is no valid Unicode string, or holds
                a token that the model has not (`limit`); or one string instead of a list of them.
        """
        refuse_one_text(texts)
        return self._rows(texts, lambda given: (self._backend.encode(given), []))[0]

    def counted(self, texts: Sequence[str]) -> tuple[list[Ids], list[int]]:
        """Token ids of each text, and how many more it has: those that were cut off.

        Raises:
            EncodingError: see `__call__`.
        """
        refuse_one_text(texts)
        return self._rows(texts, self._backend.counted)

    def cut(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each text are behind the maximum length, and take no part."""
        lost = [0] * len(texts)
        room = self._room
        if room is None:
            return lost
        # A byte is at most a token, so that most texts need no second look; normalisation makes
        # up to six of one (U+FDFA).
        long = [i for i, t in enumerate(texts) if len(t) * (1 if t.isascii() else 18) > room]
        for i, number in zip(long, self.counted([texts[i] for i in long])[1], strict=True):
            lost[i] = number
        return lost

    @cached_property
    def _room(self) -> int | None:
        """Tokens of a text before anything is cut."""
        return None if self._max_length is None else self._max_length - sum(self.special_affixes())

    def _rows(
        self,
        texts: Sequence[str],
        encode: Callable[[list[str]], tuple[list[list[int]], list[int]]],
    ) -> tuple[list[Ids], list[int]]:
        rows: list[Ids] = []
        lost: list[int] = []
        try:
            for some in _slices(texts):
                found, cut = encode(some)
                rows += [np.array(ids, np.int32) for ids in found]
                lost += cut
        except BaseException as error:  # a panic is no Exception
            if not is_of_tokenizers(error) and not isinstance(error, UnicodeError):
                raise
            raise self._name_culprit(texts, error) from None
        if self._dropped is not None:
            rows = [row[row != self._dropped] for row in rows]
        if self._limit is not None:
            self._refuse_beyond(rows, self._limit)
        return rows, lost

    def limit(self, size: int) -> None:
        """Refuse texts with a token that a head of ``size`` tokens has not, instead of the whole
        model: most texts have none.

        Raises:
            ModelError: the head has many more tokens than lines of a vocabulary: it is not whole.
        """
        known = max(self._backend.ids().values(), default=-1) + 1
        if known > size:
            self._limit = size
        file = next(iter(TokenizerFiles(self._folder).vocabulary), self._folder)
        # lines, which are a vocabulary wherever they end; JSON that was cut cannot be read
        lines = file.suffix != ".json"
        if lines and (size - known > max(_PADDED, size // 50) or 2 * known < size):
            raise ModelError(
                f"{file} has {known:,} tokens, and the head of the model {size:,}: it is not "
                "whole, or of another model.",
                hint=AGAIN,
            )

    def _refuse_beyond(self, rows: Sequence[Ids], size: int) -> None:
        for i, row in enumerate(rows):
            beyond = row[row >= size]
            if len(beyond):
                token = next((t for t, n in self._backend.ids().items() if n == beyond[0]), "?")
                raise EncodingError(
                    f"Text {i} of the batch holds the token {token!r} (id {beyond[0]:,}), which "
                    f"the tokenizer of {self._folder} knows, but not the model: its head has "
                    f"{size:,} tokens.",
                    hint="Leave the text out, or take a model whose tokenizer and head belong "
                    "together.",
                )

    def _name_culprit(self, texts: Sequence[object], error: BaseException) -> EncodingError:
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                kind = type(text).__name__
                return EncodingError(f"Text {i} of the batch is a {kind}, not a string.")
            try:
                text.encode()
                self._backend.encode([text])
            except UnicodeEncodeError as bad:
                return EncodingError(
                    f"Text {i} of the batch is no valid Unicode: {bad.reason} at character "
                    f"{bad.start}."
                )
            except BaseException as bad:
                if not is_of_tokenizers(bad):
                    raise
                return EncodingError(
                    f"Text {i} of the batch cannot be cut by the tokenizer of {self._folder}: "
                    f"{bad}.",
                    hint="Download or save the model again, if it is so with other texts.",
                )
        return EncodingError(f"The tokenizer of {self._folder} failed: {error}.")

    def special_affixes(self) -> tuple[int, int]:
        """How many special tokens stand before and after a text.

        Raises:
            ModelError: the tokenizer leaves nothing of a text.
        """
        with reading(f"The tokenizer of {self._folder}"):
            return self._backend.affixes()

    @property
    def convertible(self) -> bool:
        """Whether a ``tokenizer.json`` can hold it."""
        return isinstance(self._backend, _InRust)

    def to_json(self) -> dict[str, Any]:
        """What runs here, as a ``tokenizer.json``: lower-casing and truncation are part of it.

        Raises:
            ModelError: it is one in Python, which no ``tokenizer.json`` can hold.
        """
        content = self._backend.to_json()
        if content is None:
            raise ModelError(
                f"The tokenizer of {self._folder} is a {self._class}: it runs in Python, and no "
                "tokenizer.json can hold it.",
                hint="Encode queries with splade-os; a search engine cannot cut such texts itself.",
            )
        return content

    def vocabulary(self, size: int | None = None) -> Vocabulary:
        """All tokens by id; ``size`` pads with names for ids that no token has.

        Raises:
            ModelError: the tokenizer has more tokens than ``size`` (and no `limit` was set), none
                at all, or ids without end.
        """
        by_id = {i: token for token, i in self._backend.ids().items()}
        count = max(by_id, default=-1) + 1
        if not count or count > len(by_id) + _MOST_GAPS:
            raise ModelError(
                f"The tokenizer of {self._folder} has {len(by_id):,} tokens with ids up to "
                f"{count - 1:,}: it is damaged.",
                hint="Download or save the model again.",
            )
        if size is not None and count > size and self._limit is None:
            raise ModelError(
                f"The tokenizer knows {count:,} tokens, the model's head only {size:,}: "
                "they do not belong together."
            )
        tokens = [by_id.get(i, f"[unnamed{i}]") for i in range(size or count)]
        return Vocabulary(tokens, {i for i in self._backend.special_ids() if i < len(tokens)})


def _slices(texts: Sequence[str]) -> Iterator[list[str]]:
    """Some texts at a time: a tokenizer takes 100 bytes and more for every character of them."""
    start = characters = 0
    for i, text in enumerate(texts):
        size = len(text) if isinstance(text, str) else 0  # else it is refused
        characters += size
        if characters > _CHARACTERS and i > start:
            yield list(texts[start:i])
            start, characters = i, size
    if start < len(texts):
        yield list(texts[start:])


class _InRust:
    """`TokenizerBackend` of the ``tokenizers`` library."""

    def __init__(
        self, loaded: BuiltTokenizer, max_length: int | None, lowercase: bool, special_tokens: bool
    ) -> None:
        self._tokenizer: Tokenizer = loaded.tokenizer
        self._special_tokens = special_tokens
        if max_length is not None:
            self._tokenizer.enable_truncation(max_length, direction=loaded.truncation_side)
        if lowercase:
            own = self._tokenizer.normalizer
            steps = [normalizers.Lowercase(), own] if own else [normalizers.Lowercase()]
            self._tokenizer.normalizer = normalizers.Sequence(steps)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._encodings(texts)]

    def counted(self, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        encodings = self._encodings(texts)
        limit = (self._tokenizer.truncation or {}).get("max_length", 0)
        added = self._tokenizer.num_special_tokens_to_add(False) if self._special_tokens else 0
        # what is cut off stands in pieces, each with its special tokens
        lost = [
            sum(len(piece) - added for piece in encoding.overflowing)
            if len(encoding) == limit
            else 0
            for encoding in encodings
        ]
        return [encoding.ids for encoding in encodings], lost

    def _encodings(self, texts: Sequence[str]) -> list[Encoding]:
        encodings: list[Encoding] = self._tokenizer.encode_batch_fast(
            list(texts), add_special_tokens=self._special_tokens
        )
        return encodings

    def affixes(self) -> tuple[int, int]:
        encoding = self._tokenizer.encode("a", add_special_tokens=self._special_tokens)
        own = [i for i, added in enumerate(encoding.special_tokens_mask) if not added]
        if not own:
            raise ModelError(
                "The tokenizer leaves nothing of a text but special tokens: it is damaged.",
                hint="Download or save the model again.",
            )
        return own[0], len(encoding.ids) - own[-1] - 1

    def ids(self) -> dict[str, int]:
        return dict(self._tokenizer.get_vocab(True))

    def special_ids(self) -> set[int]:
        added = self._tokenizer.get_added_tokens_decoder()
        special = {i for i, token in added.items() if token.special}
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        return special | {i for token, i in self.ids().items() if token == unknown}

    def to_json(self) -> dict[str, Any] | None:
        content: dict[str, Any] = orjson.loads(self._tokenizer.to_str())
        return content


class _InPython:
    """`TokenizerBackend` of a tokenizer that transformers runs."""

    def __init__(
        self, loaded: SlowTokenizer, max_length: int | None, lowercase: bool, special_tokens: bool
    ) -> None:
        self._loaded, self._length = loaded, max_length
        self._lowercase, self._special_tokens = lowercase, special_tokens

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._loaded.encode(texts, self._length, self._special_tokens, self._lowercase)

    def counted(self, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        kept = self.encode(texts)
        whole = self._loaded.encode(texts, None, self._special_tokens, self._lowercase)
        return kept, [len(all_) - len(ids) for all_, ids in zip(whole, kept, strict=True)]

    def affixes(self) -> tuple[int, int]:
        bare = self._loaded.encode(["a"], None, False, False)[0]
        whole = self._loaded.encode(["a"], None, self._special_tokens, False)[0]
        before = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        return before, len(whole) - before - len(bare)

    def ids(self) -> dict[str, int]:
        return {str(token): int(i) for token, i in self._loaded.tokenizer.get_vocab().items()}

    def special_ids(self) -> set[int]:
        return set(self._loaded.tokenizer.all_special_ids)

    def to_json(self) -> dict[str, Any] | None:
        return None


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
