"""Search requests → request bodies, as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from splade_os.engines.base import (
    HybridQuery,
    IdsQuery,
    IndexMeta,
    MatchQuery,
    SearchRequest,
    SumQuery,
    TermsQuery,
    TextQuery,
)
from splade_os.engines.fields.capabilities import Capabilities
from splade_os.engines.fields.shapes import Shape
from splade_os.engines.fields.strategies import FieldStrategy
from splade_os.errors import EngineError
from splade_os.vectors import Weights

HIGHLIGHT_MARK = "\u241f"  # around highlighted words
PIT_KEEP_ALIVE = "2m"
_SUM = b'{"bool":{"minimum_should_match":1,"should":['


def checked(query: TermsQuery) -> tuple[Sequence[str], Weights]:
    """Features and float32 weights of a query.

    Raises:
        ValueError: a query without terms (an empty ``should`` matches the whole index with
            score 1), or with a weight that is not finite and positive.
    """
    features, weights = query.features, np.asarray(query.weights, np.float32)
    if not len(features) or len(features) != len(weights):
        raise ValueError(f"a query of {len(features)} features and {len(weights)} weights")
    # NaN fails as well; the functions behind min() and max(), at half the time of those
    if not (np.minimum.reduce(weights) > 0 and np.maximum.reduce(weights) < np.inf):
        raise ValueError("a query weight is not finite and greater than zero")
    return features, weights


def heaviest(query: TermsQuery, count: int) -> TermsQuery:
    """The ``count`` heaviest terms of a query, in their order."""
    if len(query.features) <= count:
        return query
    kept = np.sort(np.argsort(-np.asarray(query.weights), kind="stable")[:count])
    return TermsQuery([query.features[i] for i in kept], np.asarray(query.weights)[kept])


def search_parameters(request: SearchRequest) -> dict[str, str]:
    """What a request says beside its body: in the URL of a search, in the header of one of many."""
    parameters = dict(request.parameters)
    if request.allow_partial:  # a cluster's own default may be another
        parameters["allow_partial_search_results"] = "true"
    if request.dfs:
        parameters["search_type"] = "dfs_query_then_fetch"
    return parameters


def search_body(
    request: SearchRequest,
    meta: IndexMeta,
    strategy: FieldStrategy,
    server: Capabilities,
    factors: Mapping[str, float] | None = None,
) -> bytes:
    """The ``_search`` body of a request.

    Args:
        factors: (``impact``) feature → what its weight is multiplied by (`live_idf`).

    Raises:
        ValueError: see `checked`.
        EngineError: the server lacks the shape that the request names.
    """
    head: dict[str, Any] = {
        "size": request.k,
        "track_total_hits": request.total,
        "_source": _source_filter(request, meta, server),
    }
    if request.offset:
        head["from"] = request.offset
    if request.timeout is not None:
        head["timeout"] = f"{max(1, round(request.timeout * 1000))}ms"
    if request.body:
        head |= request.body
        if "sort" in request.body:
            head["track_scores"] = True  # else the hits have none
    if request.after is not None:
        head["pit"] = {"id": request.after.pit, "keep_alive": PIT_KEEP_ALIVE}
        order = request.body.get("sort", [{"_score": "desc"}])
        head["sort"] = [*order, *server.tie_breakers]
        head["track_scores"] = True
        if "sort" in request.body:
            # OpenSearch (3.8) skips documents without a value of the field behind such a one,
            # unless it has to count them all
            head["track_total_hits"] = True
        if request.after.after:
            head["search_after"] = list(request.after.after)
    if request.highlight:
        head["highlight"] = {
            "require_field_match": False,
            "number_of_fragments": 0,
            "pre_tags": [HIGHLIGHT_MARK],
            "post_tags": [HIGHLIGHT_MARK],
            # what else is stored may be longer than any highlighter reads, and was not searched
            "fields": {name: {} for name in _searched(meta)},
        }
        if meta.impact_max is not None and isinstance(request.query, SumQuery):
            # the field of the vectors holds words, too: those of the expansion would be marked
            head["highlight"]["highlight_query"] = orjson.loads(_match(request.query.match, meta))
        if server.highlight_end:
            head["highlight"][server.highlight_end] = 999_999  # the default of an index, less 1
    query = request.query
    rescore = b""
    if isinstance(query, HybridQuery):
        body = _hybrid(query, request, meta, strategy, server, factors)
        head["search_pipeline"] = query.pipeline
    elif isinstance(query, MatchQuery):
        body = _filtered(_match(query, meta), request.filter)
    elif isinstance(query, IdsQuery):
        body = orjson.dumps({"ids": {"values": list(query.ids)}})
    elif isinstance(query, TextQuery):
        clause: dict[str, Any] = {"query_text": query.text}
        if meta.field_type == "sparse_vector":
            clause["method_parameters"] = _seismic(request)
        body = _filtered(orjson.dumps({"neural_sparse": {meta.field: clause}}), request.filter)
        head["search_pipeline"] = query.pipeline
    else:
        terms = query.terms if isinstance(query, SumQuery) else query
        shape = strategy.shape(request.shape, server)
        first, rest = _split(request, *checked(terms))
        body = _terms(first, shape, request, meta, factors)
        if isinstance(query, SumQuery):
            body = _SUM + body + b"," + _match(query.match, meta) + b"]}}"
        body = _filtered(body, request.filter)
        if rest is not None and request.phases is not None:
            rescore = (
                b',"rescore":{"window_size":%d,"query":{"query_weight":1,'
                b'"rescore_query_weight":1,"rescore_query":' % request.phases.window
            )
            rescore += _terms(rest, shape, request, meta, factors) + b"}}"
    if request.min_score is not None:
        head["min_score"] = request.min_score
    return orjson.dumps(head)[:-1] + b',"query":' + body + rescore + b"}"


def _split(
    request: SearchRequest, features: Sequence[str], weights: Weights
) -> tuple[tuple[Sequence[str], Weights], tuple[Sequence[str], Weights] | None]:
    """The terms of the query proper, and those of the rescorer: together they are all terms,
    so that a document of the window has its exact score.

    See `SearchRequest.phases`.
    """
    plan = request.phases
    count = len(features) if plan is None else plan.heavy(weights)
    if len(features) <= count:
        return (features, weights), None
    order = np.argsort(-weights, kind="stable")
    parts = [np.sort(order[:count]), np.sort(order[count:])]
    first, rest = (([features[i] for i in part], weights[part]) for part in parts)
    return first, rest


def _terms(
    terms: tuple[Sequence[str], Weights],
    shape: Shape,
    request: SearchRequest,
    meta: IndexMeta,
    factors: Mapping[str, float] | None,
) -> bytes:
    options: dict[str, Any] = {}
    if factors is not None:
        features, weights = terms
        terms = features, weights * np.array([factors[f] for f in features], np.float32)
    if request.token_pruning:
        options["prune"] = True
    if meta.field_type == "sparse_vector" and shape.name == "neural_sparse":
        options["method_parameters"] = _seismic(request)
    return shape.render(meta.field, *terms, options)


def _seismic(request: SearchRequest) -> dict[str, Any]:
    parameters = {"k": request.offset + request.k, **(request.method_parameters or {})}
    if request.filter:
        parameters["filter"] = _clauses(request.filter)
    return parameters


def _match(query: MatchQuery, meta: IndexMeta) -> bytes:
    clause: dict[str, Any] = {"query": query.text}
    if query.boost != 1:
        clause["boost"] = query.boost
    if meta.bm25:
        return orjson.dumps({"multi_match": {**clause, "fields": list(meta.bm25)}})
    return orjson.dumps({"match": {meta.content_field: clause}})


def _searched(meta: IndexMeta) -> list[str]:
    """The fields in which words of a BM25 query stand."""
    own = [name.partition("^")[0] for name in meta.bm25] or [meta.content_field]
    return list(dict.fromkeys([*own, *meta.text_fields]))


def _clauses(filters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"bool": {"filter": list(filters)}}


def _filtered(query: bytes, filters: Sequence[Mapping[str, Any]]) -> bytes:
    if not filters:
        return query
    return b'{"bool":{"must":[' + query + b'],"filter":' + orjson.dumps(list(filters)) + b"}}"


def _hybrid(
    query: HybridQuery,
    request: SearchRequest,
    meta: IndexMeta,
    strategy: FieldStrategy,
    server: Capabilities,
    factors: Mapping[str, float] | None,
) -> bytes:
    if not server.neural_search:
        raise EngineError(
            f"{server.distribution} {server.version} has no hybrid query: the plugin "
            "neural-search is not there.",
            hint="Leave the fusion to the client, which needs no plugin.",
        )
    terms = checked(query.terms)
    shape = strategy.shape(request.shape, server)
    parts = [_terms(terms, shape, request, meta, factors), _match(query.match, meta)]
    queries = b",".join(_filtered(part, request.filter) for part in parts)
    depth = b""
    if server.number >= (2, 19):  # older ones fuse as many as are asked for
        depth = b',"pagination_depth":%d' % max(query.depth, request.k)
    return b'{"hybrid":{"queries":[' + queries + b"]" + depth + b"}}"


def _source_filter(request: SearchRequest, meta: IndexMeta, server: Capabilities) -> Any:
    field = meta.field
    if request.with_vector:
        wanted: dict[str, Any] = {"excludes": [meta.hash_field]}
        if request.source is not None:
            wanted["includes"] = [*(name for name in request.source if name != field), field]
        if server.exclude_vectors:
            wanted["exclude_vectors"] = False
        return wanted
    if request.source is None:
        return {"excludes": [meta.hash_field, field]}
    names = [name for name in request.source if name != field]
    return {"includes": names} if names else False
