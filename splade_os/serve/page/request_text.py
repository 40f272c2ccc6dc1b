"""The search of a column as other programs would send it."""

from __future__ import annotations

from typing import Any

import orjson

from splade_os.control_characters import clean_json
from splade_os.engines import IndexMeta
from splade_os.search.results import Results, curl_command
from splade_os.serve.page.state import PageState, Way

_OURS = ("highlight", "aggs", "aggregations")  # for the page, not for the ranking


def curl_of(results: Results, meta: IndexMeta) -> str:
    """Commands for a shell; empty where the engine takes no request."""
    commands = []
    for body in results.bodies:
        whole: dict[str, Any] = orjson.loads(body)
        for name in _OURS:
            whole.pop(name, None)
        whole["_source"] = {"excludes": sorted((meta.field, meta.hash_field))}
        plain = clean_json(orjson.dumps(whole).decode())
        commands.append(curl_command(results.endpoint, plain.encode()))
    return "\n".join(commands)


def python_of(way: Way, state: PageState, url: str) -> str:
    """The same with `SearchClient`."""
    options = [f"k={state.k}"] * (state.k != 10)
    options += [f"mode={way.mode!r}"] * (way.mode != "hybrid")
    if state.filters:
        options.append(f"filter={state.clauses()!r}")
    if state.sort:
        options.append(f"sort={state.sort!r}")
    names = ["SearchClient"]
    if state.prune and way.mode != "bm25":
        options.append(f"query_pruning=QueryPruning(max_ratio={state.prune:g})")
        names.append("QueryPruning")
    if way.mode == "hybrid" and state.bm25 != 1:
        options.append(f"fusion=Fusion(weights=(1, {state.bm25:g}))")
        names.append("Fusion")
    arguments = ", ".join([ascii(state.q), *options])
    return (
        f"from splade_os import {', '.join(sorted(names))}\n\n"
        f"client = SearchClient({url!r}, {way.index!r})\n"
        f"for hit in client.search({arguments}):\n"
        "    print(hit.rank, hit.score, hit.id)\n"
    )
