"""Text fields of a document, named by paths: ``title``, ``meta.title``, ``tags``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any


def values_at(document: Mapping[str, Any], path: str) -> list[Any]:
    """All values under a path, in order, nulls included; arrays are opened, also on the way.

    A field whose own name is ``meta.title`` goes before the field ``title`` of ``meta``.
    """
    if path in document:
        return _opened(document[path])
    found: list[Any] = []
    for i, character in enumerate(path) if "." in path else ():
        if character != "." or path[:i] not in document:
            continue
        for inner in _opened(document[path[:i]]):
            if isinstance(inner, Mapping):
                found += values_at(inner, path[i + 1 :])
        if found:
            break
    return found


def texts_at(document: Mapping[str, Any], path: str) -> list[str]:
    """The texts under a path; numbers and dates as text. Nulls, NaN, infinity and empty texts are
    none: JSON has no numbers for them.

    Raises:
        ValueError: something there is neither; says what.
    """
    texts = []
    for value in values_at(document, path):
        if isinstance(value, str):
            text: str = value
        elif value is None:
            continue
        elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            text = "" if _is_no_number(value) else str(value)
        elif isinstance(value, date | time):
            text = value.isoformat()
        elif isinstance(value, Mapping):
            inner = next((key for key in value if isinstance(key, str)), "name")
            way = f"a field in it: {path}.{inner}"
            if inner == "0":
                way = "are these columns of pandas? Write df.to_json(orient='records', lines=True)"
            raise ValueError(f"field {path!r} is an object, not text ({way})")
        else:
            raise ValueError(f"field {path!r} is {type(value).__name__}, not text")
        if text:
            texts.append(text)
    return texts


def stored_text(document: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The text of a document as it is stored; what is no text in it is left out."""
    texts: list[str] = []
    for name in fields:
        value = document.get(name)
        if isinstance(value, str):
            if value:
                texts.append(value)
            continue
        try:
            texts += texts_at(document, name)
        except ValueError:
            continue
    return " ".join(texts)


def selected(document: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The fields of a document that are named; of a path at least its first field."""
    chosen = {}
    for name in names:
        while name not in document and "." in name:
            name = name.rpartition(".")[0]
        if name in document:
            chosen[name] = document[name]
    return chosen


def merged(document: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A document after a partial update, as the engines do it: objects are merged field by field,
    everything else is replaced."""
    result = dict(document)
    for name, value in change.items():
        old = result.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = merged(old, value)
        result[name] = value
    return result


def _is_no_number(value: float | Decimal) -> bool:
    """NaN or infinite. (An integer may be too large for a float.)"""
    if isinstance(value, Decimal):
        return not value.is_finite()
    return isinstance(value, float) and not math.isfinite(value)


def _opened(value: Any) -> list[Any]:
    """The elements of an array, of arrays in it as well; else the value alone."""
    if not isinstance(value, list | tuple):
        return [value]
    flat: list[Any] = []
    todo: list[Any] = [value]  # no recursion: arrays may be nested a thousand deep
    while todo:
        inner = todo.pop()
        if isinstance(inner, list | tuple):
            todo += reversed(inner)
        else:
            flat.append(inner)
    return flat
