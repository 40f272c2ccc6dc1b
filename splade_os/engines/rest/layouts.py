"""What of an index another one like it is made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from splade_os.engines.base import IndexMeta
from splade_os.engines.load_state import LOAD_STATE

_OF_THIS_INDEX = (
    "uuid",
    "creation_date",
    "provided_name",
    "version.",
    "history.",
    "resize.",
    "shrink.",
    "blocks.",
    "lifecycle.",
    "verified_before_close",
    "routing.allocation.initial_recovery.",
)
"""Settings that no other index has, or that nobody sets."""


def without_ours(mapping: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """A mapping without what splade-os has added to it, and what it says of loads."""
    told = dict(mapping.get("_meta", {}))
    record, state = told.pop("splade_os", None), told.pop(LOAD_STATE, None)
    fields = dict(mapping.get("properties", {}))
    try:
        own = IndexMeta.read(record).own_fields if record is not None else frozenset()
    except ValidationError:
        own = frozenset()
    kept = {name: _uncopied(each, own) for name, each in fields.items() if name not in own}
    rest = {name: value for name, value in mapping.items() if name not in ("_meta", "properties")}
    return {**rest, "properties": kept, **({"_meta": told} if told else {})}, state or {}


def _uncopied(definition: Mapping[str, Any], own: frozenset[str]) -> dict[str, Any]:
    """Without the copy into a field that is not there."""
    kept = {name: value for name, value in definition.items() if name != "copy_to"}
    targets = definition.get("copy_to", [])
    targets = [t for t in ([targets] if isinstance(targets, str) else targets) if t not in own]
    return {**kept, "copy_to": targets} if targets else kept


def carried(settings: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an index that another one takes.

    Args:
        state: what the index says of its loads: they set it for loading.
    """
    names = {name.removeprefix("index."): value for name, value in settings.items()}
    names |= state.get("settings") or {}
    return {
        name: value
        for name, value in names.items()
        if value is not None and not name.startswith(_OF_THIS_INDEX)
    }
