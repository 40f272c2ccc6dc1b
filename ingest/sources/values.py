"""Values of typed sources as JSON has them.

| value | in the document |
|---|---|
| date, time, timestamp | ISO 8601 text; with a time zone in UTC, ``2024-05-01T12:00:00Z`` |
| duration | a number of seconds |
| decimal | a number, where a double has the same digits; else its digits as text |
| bytes | text where they are UTF-8, else Base64 |
| NaN | null (missing); infinity is refused |
| map | an object, its keys as text |
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from splade_os.ingest.documents.records import Item
from splade_os.ingest.sources.base import damaged

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_INTEGERS = 1 << 63


def json_value(value: Any) -> Any:
    """A value of Python as JSON has it; one of a type that is not known (a picture) as it is.

    Raises:
        ValueError: a number is infinite.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return number(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return binary(bytes(value))
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return decimal(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, np.generic):
        return json_value(value.item())
    if isinstance(value, Mapping):
        return {key_text(key): json_value(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):  # a named tuple
        return json_value(value._asdict())
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return [json_value(item) for item in value]
    return value


def value_item(where: str, value: Any) -> Item:
    """An item of a record that a library has read; damaged, where JSON does not have it."""
    try:
        return Item(where, value=json_value(value))
    except ValueError as error:
        return damaged(where, str(error))


def number(value: float) -> float | None:
    """A float; ``None`` for NaN.

    Raises:
        ValueError: it is infinite.
    """
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return None
    raise ValueError(f"{value} is no number of JSON")


def decimal(value: Decimal) -> int | float | str | None:
    """A decimal as a number that has the same digits, else as text."""
    if not value.is_finite():
        return number(float(value))
    if value == value.to_integral_value() and abs(value) < _INTEGERS:
        return int(value)
    approximate = float(value)
    return approximate if Decimal(repr(approximate)) == value else format(value, "f")


def binary(value: bytes) -> str:
    """Bytes as text: many a Parquet file has its text in binary columns."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def timestamp(value: int, unit: str, zoned: bool = False) -> str | None:
    """Units (``D``, ``s`` ... ``ns``) since 1970, of any year, as ISO 8601."""
    text = str(np.datetime64(value, unit))  # type: ignore[call-overload]
    if text == "NaT":
        return None
    if "." in text:  # as `datetime.isoformat`: no zeros, else three, six or nine digits
        whole, _, fraction = text.partition(".")
        fraction = fraction.rstrip("0")
        fraction += "0" * (-len(fraction) % 3)
        text = f"{whole}.{fraction}" if fraction else whole
    return text + "Z" if zoned else text


def clock_time(value: int, unit: str) -> str:
    """Units since midnight as ISO 8601."""
    text = timestamp(value, unit)
    return (text or "").partition("T")[2]


def key_text(key: Any) -> str:
    """A key of a map as the name of a field."""
    plain = json_value(key)
    return plain if isinstance(plain, str) else str(plain)
