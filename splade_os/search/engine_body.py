"""The engine's own part of a request body: what may stand in it, and what else says the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from splade_os.errors import SettingsError
from splade_os.search.marks import Marks

Sort = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]
Highlight = bool | Sequence[str] | Mapping[str, Any] | Marks
OWN_SECTIONS = ("sort", "aggs", "collapse", "post_filter", "highlight")
"""Sections with a keyword of their own."""
_RANKING = (
    "the ranking is the mode's. Clauses that every hit fulfils are filter=; what is cut off after "
    "the aggregations is post_filter="
)
_INSTEAD = {
    "query": _RANKING,
    "knn": _RANKING,
    "retriever": _RANKING,
    "rank": _RANKING,
    "sub_searches": _RANKING,
    "rescore": "how the best are scored again is query_pruning= (QueryPruning(two_phase=...))",
    "from": "hits to leave out are offset=",
    "size": "the number of hits is k=",
    "_source": "the fields to return are source=",
    "track_total_hits": "to count all hits is total=",
    "track_scores": "a hit always has its score",
    "min_score": "the least score is min_score=",
    "timeout": "the time is timeout=",
    "search_after": "the page after another is after= (Results.following)",
    "pit": "the page after another is after= (Results.following)",
    "routing": "it is no part of a body, but the keyword routing=",
    "preference": "it is no part of a body, but the keyword preference=",
    "search_type": "it is no part of a body, but the keyword dfs=",
    "allow_partial_search_results": "it is no part of a body, but the keyword allow_partial=",
}


def engine_body(body: Mapping[str, Any] | None, **sections: Any) -> dict[str, Any]:
    """A body and the sections that have keywords of their own, as one.

    Args:
        body: any sections that the engine has, but those that a keyword of the search says.
        sections: those of `OWN_SECTIONS` that are asked for; ``None`` = not.

    Raises:
        SettingsError: something stands there that another keyword says, that is said twice, or
            that is no JSON.
    """
    if body is not None and not isinstance(body, Mapping):
        raise SettingsError(
            f"body is a {type(body).__name__}; it is a mapping, like "
            '{"aggs": {"brands": {"terms": {"field": "brand"}}}}.'
        )
    whole = dict(body or {})
    for name, instead in _INSTEAD.items():
        if name in whole:
            raise SettingsError(f"body has a {name!r}: {instead}.", hint=f"Take {name!r} out.")
    if "aggregations" in whole:  # the engines' other name for it
        if "aggs" in whole:
            raise SettingsError("body has both 'aggs' and 'aggregations', which are the same.")
        whole["aggs"] = whole.pop("aggregations")
    for name, given in sections.items():
        if given is None:
            continue
        if name in whole:
            raise SettingsError(
                f"{name!r} is given twice: as a keyword, and in body.", hint="Take one of them out."
            )
        if name not in ("sort", "highlight") and not isinstance(given, Mapping):
            raise SettingsError(f"{name} is a {type(given).__name__}; it is a mapping.")
        whole[name] = given
    if whole.get("sort") is not None:
        whole["sort"] = _sort(whole["sort"])
    check_json(whole, "body (with sort, aggs, highlight, collapse and post_filter)")
    return whole


def check_json(value: Any, what: str) -> None:
    """Whether that can be sent.

    Raises:
        SettingsError: it is no JSON.
    """
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise SettingsError(
            f"{what} is no JSON: {error}.",
            hint="It may hold mappings with texts as keys, lists, texts, numbers, dates, true, "
            "false and null.",
        ) from None


def _sort(given: Any) -> list[Any]:
    """One or several orders; ``price:desc`` as in the engines' URLs."""
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    orders: list[Any] = []
    for each in several:
        if isinstance(each, str) and each:
            field, _, direction = each.rpartition(":")
            named = direction in ("asc", "desc") and field
            orders.append({field: direction} if named else each)
        elif isinstance(each, Mapping) and each:
            orders.append(each)
        else:
            raise SettingsError(
                f"sort is {given!r}.",
                hint="Name fields: sort='price:desc', or [{'price': 'desc'}, '_score'].",
            )
    if not orders:
        raise SettingsError("sort is empty.", hint="Leave it out to sort by the score.")
    return orders
