"""Token ids word by word, remembered: most words of a query were in a query before.

Only for tokenizers of BERT, whose every step looks at single characters or at what stands between
two spaces; there the ids of a text are those of its words, one after the other.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from splade_os.encoding.tokenization import TextTokenizer

_MOST_WORDS = 50_000
_LONGEST = 64  # characters of a word that is remembered
_MARGIN = 8  # below the length at which texts are cut


class WordTokens(dict[str, tuple[int, ...]]):
    """Word → token ids; `of` for a whole text.

    Args:
        tokenizer: without special tokens.
        max_length: tokens after which it cuts a text; ``None`` = never.
    """

    def __init__(self, tokenizer: TextTokenizer, max_length: int | None) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._most = float("inf") if max_length is None else max_length - _MARGIN

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = tuple(self._tokenizer([word])[0].tolist())
        if len(word) <= _LONGEST:
            if len(self) >= _MOST_WORDS:
                self.clear()
            self[word] = ids
        return ids

    def of(self, text: str) -> list[int]:
        """The ids of a text, in its order."""
        words = [self[word] for word in text.split(" ")]
        if sum(map(len, words)) > self._most:
            return self._tokenizer([text])[0].tolist()  # type: ignore[no-any-return]
        return list(chain.from_iterable(words))


def word_tokens(tokenizer: TextTokenizer) -> WordTokens | None:
    """`WordTokens` of a tokenizer without special tokens, or ``None`` where it is another kind."""
    if not tokenizer.convertible:
        return None
    parts = tokenizer.to_json()
    normalizers = _parts(parts.get("normalizer"), "normalizers")
    known = {"BertNormalizer", "Lowercase"}
    if not normalizers or any(part.get("type") not in known for part in normalizers):
        return None
    if (parts.get("pre_tokenizer") or {}).get("type") != "BertPreTokenizer":
        return None
    if parts["model"].get("type") != "WordPiece":
        return None
    if any(" " in token["content"] for token in parts.get("added_tokens", ())):
        return None
    return WordTokens(tokenizer, (parts.get("truncation") or {}).get("max_length"))


def _parts(part: Any, name: str) -> list[Any]:
    if not part:
        return []
    inner = part.get(name)
    return [part] if inner is None else list(inner)
