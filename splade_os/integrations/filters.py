"""What the filter languages of frameworks are translated into: clauses of the engines' own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Clause = Mapping[str, Any]
NOTHING: Clause = {"bool": {"must_not": [{"match_all": {}}]}}
"""A filter that no document passes."""


def equal_to(field: str, value: Any) -> Clause:
    """A field has this value; ``None``: it has none."""
    if value is None:
        return none_of([exists(field)])
    return {"term": {field: value}}


def one_of(field: str, values: Sequence[Any]) -> Clause:
    """A field has one of these values, ``None`` among them or not."""
    some = [value for value in values if value is not None]
    clauses: list[Clause] = [{"terms": {field: some}}] if some else []
    if len(some) < len(values):
        clauses.append(equal_to(field, None))
    return any_of(clauses) if clauses else NOTHING


def exists(field: str) -> Clause:
    """A field has a value."""
    return {"exists": {"field": field}}


def compared(field: str, operator: str, value: Any) -> Clause:
    """A field has a value on one side of this one.

    Args:
        operator: ``gt``, ``gte``, ``lt`` or ``lte``.
    """
    return {"range": {field: {operator: value}}}


def all_of(clauses: Sequence[Clause]) -> Clause:
    """A document passes all of them."""
    return {"bool": {"filter": list(clauses)}}


def any_of(clauses: Sequence[Clause]) -> Clause:
    """A document passes one of them at least."""
    return {"bool": {"should": list(clauses), "minimum_should_match": 1}}


def none_of(clauses: Sequence[Clause]) -> Clause:
    """A document passes none of them."""
    return {"bool": {"must_not": list(clauses)}}
