"""What matched in the texts of a hit, as parts that a template marks."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from splade_os.engines import IndexMeta
from splade_os.search.marks import Marks
from splade_os.search.results import Hit
from splade_os.text_fields import stored_text

_TITLE, _TEXT, _FRAGMENT = 160, 260, 200  # characters
# what no document can know stands around what matched, so that no document can mark itself
BEFORE, AFTER = (f"\ue000{secrets.token_hex(8)}{end}\ue001" for end in "ba")


Span = tuple[str, bool]
"""A part of a text, and whether it matched."""


def marks_of(meta: IndexMeta) -> Marks:
    """What a search is asked for, so that `texts_of` finds what matched."""
    return Marks(meta.text_fields, BEFORE, AFTER, 2, _FRAGMENT)


def texts_of(hit: Hit, names: Sequence[str]) -> tuple[list[Span], list[Span]]:
    """Title and text: of one text field the id and the text."""
    parts = {name: _field(hit, name) for name in names}
    filled = [name for name in names if parts[name]]
    if len(filled) < 2:
        return [(hit.id, False)], parts[filled[0]] if filled else []
    title = parts[filled[0]]
    text: list[Span] = []
    for name in filled[1:]:
        text += [(" · ", False), *parts[name]] if text else parts[name]
    return cut(title, _TITLE), cut(text, _TEXT)


def _field(hit: Hit, name: str) -> list[Span]:
    marked = hit.highlight.get(name)
    if marked:
        return spans(" … ".join(" ".join(part.split()) for part in marked))
    plain = " ".join(stored_text(hit.source, [name]).split())
    return [(plain, False)] if plain else []


def spans(marked: str) -> list[Span]:
    """A text with our own marks, apart."""
    found: list[Span] = []
    for number, part in enumerate(marked.split(BEFORE)):
        inside, after, outside = part.partition(AFTER)
        if number and after:
            found.append((inside, True))
            part = outside
        if part:
            found.append((part, False))
    return found


def cut(parts: Sequence[Span], most: int) -> list[Span]:
    """As many characters of it; what is left out shows as an ellipsis."""
    kept: list[Span] = []
    for text, matched in parts:
        if len(text) > most:
            kept.append((text[:most].rstrip() + "…", matched))
            break
        kept.append((text, matched))
        most -= len(text)
    return kept
