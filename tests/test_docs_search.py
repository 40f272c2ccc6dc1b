"""The request bodies of docs/search.md, sent as they stand to real nodes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from splade_os import mappings
from splade_os.engines.rest.cluster import ClusterEngine

TEXT = (Path(__file__).parents[1] / "docs" / "search.md").read_text("utf-8")
BODIES = re.findall(r"```json( elasticsearch)?\n(.*?)```", TEXT, re.DOTALL)
FIELD_OF = {"term": "sparse_vector", "rank_feature": "rank_features"}
VECTOR = {"table": 2.0, "read": 1.0, "column": 0.5}


@pytest.mark.parametrize("kind", ["opensearch", "elasticsearch"])
def test_bodies(kind: str, request: pytest.FixtureRequest) -> None:
    engine = ClusterEngine(str(request.getfixturevalue(f"{kind}_url")))
    (field_type, *_) = engine.field_types()
    body: dict[str, Any] = mappings.load(kind, field_type)
    for field in body["mappings"]["properties"].values():
        field.pop("analyzer", None)  # the nodes of the tests have not all of them
    engine.request("PUT", "/docs", body)
    try:
        document = {"splade_os_vector": VECTOR, "text": "how to read a table"}
        engine.request("PUT", "/docs/_doc/1", document, params={"refresh": "true"})
        engine.request(
            "PUT", "/docs/_doc/2", {"splade_os_vector": {"dog": 1}}, params={"refresh": "true"}
        )
        tried = 0
        for only, query in BODIES:
            spelled = "term" if only else "rank_feature"
            if f'"{spelled}"' in query and field_type != FIELD_OF[spelled]:
                continue
            found = engine.request("POST", "/docs/_search", query.encode())["hits"]["hits"]
            assert [hit["_id"] for hit in found] == ["1"], query
            assert found[0]["_source"] == {"text": "how to read a table"}
            tried += 1
        assert tried >= 2
    finally:
        engine.request("DELETE", "/docs")
