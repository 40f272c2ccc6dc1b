"""Rotary positions that a configuration scales, which changes every vector and no weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

_BASE = "rope_theta"


def scaled_positions(config: Mapping[str, Any]) -> bytes:
    """What a ``config.json`` says of scaled positions (linear, NTK, YaRN ...), in one form for
    all ways of writing it; empty where nothing is scaled, as in most models.

    transformers 4 writes ``rope_scaling`` beside ``rope_theta``, 5 writes ``rope_parameters``, by
    the type of layer in some families.
    """
    found: dict[str, Any] = {}
    for key in ("rope_parameters", "rope_scaling"):
        value = config.get(key)
        if not isinstance(value, Mapping):
            continue
        nested = {k: v for k, v in value.items() if isinstance(v, Mapping)}
        for name, each in (nested or {"": value}).items():
            kind = each.get("rope_type") or each.get("type") or "default"
            if kind == "default":
                continue
            rest = {k: v for k, v in each.items() if k not in ("rope_type", "type", _BASE)}
            base = each.get(_BASE, config.get(_BASE))
            found[str(name)] = {**rest, "rope_type": kind, _BASE: base}
    return (
        orjson.dumps(found, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS) if found else b""
    )
