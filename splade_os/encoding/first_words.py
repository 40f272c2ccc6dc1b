"""The first word of a text, as a tokenizer cuts it that keeps the space in front of a word.

Byte-level BPE (RoBERTa, ModernBERT, granite) and Gemma's BPE know ``river`` and ``Ġriver`` as two
tokens. Behind a space a word is the second, and nearly every word of a corpus stands behind one;
at the beginning of a text it is the first, which a corpus hardly has. A query of one word would
look for rare pieces. So where a table is counted on a corpus, and not learned by the model, texts
are counted and queries are cut as if a space stood before them. Vectors of a model stay as they
are: only term statistics, IDF queries and the lexical prior go by it.
"""

from __future__ import annotations

import numpy as np
import orjson
from tokenizers import Tokenizer

from splade_os.encoding.layout import ModelLayout, StaticPart
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.errors import SettingsError
from splade_os.vectors import Ids

BLANKS = " \t\r\n"
"""What is taken off the beginning of a text before the space is put there."""
# frequent in their languages, so that a vocabulary knows them, or the beginning of them, with
# the space in front
_WORDS = (*"aest1", "the", "of", "river", "de", "der", "и", "в", "το", "في", "है", "の", "강", "의")
_MOST_WORDS = 50_000
_LONGEST = 16  # tokens of a first word that is remembered


def leading_space(layout: ModelLayout, tokenizer: TextTokenizer, wanted: bool | None) -> bool:
    """Whether texts are counted and queried with a space before them.

    Args:
        layout, tokenizer: of the model.
        wanted: ``None`` = where it makes a difference, and the model has no table of its own.

    Raises:
        SettingsError: it is wanted of a model with a table of its own, which was learned without.
    """
    if isinstance(layout.query, StaticPart):
        if wanted:
            raise SettingsError(
                f"{layout.folder} has a table of its own, which was made for texts without a "
                "space before them.",
                hint="Leave --leading-space out.",
            )
        return False
    return wanted is not False and splits_first_words(tokenizer)


def splits_first_words(tokenizer: TextTokenizer) -> bool:
    """Whether a word is another token at the beginning of a text than behind a space."""
    before, after = tokenizer.special_affixes()
    texts = [text for word in _WORDS for text in (word, f" {word}", f"a {word}")]
    cut = [ids[before : len(ids) - after].tolist() for ids in tokenizer(texts)]
    return any(
        # a space that is a token by itself changes no word
        first not in (spaced, spaced[1:]) and inside[-len(spaced) :] == spaced
        for first, spaced, inside in zip(cut[::3], cut[1::3], cut[2::3], strict=True)
    )


def with_leading_space(text: str, prompt: str = "") -> str:
    """Prompt and text with one space before each; nothing before a text that is empty."""
    text = text.lstrip(BLANKS)
    return space_before(prompt) + text if text else prompt


def space_before(prompt: str = "") -> str:
    """What `with_leading_space` puts before every text."""
    prompt = prompt.lstrip(BLANKS)
    if not prompt:
        return " "
    return f" {prompt}" if prompt[-1] in BLANKS else f" {prompt} "


class FirstWords:
    """Token ids of a text → those of `with_leading_space` of it, as far as it was not cut.

    Only what stands before the second word is decoded and cut again, so that a text that was
    tokenized for its vector is not tokenized a second time.

    Args:
        tokenizer: one that `splits_first_words`.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        content = tokenizer.to_json()
        content["truncation"] = content["padding"] = content["post_processor"] = None
        self._tokenizer = Tokenizer.from_str(orjson.dumps(content).decode())
        by_id = {i: token for token, i in self._tokenizer.get_vocab(True).items()}
        mark = by_id[self._cut(" a")[0]][0]
        self._spaced = np.zeros(max(by_id) + 1, bool)
        self._spaced[[i for i, token in by_id.items() if token.startswith(mark)]] = True
        self._known: dict[tuple[int, ...], list[int]] = {}

    def __call__(self, ids: Ids) -> Ids:
        """The ids of a text without special tokens."""
        ends = [*(np.flatnonzero(self._spaced[ids[1:]]) + 1).tolist(), len(ids)]
        for end in ends:
            head = tuple(ids[:end].tolist())
            new = self._known.get(head) or self._spaced_out(head)
            if new:
                return np.concatenate([np.array(new, np.int32), ids[end:]])
        return ids

    def _spaced_out(self, head: tuple[int, ...]) -> list[int]:
        """Its ids with a space before the text; none where it is blank, or no whole text."""
        text = self._tokenizer.decode(list(head), skip_special_tokens=False)
        if not text.lstrip(BLANKS):
            return []
        if self._cut(text) != list(head):
            # a special token stood between them, or the text was cut within a character
            return list(head)
        new = self._cut(with_leading_space(text))
        if len(head) <= _LONGEST:
            if len(self._known) >= _MOST_WORDS:
                self._known.clear()
            self._known[head] = new
        return new

    def _cut(self, text: str) -> list[int]:
        return [*self._tokenizer.encode(text, add_special_tokens=False).ids]
