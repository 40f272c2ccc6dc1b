"""Haystack's filters → clauses of the engines' query language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from haystack.errors import FilterError

from splade_os.integrations.filters import (
    NOTHING,
    Clause,
    all_of,
    any_of,
    compared,
    equal_to,
    none_of,
    one_of,
)

_RANGES = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_COMPARISONS = ("==", "!=", *_RANGES, "in", "not in")
_LOGIC: dict[str, Callable[[list[Clause]], Clause]] = {
    "AND": all_of,
    "OR": any_of,
    "NOT": lambda clauses: none_of([all_of(clauses)]),
}


def translated(filters: Mapping[str, Any] | None, exact: Callable[[str], str]) -> list[Clause]:
    """Haystack's filter as clauses that every hit fulfils; none without a filter.

    Args:
        exact: name of a field of the metadata → the field of the index that compares it whole.

    Raises:
        FilterError: it is none; says what is wrong.
    """
    return [_clause(filters, exact)] if filters else []


def _clause(filters: Mapping[str, Any], exact: Callable[[str], str]) -> Clause:
    if not isinstance(filters, Mapping):
        raise FilterError(f"A filter is a dict, not {filters!r}.")
    if "field" in filters:
        return _comparison(filters, exact)
    for key in ("operator", "conditions"):
        if key not in filters:
            raise FilterError(f"The filter {dict(filters)!r} has no {key!r}.")
    logic = _LOGIC.get(filters["operator"])
    if logic is None:
        raise FilterError(
            f"There is no operator {filters['operator']!r} of conditions: {', '.join(_LOGIC)}."
        )
    return logic([_clause(each, exact) for each in filters["conditions"]])


def _comparison(filters: Mapping[str, Any], exact: Callable[[str], str]) -> Clause:
    for key in ("operator", "value"):
        if key not in filters:
            raise FilterError(f"The filter {dict(filters)!r} has no {key!r}.")
    operator, value = filters["operator"], filters["value"]
    if operator not in _COMPARISONS:
        raise FilterError(f"There is no operator {operator!r}: {', '.join(_COMPARISONS)}.")
    if filters["field"] == "id":
        return _by_id(operator, value)
    field = exact(str(filters["field"]).removeprefix("meta."))
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise FilterError(f"{operator!r} takes a list, not {value!r}.")
        found = one_of(field, [_plain(each) for each in value])
    elif operator in ("==", "!="):
        if isinstance(value, list | Mapping):
            raise FilterError(f"An engine compares single values, not {value!r}; take 'in'.")
        found = equal_to(field, _plain(value))
    else:
        return _ordered(field, operator, value)
    return none_of([found]) if operator in ("!=", "not in") else found


def _by_id(operator: str, value: Any) -> Clause:
    ids = value if isinstance(value, list) else [value]
    if operator in _RANGES or not all(isinstance(each, str) for each in ids):
        raise FilterError(f"Ids are compared by ==, !=, in and not in, with texts: {value!r}.")
    found: Clause = {"ids": {"values": ids}}
    return none_of([found]) if operator in ("!=", "not in") else found


def _ordered(field: str, operator: str, value: Any) -> Clause:
    if value is None:
        return NOTHING
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise FilterError(
                f"{operator!r} compares numbers and dates of ISO 8601, not the text {value!r}."
            ) from None
    elif isinstance(value, bool) or not isinstance(value, int | float | datetime):
        raise FilterError(f"{operator!r} compares numbers and dates, not {value!r}.")
    return compared(field, _RANGES[operator], _plain(value))


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
