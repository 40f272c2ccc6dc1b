"""Bodies are joined from bytes; the oracle is a plain dict through orjson, byte by byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splade_os.engines import IndexMeta, SearchRequest, TermsQuery, TwoPhase
from splade_os.engines.fields.capabilities import Capabilities
from splade_os.engines.fields.strategies import strategy_for
from splade_os.engines.rest.bodies import search_body
from splade_os.identity import ModelIdentity
from splade_os.vocabulary import FEATURE_NAMING, feature_name

MODEL = ModelIdentity(
    name="m", content_hash="0", activation="log1p_relu", pooling="max", max_length=8,
    vocabulary_size=9,
)  # fmt: skip
PLUGINS = frozenset({"mapper-extras", "opensearch-neural-search"})
ELASTIC = Capabilities("elasticsearch", "9.2.0", frozenset({"mapper-extras"}))
SERVERS = {
    "rank_feature": (Capabilities("opensearch", "3.8.0", PLUGINS), "rank_features"),
    "neural_sparse": (Capabilities("opensearch", "3.8.0", PLUGINS), "rank_features"),
    "term": (ELASTIC, "sparse_vector"),
    "sparse_vector": (ELASTIC, "sparse_vector"),
}


def plain(shape: str, field: str, terms: dict[str, np.float32]) -> dict[str, Any]:
    """The query as somebody would write it by hand."""
    if shape == "neural_sparse":
        return {"neural_sparse": {field: {"query_tokens": terms}}}
    if shape == "sparse_vector":
        return {"sparse_vector": {"field": field, "query_vector": terms, "prune": False}}
    clauses: list[dict[str, Any]] = [
        {"rank_feature": {"field": f"{field}.{name}", "linear": {}, "boost": weight}}
        if shape == "rank_feature"
        else {"term": {field: {"value": name, "boost": weight}}}
        for name, weight in terms.items()
    ]
    return {"bool": {"minimum_should_match": 1, "should": clauses}}


weights_of = st.floats(2.0**-126, 64.0, width=32).map(np.float32)
names_of = st.text(st.characters(codec="utf-8"), max_size=8).map(feature_name)


@pytest.mark.parametrize("shape", SERVERS)
@given(
    terms=st.dictionaries(names_of, weights_of, min_size=1, max_size=30),
    field=st.sampled_from(["splade", 'a "field"', "v\N{LATIN SMALL LETTER E WITH ACUTE}c"]),
    filters=st.sampled_from([(), ({"term": {"lang": "en"}}, {"range": {"n": {"gte": 1}}})]),
    first=st.sampled_from([None, 1, 3, 0.5]),
    offset=st.integers(0, 3),
    min_score=st.sampled_from([None, 0.5]),
    window=st.sampled_from([5, 50]),
)
def test_bytes_are_those_of_a_dict(
    shape: str,
    terms: dict[str, np.float32],
    field: str,
    filters: tuple[dict[str, Any], ...],
    first: float | None,
    offset: int,
    min_score: float | None,
    window: int,
) -> None:
    server, field_type = SERVERS[shape]
    meta = IndexMeta(
        splade_os="0", field=field, field_type=field_type, feature_naming=FEATURE_NAMING,
        model=MODEL,
    )  # fmt: skip
    request = SearchRequest(
        TermsQuery(list(terms), np.array(list(terms.values()), np.float32)),
        10,
        filter=filters,
        offset=offset,
        min_score=min_score,
        two_phase=None if first is None else TwoPhase(first, window),
        shape=shape,
    )
    heavy = sorted(terms, key=lambda name: -terms[name])
    if offset or min_score or window < 10:  # two phases are for the first page alone
        first = None
    if first == 0.5:
        heavy = [name for name in heavy if terms[name] >= terms[heavy[0]] * np.float32(0.5)]
    elif first is not None:
        heavy = heavy[: int(first)]
    light = [name for name in terms if name not in heavy]
    query = plain(shape, field, {name: terms[name] for name in terms if name in heavy})
    if filters:
        query = {"bool": {"must": [query], "filter": list(filters)}}
    expected: dict[str, Any] = {
        "size": 10,
        "track_total_hits": False,
        "_source": {"excludes": ["splade_os_hash", field]},
    }
    if offset:
        expected["from"] = offset
    if min_score:
        expected["min_score"] = min_score
    expected["query"] = query
    if light:
        again = plain(shape, field, {name: terms[name] for name in light})
        weights = {"query_weight": 1, "rescore_query_weight": 1}
        expected["rescore"] = {
            "window_size": window, "query": {**weights, "rescore_query": again}
        }  # fmt: skip
    body = search_body(request, meta, strategy_for(field_type, server), server)
    assert body == orjson.dumps(expected, option=orjson.OPT_SERIALIZE_NUMPY)
