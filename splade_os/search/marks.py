"""Highlights of sparse hits: what matched, marked in the stored text by the client. The engines'
highlighters know words of analysed fields alone, no tokens of a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

from splade_os.errors import SettingsError
from splade_os.text_fields import values_at

_WORD = re.compile(r"[\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|\w+|[^\w\s]")
_JOINED = re.compile(r"\w+(?:[^\w\s]\w+)*")
TokensOf = Callable[[Sequence[str]], Sequence[Collection[str]]]
"""Words → tokens of each."""


@dataclass(frozen=True)
class Marks:
    """How what matched is marked.

    Attributes:
        fields: to mark, with ``*``.
        before, after: of each marked word.
        fragments: how many of a field, those with most marks; 0 = its whole text.
        size: characters of a fragment, about.
    """

    fields: tuple[str, ...]
    before: str = "<em>"
    after: str = "</em>"
    fragments: int = 0
    size: int = 100

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Marks:
        """From a ``highlight`` section of a body.

        Raises:
            SettingsError: it asks for what only an engine's highlighter does.
        """
        known = {"fields", "pre_tags", "post_tags", "number_of_fragments", "fragment_size"}
        fields = given.get("fields")
        names = _names(fields)
        other = sorted(set(given) - known)
        if isinstance(fields, Mapping):
            other += [f"{name}.{key}" for name, about in fields.items() for key in about or ()]
        if not names or other:
            what = f"does not know {', '.join(other)}" if other else "needs fields to mark"
            raise SettingsError(
                f"In this mode the client marks the matched tokens, and {what}.",
                hint=f"It takes {', '.join(sorted(known))}. With a highlight_query the engine's "
                "own highlighter does it.",
            )
        return cls(
            names,
            _tag(given.get("pre_tags"), "<em>"),
            _tag(given.get("post_tags"), "</em>"),
            _number(given, "number_of_fragments", 5),
            _number(given, "fragment_size", 100),
        )

    def highlight(
        self,
        source: Mapping[str, Any],
        words: Collection[str],
        tokens: frozenset[str],
        tokens_of: TokensOf,
    ) -> dict[str, list[str]]:
        """Field → its texts, marked; fields without a mark are left out.

        Args:
            source: stored fields.
            words: that matched, in lower case.
            tokens: that matched.
            tokens_of: which tokens words have.
        """
        found = {}
        names = dict.fromkeys(
            name for pattern in self.fields for name in _matching(pattern, source)
        )
        for name in names:
            texts = [value for value in values_at(source, name) if isinstance(value, str)]
            marked = [
                part for text in texts for part in self._parts(text, words, tokens, tokens_of)
            ]
            if marked:
                found[name] = marked
        return found

    def _parts(
        self, text: str, words: Collection[str], tokens: frozenset[str], tokens_of: TokensOf
    ) -> list[str]:
        spans = _spans(text, words, tokens, tokens_of)
        if not spans:
            return []
        if not self.fragments or len(text) <= self.size:
            return [self._marked(text, spans, 0, len(text))]
        cuts = [0]
        for space in re.finditer(r"\s+", text):
            if space.end() - cuts[-1] > self.size:
                cuts.append(space.end())
        cuts.append(len(text))
        pieces = []
        for start, end in pairwise(cuts):
            inside = [span for span in spans if start <= span[0] and span[1] <= end]
            if inside:
                pieces.append((-len(inside), start, self._marked(text, inside, start, end)))
        return [piece for _, _, piece in sorted(pieces)[: self.fragments]]

    def _marked(self, text: str, spans: Sequence[tuple[int, int]], start: int, end: int) -> str:
        parts, last = [], start
        for first, behind in spans:
            parts += [text[last:first], self.before, text[first:behind], self.after]
            last = behind
        return "".join([*parts, text[last:end]]).rstrip()


def _spans(
    text: str, words: Collection[str], tokens: frozenset[str], tokens_of: TokensOf
) -> list[tuple[int, int]]:
    """Where the words stand that matched, or of which a token did."""
    spans = {m.span() for m in _JOINED.finditer(text) if m[0].lower() in words}
    found = list(_WORD.finditer(text))
    distinct = list(dict.fromkeys(m[0] for m in found))
    matched = {word for word in distinct if word.lower() in words}
    if tokens:
        for word, own in zip(distinct, tokens_of(distinct), strict=True):
            if not tokens.isdisjoint(own):
                matched.add(word)
    spans |= {m.span() for m in found if m[0] in matched}
    apart: list[tuple[int, int]] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not apart or start >= apart[-1][1]:
            apart.append((start, end))
    return apart


def _names(fields: Any) -> tuple[str, ...]:
    if isinstance(fields, Mapping):
        return tuple(fields)
    if isinstance(fields, Sequence) and not isinstance(fields, str):  # the engines' other form
        return tuple(name for each in fields for name in each)
    return ()


def _tag(given: Any, default: str) -> str:
    if given is None:
        return default
    return str(given if isinstance(given, str) else next(iter(given), default))


def _number(given: Mapping[str, Any], name: str, default: int) -> int:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SettingsError(f"{name} of highlight is {value!r}; it is a number, 0 or more.")
    return value


def _matching(pattern: str, source: Mapping[str, Any]) -> list[str]:
    if "*" not in pattern:
        return [pattern]
    return [name for name in source if fnmatchcase(name, pattern)]
