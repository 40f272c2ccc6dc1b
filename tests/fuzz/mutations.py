"""Damage: bytes and values of a good file, made wrong at random places."""

from __future__ import annotations

import copy
import datetime
import random
from collections.abc import Callable
from typing import Any

HOSTILE = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe4", b"\xc2\x85", b"\xe2\x80\xa8",
    b"\r", b"\n", b"\n\n", b"\r\n", b"\t", b"\x0b", b"\x0c", b"\x1c", b"\xc2\xa0", b" ", b'"', b"'",
    b"\\", b"\\ud800", b",", b":", b"#", b"%", b"&a ", b"*a", b"!!python/object:os.system ",
    b"<<: ", b"{", b"}", b"[", b"]", b"[" * 3000, b'{"a":' * 3000, b"{a: " * 2000, b"- " * 2000,
    b"9" * 5000, b"-", b"+1", b"1_0", b"0x1f", b"1e400", b"-1e400", b"1e-400", b"nan", b"NaN",
    b"inf", b"-Infinity", b"18446744073709551616", b"-9223372036854775809", b"2020-13-45",
    b"99999-01-01T00:00:00Z", b"null", b"true", b"[]", b"{}", b'""', b"", b"x" * 300,
    "\u0663".encode(), "\U0001f600".encode(), b"=", b"==", b"${HOME}", b"export ", b"../", b"@/etc",
)  # fmt: skip
"""What is put between the bytes of a good file."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 10**30, -(10**30), 10**400, 1.5, -1.5, 1e308, 1e-320, float("nan"),
    float("inf"), "", " ", "x", "x" * 300, "\0", "\ud800", "\u2028", "1", "1.5", "nan", "[1",
    "starter", b"\xff", [], [None], [1], ["x"], [[]], {}, {"x": 1}, {1: 2}, {None: None}, {"": ""},
    datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), {"kind": "x"}, [{"kind": 1}],
)  # fmt: skip
"""What takes the place of a value."""


def nested(depth: int, inside: Any = 1) -> Any:
    """A list in a list in a list ..."""
    value = inside
    for _ in range(depth):
        value = [value]
    return value


def damage(good: bytes, chance: random.Random) -> bytes:
    """One to four accidents of a file."""
    data = good
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        data = chance.choice(_ACCIDENTS)(data, chance)
    return data


def _flip(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return b"\xff"
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _leave_out(data: bytes, chance: random.Random) -> bytes:
    begin, end = _span(data, chance)
    return data[:begin] + data[end:]


def _insert(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data) + 1)
    return data[:place] + chance.choice(HOSTILE) + data[place:]


def _replace(data: bytes, chance: random.Random) -> bytes:
    begin, end = _span(data, chance)
    return data[:begin] + chance.choice(HOSTILE) + data[end:]


def _repeat(data: bytes, chance: random.Random) -> bytes:
    begin, end = _span(data, chance)
    return data[:end] + data[begin:end] + data[end:]


def _swap_lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    chance.shuffle(lines)
    return b"".join(lines)


def _span(data: bytes, chance: random.Random) -> tuple[int, int]:
    begin = chance.randrange(len(data) + 1)
    return begin, min(len(data), begin + chance.choice((1, 2, 5, 20, 100)))


_ACCIDENTS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _cut, _leave_out, _insert, _insert, _replace, _replace, _repeat, _swap_lines,
)  # fmt: skip


def change(good: Any, chance: random.Random) -> Any:
    """Another type, another value, another key or one less, one to three times, anywhere in a
    structure of dicts and lists."""
    value = copy.deepcopy(good)
    for _ in range(chance.choice((1, 1, 2, 3))):
        value = _change_once(value, chance)
    return value


def _change_once(value: Any, chance: random.Random) -> Any:
    places = list(_places(value))
    if not places:
        return chance.choice(VALUES)
    holder, key = chance.choice(places)
    how = chance.randrange(6)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[chance.choice(("x", "", 1, None, "extra", "\0", str(key).upper()))] = holder.pop(key)
    elif how == 2:
        holder[key] = nested(chance.choice((1, 2, 50, 900)), holder[key])
    else:
        holder[key] = copy.deepcopy(chance.choice(VALUES))
    return value


def _places(value: Any) -> Any:
    """Every (dict or list, key) of a structure."""
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
