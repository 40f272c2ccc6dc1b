"""A regular expression that matches any of many strings, as fast with 30,000 as with three."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_SPECIAL = frozenset("\\^$.|?*+()[]{}-&~#")
_END = ""


def any_of(strings: Iterable[str]) -> str:
    """A pattern for exactly these strings: a tree of their common beginnings.

    A plain alternation of n strings tries each of them; here every character decides between
    branches. Written for Oniguruma, which `tokenizers` uses, without any of its extensions.
    """
    tree: dict[str, Any] = {}
    for string in strings:
        node = tree
        for character in string:
            node = node.setdefault(character, {})
        node[_END] = {}
    return rf"\A(?:{_pattern(tree)})\z"


def _pattern(node: dict[str, Any]) -> str:
    branches = []
    for character, below in sorted(node.items()):
        if character == _END:
            continue
        text = _escape(character)
        while len(below) == 1 and _END not in below:  # a run without a fork
            [(character, below)] = below.items()
            text += _escape(character)
        inner = _pattern(below)
        branches.append(text + inner)
    if not branches:
        return ""
    whole = "|".join(branches)
    if _END in node:
        return f"(?:{whole})?"
    return f"(?:{whole})" if len(branches) > 1 else whole


def _escape(character: str) -> str:
    if character in _SPECIAL:
        return "\\" + character
    if character.isprintable():
        return character
    return rf"\x{{{ord(character):x}}}"
