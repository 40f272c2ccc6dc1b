"""What encodes the queries of an index in the engine: found out before such a query is sent.

A ``neural_sparse`` query that no model is named for is not refused by OpenSearch 3: the analyzer
``bert-uncased`` encodes it, with other weights and other feature names. So the search pipeline is
looked at first, and every query names it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from splade_os.engines.base import IndexMeta, QueryPipeline
from splade_os.engines.opensearch_ml.search_pipelines import DEFAULT_PIPELINE, model_of, named
from splade_os.engines.rest.wire import Call
from splade_os.errors import DeploymentError, EngineError, EngineUnavailableError

_MARK = "splade-os query encoder"
_ML = "/_plugins/_ml"


def check_searchable(index: str, meta: IndexMeta) -> None:
    """Whether OpenSearch can search the vectors of an index by its own query encoder.

    Raises:
        DeploymentError: not in a field of that type.
    """
    if meta.impact_max is not None:
        raise DeploymentError(
            f"{index} stores its vectors in a field of the type impact, which OpenSearch does not "
            "search by neural_sparse: it would never use the query encoder.",
            hint="It needs none: mode idf, or a match with the tokens. Or ingest into an index "
            "with --field-type rank_features.",
        )


def query_pipeline(index: str, field: str) -> Generator[Call, Any, QueryPipeline]:
    """The default search pipeline of an index, and the query encoder that it names.

    Raises:
        DeploymentError: there is none.
    """
    hint = f"Deploy one: splade-os deploy PACKAGE --index {index}"
    answer = yield Call("GET", f"/{index}/_settings", params={"flat_settings": "true"}, index=index)
    names = {named(body["settings"].get(DEFAULT_PIPELINE)) for body in answer.values()}
    name = names.pop() if len(names) == 1 else None
    if name is None:
        raise DeploymentError(f"No query encoder is deployed for the index {index}.", hint=hint)
    body = (yield from _found(f"/_search/pipeline/{name}")).get(name, {})
    model_id = model_of(body, field)
    if model_id is None:
        raise DeploymentError(
            f"The search pipeline {name} of the index {index} names no model for the field "
            f"{field}.",
            hint=hint,
        )
    model = yield from _found(f"{_ML}/models/{model_id}")
    group: Mapping[str, Any] = {}
    if "model_group_id" in model:
        group = yield from _found(f"{_ML}/model_groups/{model['model_group_id']}")
    facts = read_description(group.get("description", "")) or {}
    return QueryPipeline(name, model_id, facts.get("content"))


def _found(path: str) -> Generator[Call, Any, Mapping[str, Any]]:
    """The answer; nothing, where it is missing or this user may not see it."""
    try:
        answer = yield Call("GET", path)
    except EngineUnavailableError:
        raise
    except EngineError:
        return {}
    return dict(answer)


def describe(facts: Mapping[str, str]) -> str:
    """What a cluster remembers about a query encoder, in the characters that ML Commons takes.

    Args:
        facts: ``content`` (hash of the model that it is for), and what people want to see.
    """
    return ", ".join((_MARK, *(f"{name}: {_plain(value)}" for name, value in facts.items())))


def read_description(text: str) -> dict[str, str] | None:
    """The facts of `describe`, or ``None`` if it is none of ours."""
    mark, *fields = text.split(", ")
    if mark != _MARK:
        return None
    return dict(field.split(": ", 1) for field in fields if ": " in field)


def _plain(value: str) -> str:
    return "".join(c if c.isalnum() or c in "-_./@" else "_" for c in value)
