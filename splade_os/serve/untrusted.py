"""What a client may not put into a search: code, and ways to other indices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from splade_os.serve.problems import RequestError

_DEPTH = 40
_NEVER = {
    "script_fields": "a script",
    "runtime_mappings": "a script",
    "scripted_metric": "a script",
    "script_score": "a script",
    "bucket_script": "a script",
    "bucket_selector": "a script",
    "indexed_shape": "another index",
    "more_like_this": "another index",
    "percolate": "another index",
    "wrapper": "a query that cannot be looked at",
    "ext": "parameters of plugins",
    "pit": "another index",
}
_SCRIPT = frozenset({"source", "inline", "id", "stored", "script", "lang", "params"})


def refuse_untrusted(given: Mapping[str, Any]) -> None:
    """Look through all sections of a search that go to the engine as they are.

    The engine would run scripts with the rights of the service, and look up terms in any index that
    it may read.

    Raises:
        RequestError: 400, naming what is in it.
    """
    for name, section in given.items():
        for key, value in _inside(section, 0):
            what = _NEVER.get(key)
            if key == "script" and (name in ("aggs", "body", "sort") or _is_script(value)):
                what = "a script"
            if key in ("terms", "term", "geo_shape", "shape") and _looks_up(value):
                what = "another index"
            if what is not None:
                raise RequestError(
                    400,
                    "refused",
                    f"{name} has {key!r}: {what} cannot be asked for through this service.",
                )


def _is_script(value: Any) -> bool:
    return isinstance(value, Mapping) and not _SCRIPT.isdisjoint(value)


def _looks_up(value: Any) -> bool:
    """A ``terms`` lookup: ``{"field": {"index": ..., "id": ..., "path": ...}}``."""
    inner = value.values() if isinstance(value, Mapping) else ()
    return any(isinstance(each, Mapping) and "index" in each for each in inner)


def _inside(value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > _DEPTH:
        raise RequestError(400, "refused", f"A section is nested more than {_DEPTH} deep.")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key), inner
            yield from _inside(inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _inside(inner, depth + 1)
