"""The clauses of the engines' query language that the SQLite engine understands as filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from splade_os.errors import EngineError

Keep = Callable[[Mapping[str, Any], str], bool]
"""Source and id of a document → whether it passes."""

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def compile_filter(filters: Sequence[Mapping[str, Any]]) -> Callable[[bytes, str], bool]:
    """All of them as one function of a stored document.

    Understands ``term``, ``terms``, ``range``, ``exists``, ``ids``, ``match_all`` and ``bool``
    with ``filter``, ``must``, ``must_not`` and ``should``. Text is compared whole.

    Raises:
        EngineError: a clause that it does not understand.
    """
    keeps = [_clause(clause) for clause in filters]

    def keep(source: bytes, identifier: str) -> bool:
        document = orjson.loads(source)
        return all(one(document, identifier) for one in keeps)

    return keep


def _clause(clause: Mapping[str, Any]) -> Keep:
    if not isinstance(clause, Mapping) or len(clause) != 1:
        raise EngineError(f"A filter is an object with one clause, not {clause!r}.")
    ((kind, body),) = clause.items()
    if kind == "match_all":
        return lambda document, identifier: True
    if kind == "bool" and isinstance(body, Mapping):
        return _bool(body)
    if kind == "ids" and isinstance(body, Mapping):
        wanted = set(body.get("values", ()))
        return lambda document, identifier: identifier in wanted
    if kind == "exists" and isinstance(body, Mapping):
        field = str(body.get("field"))
        return lambda document, identifier: bool(_values(document, field))
    if kind in {"term", "terms", "range"} and isinstance(body, Mapping) and len(body) == 1:
        ((field, value),) = body.items()
        if kind == "range":
            return _range(field, value)
        if kind == "term" and isinstance(value, Mapping):
            value = value.get("value")
        options = list(value) if kind == "terms" else [value]
        return lambda document, identifier: any(v in options for v in _values(document, field))
    raise EngineError(
        f"SQLite does not understand the filter {kind!r}.",
        hint="It has term, terms, range, exists, ids and bool.",
    )


def _bool(body: Mapping[str, Any]) -> Keep:
    unknown = set(body) - {"filter", "must", "must_not", "should", "minimum_should_match"}
    if unknown:
        raise EngineError(f"SQLite does not understand {min(unknown)!r} in a bool filter.")
    parts: dict[str, list[Keep]] = {}
    for name in ("filter", "must", "must_not", "should"):
        clauses = body.get(name, [])
        clauses = clauses if isinstance(clauses, Sequence) else [clauses]
        parts[name] = [_clause(clause) for clause in clauses]
    needed = parts["filter"] + parts["must"]
    default = 1 if parts["should"] and not needed else 0
    least = int(body.get("minimum_should_match", default))

    def keep(document: Mapping[str, Any], identifier: str) -> bool:
        return (
            all(one(document, identifier) for one in needed)
            and not any(one(document, identifier) for one in parts["must_not"])
            and sum(one(document, identifier) for one in parts["should"]) >= least
        )

    return keep


def _range(field: str, bounds: Any) -> Keep:
    if not isinstance(bounds, Mapping) or set(bounds) - set(_COMPARE):
        raise EngineError(f"A range filter has the bounds gt, gte, lt and lte, not {bounds!r}.")

    def inside(value: Any) -> bool:
        try:
            return all(_COMPARE[name](value, bound) for name, bound in bounds.items())
        except TypeError:  # a text against a number
            return False

    return lambda document, identifier: any(inside(v) for v in _values(document, field))


def _values(document: Mapping[str, Any], field: str) -> list[Any]:
    """All values of a field, also of one inside an object (``author.name``)."""
    found: list[Any] = [document]
    for part in field.split("."):
        found = [v.get(part) for v in found if isinstance(v, Mapping)]
        found = [v for value in found for v in (value if isinstance(value, list) else [value])]
    return [v for v in found if v is not None]
