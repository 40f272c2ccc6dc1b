"""The clauses of the engines' query language that the SQLite engine understands as filters."""

from __future__ import annotations

import re
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


def compile_filter(
    filters: Sequence[Mapping[str, Any]],
) -> tuple[Callable[[bytes, str], bool] | None, set[str] | None]:
    """All of them as one function of a stored document (``None`` = nothing is left to ask it),
    and the ids that alone can pass (``None`` = any).

    Understands ``term``, ``terms``, ``range``, ``exists``, ``ids``, ``match_all`` and ``bool``
    with ``filter``, ``must``, ``must_not`` and ``should``. Text is compared whole.

    Raises:
        EngineError: a clause that it does not understand.
    """
    ids: set[str] | None = None
    keeps = []
    for clause in filters:
        keep_one = _clause(clause)
        if "ids" in clause:
            wanted = _ids(clause["ids"])
            ids = wanted if ids is None else ids & wanted
        else:
            keeps.append(keep_one)
    if not keeps:
        return None, ids

    def keep(source: bytes, identifier: str) -> bool:
        document = orjson.loads(source)
        return all(one(document, identifier) for one in keeps)

    return keep, ids


def _clause(clause: Mapping[str, Any]) -> Keep:
    if not isinstance(clause, Mapping) or len(clause) != 1:
        raise _refused(f"A filter is an object with one clause, not {clause!r}.")
    ((kind, body),) = clause.items()
    if kind == "match_all":
        return lambda document, identifier: True
    if kind == "bool" and isinstance(body, Mapping):
        return _bool(body)
    if kind == "ids" and isinstance(body, Mapping):
        wanted = _ids(body)
        return lambda document, identifier: identifier in wanted
    if kind == "exists" and isinstance(body, Mapping):
        field = str(body.get("field"))
        return lambda document, identifier: bool(_values(document, field))
    if kind in {"term", "terms", "range"} and isinstance(body, Mapping) and len(body) == 1:
        ((field, value),) = body.items()
        if kind == "range":
            return _range(field, value)
        equal_to = options(kind, value)
        return lambda document, identifier: any(
            _equal(v, option) for v in _values(document, field) for option in equal_to
        )
    raise _refused(
        f"SQLite does not understand the filter {kind!r}.",
        hint="It has term, terms, range, exists, ids and bool.",
    )


def _bool(body: Mapping[str, Any]) -> Keep:
    unknown = set(body) - {"filter", "must", "must_not", "should", "minimum_should_match"}
    if unknown:
        raise _refused(f"SQLite does not understand {min(unknown)!r} in a bool filter.")
    parts: dict[str, list[Keep]] = {}
    for name in ("filter", "must", "must_not", "should"):
        clauses = body.get(name, [])
        clauses = clauses if isinstance(clauses, Sequence) else [clauses]
        parts[name] = [_clause(clause) for clause in clauses]
    needed = parts["filter"] + parts["must"]
    default = 1 if parts["should"] and not needed else 0
    least = _least(body.get("minimum_should_match", default), len(parts["should"]))
    if parts["should"] and not needed:
        least = max(least, 1)  # as Lucene has it, whatever is asked for

    def keep(document: Mapping[str, Any], identifier: str) -> bool:
        return (
            all(one(document, identifier) for one in needed)
            and not any(one(document, identifier) for one in parts["must_not"])
            and sum(one(document, identifier) for one in parts["should"]) >= least
        )

    return keep


def _range(field: str, bounds: Any) -> Keep:
    if not isinstance(bounds, Mapping) or set(bounds) - set(_COMPARE):
        raise _refused(f"A range filter has the bounds gt, gte, lt and lte, not {bounds!r}.")

    for bound in bounds.values():
        if isinstance(bound, str) and (bound.startswith("now") or "||" in bound):
            raise _refused(
                f"SQLite does not understand the date math {bound!r}.",
                hint="Write the date itself, as the documents have it: 2024-05-01.",
            )
        if isinstance(bound, Mapping | list):
            raise _refused(f"A bound of a range is a number or a text, not {bound!r}.")

    def inside(value: Any) -> bool:
        for name, bound in bounds.items():
            if bound is None:  # open
                continue
            pair = _comparable(value, bound)
            if pair is None or not _COMPARE[name](*pair):
                return False
        return True

    return lambda document, identifier: any(inside(v) for v in _values(document, field))


def options(kind: str, value: Any) -> list[Any]:
    """The values of a ``term`` or ``terms`` clause.

    Raises:
        EngineError: one is neither a text nor a number.
    """
    if kind == "term" and isinstance(value, Mapping) and set(value) <= {"value", "boost"}:
        value = value.get("value")
    found = value if kind == "terms" else [value]
    scalar = isinstance(found, list) and all(
        isinstance(option, str | int | float) for option in found
    )
    if not scalar:
        raise _refused(f"The filter {kind} takes texts and numbers, not {value!r}.")
    return list(found)


def _ids(body: Any) -> set[str]:
    values = body.get("values") if isinstance(body, Mapping) else None
    if not isinstance(values, list) or not all(isinstance(v, str | int) for v in values):
        raise _refused(f"The filter ids takes a list of ids, not {body!r}.")
    return {str(value) for value in values}


def _least(given: Any, clauses: int) -> int:
    """How many of the clauses of ``should`` have to match."""
    found = re.fullmatch(r"\s*(-?\d+)(%?)\s*", str(given))
    if found is None or isinstance(given, bool):
        raise _refused(
            f"SQLite does not understand minimum_should_match {given!r}.",
            hint="It takes a number (2, -1) or a percentage (75%).",
        )
    number = int(found[1])
    if found[2]:
        number = int(clauses * number / 100)  # towards zero, as the clusters do
    return clauses + number if given != 0 and str(given).strip().startswith("-") else number


def _equal(value: Any, option: Any) -> bool:
    pair = _comparable(value, option)
    return pair is not None and bool(pair[0] == pair[1])


def _comparable(value: Any, other: Any) -> tuple[Any, Any] | None:
    """A stored value and one of a filter as the clusters compare them: in the type of what is
    stored, however the filter writes it; ``None`` = not at all."""
    if isinstance(value, bool):
        return str(value).lower(), str(other).lower()
    if isinstance(value, int | float):
        try:
            return value, other if type(other) is int else float(other)
        except (TypeError, ValueError):
            return None
    if isinstance(value, str):
        return value, str(other).lower() if isinstance(other, bool) else str(other)
    return None


def _values(document: Mapping[str, Any], field: str) -> list[Any]:
    """All values of a field, also of one inside an object (``author.name``)."""
    found: list[Any] = [document]
    for part in field.split("."):
        found = [v.get(part) for v in found if isinstance(v, Mapping)]
        found = [v for value in found for v in (value if isinstance(value, list) else [value])]
    return [v for v in found if v is not None]


def _refused(message: str, *, hint: str | None = None) -> EngineError:
    """As an engine refuses what it does not understand."""
    return EngineError(message, hint=hint, status=400)
