"""LlamaIndex's filters → clauses of the engines' query language."""

from __future__ import annotations

from collections.abc import Callable

from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from splade_os.errors import SettingsError
from splade_os.integrations.filters import (
    Clause,
    all_of,
    any_of,
    compared,
    equal_to,
    none_of,
    one_of,
)

_RANGES = {
    FilterOperator.GT: "gt",
    FilterOperator.GTE: "gte",
    FilterOperator.LT: "lt",
    FilterOperator.LTE: "lte",
}
_LOGIC: dict[FilterCondition, Callable[[list[Clause]], Clause]] = {
    FilterCondition.AND: all_of,
    FilterCondition.OR: any_of,
    FilterCondition.NOT: none_of,
}


def translated(filters: MetadataFilters | None, exact: Callable[[str], str]) -> list[Clause]:
    """Filters of metadata as clauses that every hit fulfils; none without a filter.

    Args:
        exact: name of a field of the metadata → the field of the index that compares it whole.

    Raises:
        SettingsError: an operator that an index does not have.
    """
    if filters is None or not filters.filters:
        return []
    return [_clause(filters, exact)]


def _clause(given: MetadataFilter | MetadataFilters, exact: Callable[[str], str]) -> Clause:
    if isinstance(given, MetadataFilters):
        logic = _LOGIC[given.condition or FilterCondition.AND]
        return logic([_clause(each, exact) for each in given.filters])
    operator, value, field = given.operator, given.value, exact(given.key)
    several = value if isinstance(value, list) else [value]
    match operator:
        case FilterOperator.EQ | FilterOperator.CONTAINS if not isinstance(value, list):
            return equal_to(field, value)
        case FilterOperator.NE if not isinstance(value, list):
            return none_of([equal_to(field, value)])
        case FilterOperator.IN | FilterOperator.ANY:
            return one_of(field, several)
        case FilterOperator.NIN:
            return none_of([one_of(field, several)])
        case FilterOperator.ALL:
            return all_of([equal_to(field, each) for each in several])
        case FilterOperator.IS_EMPTY:
            return any_of([equal_to(field, None), equal_to(field, "")])
        case _ if operator in _RANGES and not isinstance(value, list):
            return compared(field, _RANGES[operator], value)
    raise SettingsError(
        f"An index cannot filter {given.key!r} by {operator.value!r} with {value!r}.",
        hint="==, !=, >, >=, <, <=, in, nin, any, all, contains (a value of an array) and is_empty "
        "it has; parts of texts are for a search.",
    )
