"""Literal request bodies, per engine and field type, that a person can ``curl`` as they stand."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

TEXT_FIELDS = ("title", "text")
"""Fields that every body for an index maps as text, whatever is encoded."""


def load(engine: str, name: str) -> dict[str, Any]:
    """The body ``mappings/<engine>/<name>.json``; a new object on every call."""
    text = files(__name__).joinpath(engine, f"{name}.json").read_text("utf-8")
    body: dict[str, Any] = json.loads(text)
    return body
