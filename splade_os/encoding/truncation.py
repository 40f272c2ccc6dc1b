"""How much of a text is cut off at a maximum length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from splade_os.encoding.tokenization import TextTokenizer

_MARGIN = 8  # special tokens around a text


class Truncation:
    """Counts the tokens that a tokenizer cuts off.

    Args:
        max_length: tokens after which it cuts, special ones included; ``None`` = never.
        whole: makes the same tokenizer without a limit; called when a text may be too long.
    """

    def __init__(self, max_length: int | None, whole: Callable[[], TextTokenizer]) -> None:
        self._max_length, self._open = max_length, whole
        self._whole: TextTokenizer | None = None

    def __call__(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text, prompts included, that take no part."""
        most = self._max_length
        if most is None:
            return [0] * len(texts)
        # a byte is at most a token, so that a short text needs no second look
        long = [i for i, text in enumerate(texts) if len(text.encode()) > most - _MARGIN]
        found = [0] * len(texts)
        if long:
            self._whole = self._whole or self._open()
            for i, ids in zip(long, self._whole([texts[i] for i in long]), strict=True):
                found[i] = max(0, len(ids) - most)
        return found
