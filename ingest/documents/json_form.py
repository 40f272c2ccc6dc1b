"""Any value as JSON. Cannot fail: a dead letter is written of whatever a source yields."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any

import orjson

from splade_os.ingest.documents.envelopes import VECTOR_KEY

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
_DIGITS = bytes(48 if byte in b"0123456789" else 32 for byte in range(256))
_LONG_NUMBER = b"0" * 19
_LARGE = float(1 << 63)
_SPACED = (b" :", b"\t:", b"\n:", b"\r:")
_FEW = 64  # values of an object or array that are looked into
_DEEP = 200  # nested deeper, JSON is kept as a text: orjson writes 254 levels, and reads 1,024


def to_json(value: Any, *, sort_keys: bool = False) -> bytes:
    """A value as JSON: quickly if it can be, else at any depth and of any type.

    Dates are written as ISO 8601, bytes as base64, decimals and what JSON has no form for as
    text, NaN and infinity as null, halves of surrogate pairs as ``\\ud800``.
    """
    try:
        option = _OPTIONS | orjson.OPT_SORT_KEYS if sort_keys else _OPTIONS
        return orjson.dumps(value, default=plain, option=option)
    except TypeError:  # too deep, an integer of more than 64 bits, half a surrogate pair ...
        return _written(value, sort_keys)[0].encode()


def embedded(value: Any) -> bytes:
    """`to_json`, for a place inside of other JSON: what is nested too deep for a reader of that
    is a JSON string that holds the JSON text."""
    try:
        return orjson.dumps(value, default=plain, option=_OPTIONS)
    except TypeError:
        text, depth = _written(value, sort_keys=False)
        return (text if depth <= _DEEP else json.dumps(text)).encode()


def from_json(raw: bytes) -> Any:
    """The value of what `to_json` wrote.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return parse_exact(raw)
    except orjson.JSONDecodeError as error:
        message = str(error)
    try:  # halves of surrogate pairs, which orjson refuses
        return json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ValueError(f"not valid JSON: {message}") from None


def parse_exact(raw: bytes) -> Any:
    """The value of one JSON text; whole numbers of more than 64 bits stay what they are.

    Raises:
        ValueError: it is no JSON.
    """
    value = orjson.loads(raw)
    # orjson reads them as floats
    if _may_hold_large(value) and _LONG_NUMBER in raw.translate(_DIGITS):
        value = _slowly(raw)
    return value


def _may_hold_large(value: Any) -> bool:
    """Whether a number in it may have more than 64 bits; weights of a vector are floats anyway."""
    if type(value) is not dict:
        return True
    return any(
        type(x) is dict or type(x) is list or (type(x) is float and not -_LARGE < x < _LARGE)
        for name, x in value.items()
        if name != VECTOR_KEY
    )


def parse_document(raw: bytes) -> Any:
    """`parse_exact` of what loses nothing by it: a key that stands twice in an object has two
    values, of which one would be dropped (engines refuse such a document, too).

    Raises:
        ValueError: it is no JSON, or has such a key.
    """
    value = parse_exact(raw)
    keys = _keys(value)
    # each key that stands there is followed by a colon, perhaps after blanks: where there are no
    # more such colons than keys in the value, none stands twice
    if raw.count(b":") > keys and raw.count(b'":') + sum(map(raw.count, _SPACED)) > keys:
        _slowly(raw, _object)
    return value


def _slowly(raw: bytes, hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    try:
        return json.loads(raw, object_pairs_hook=hook)
    except RecursionError:
        raise ValueError("it is nested too deep to be read exactly") from None


def _keys(value: Any) -> int:
    """How many keys there are at least, in all objects together."""
    count = 0
    todo = [value]
    while todo:
        outer = todo.pop()
        inner = outer.values() if type(outer) is dict else outer
        if type(outer) is dict:
            count += len(outer)
        elif type(outer) is not list:
            continue
        if len(inner) <= _FEW:
            todo += [each for each in inner if type(each) is dict or type(each) is list]
    return count


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"the key {twice!r:.80} stands twice in an object: one value would be lost"
        )
    return found


def plain(value: Any) -> Any:
    """A value of a type that JSON lacks, as one that it has."""
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, set | frozenset):
        return sorted(value, key=to_json)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Decimal) and not value.is_finite():
        return None
    try:
        return str(value)
    except Exception:  # whatever somebody's own class raises: its name will have to do
        return object.__repr__(value)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


class _Leave:
    """A container is written to its end."""

    def __init__(self, number: int) -> None:
        self.number = number


def _written(root: Any, sort_keys: bool) -> tuple[str, int]:
    """JSON text and its depth, without recursion."""
    out: list[str] = []
    deepest = 0
    inside: set[int] = set()  # containers around, by identity: one may hold itself
    todo: list[Any] = [(root,)]  # values stand in tuples; a text is written as it is
    while todo:
        step = todo.pop()
        if isinstance(step, str):
            out.append(step)
            continue
        if isinstance(step, _Leave):
            inside.remove(step.number)
            continue
        (value,) = step
        scalar = _scalar(value)
        if scalar is not None:
            out.append(scalar)
            continue
        if not isinstance(value, Mapping | list | tuple):
            todo.append((plain(value),))
            continue
        if id(value) in inside:
            out.append(json.dumps(f"<{type(value).__name__} that holds itself>"))
            continue
        inside.add(id(value))
        deepest = max(deepest, len(inside))
        todo.append(_Leave(id(value)))
        todo += reversed([*_steps(value, sort_keys)])
    return "".join(out), deepest


def _steps(value: Any, sort_keys: bool) -> Iterable[Any]:
    if not isinstance(value, Mapping):
        yield "["
        for i, element in enumerate(value):
            if i:
                yield ","
            yield (element,)
        yield "]"
        return
    yield "{"
    pairs = [(key if isinstance(key, str) else str(plain(key)), x) for key, x in value.items()]
    for i, (key, inner) in enumerate(sorted(pairs, key=lambda p: p[0]) if sort_keys else pairs):
        yield f"{',' if i else ''}{json.dumps(key)}:"
        yield (inner,)
    yield "}"


def _scalar(value: Any) -> str | None:
    """JSON of a value that holds no others; ``None`` if it is none of JSON's."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return json.dumps(str(value))
    if isinstance(value, int):
        try:
            return int.__repr__(value)
        except ValueError:  # Python writes no more than 4,300 digits
            return json.dumps(hex(value))
    if isinstance(value, float):
        return float.__repr__(value) if math.isfinite(value) else "null"
    return None
