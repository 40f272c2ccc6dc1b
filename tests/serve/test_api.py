"""What the API answers, over real HTTP: the same as the library's own clients."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import requests

from splade_os import Fusion, QueryPruning, SearchClient
from splade_os.engines import connect
from tests.serve.conftest import DOCUMENTS, Start, post, starter


@pytest.mark.parametrize("mode", ["hybrid", "idf", "bm25", "encoder"])
def test_search_is_the_clients(service: str, engine_url: str, filled: str, mode: Any) -> None:
    answer = post(
        service, "search", {"text": "running shoe", "k": 5, "mode": mode, "explain": True}
    )
    assert answer.status_code == 200, answer.text
    with SearchClient(engine_url, filled) as client:
        expected = client.search("running shoe", 5, mode, explain=True)
    found = answer.json()
    assert 1 < len(found["hits"]) == len(expected) and found["mode"] == mode
    for one, other in zip(found["hits"], expected, strict=True):
        assert one["id"] == other.id and one["source"] == other.source
        assert one["score"] == pytest.approx(other.score, rel=1e-5)
        assert [term["token"] for term in one["terms"]] == [term.token for term in other.terms]
    assert found["query"].keys() == expected.query.keys()


def test_filters_pages_and_cursors(service: str) -> None:
    body = {"text": "thing of number", "k": 50, "total": True}
    whole = post(service, "search", body).json()
    assert whole["total"] == len(whole["hits"]) > 10
    ids = [hit["id"] for hit in whole["hits"]]
    acme = {**body, "text": "shoe thing", "filter": {"term": {"brand": "acme"}}}
    assert {h["source"]["brand"] for h in post(service, "search", acme).json()["hits"]} == {"acme"}
    second = post(service, "search", {**body, "k": 5, "offset": 5}).json()
    assert [hit["id"] for hit in second["hits"]] == ids[5:10]
    pages, after = [], {}
    while after is not None:
        page = post(service, "search", {"text": body["text"], "k": 7, "after": after}).json()
        pages += [hit["id"] for hit in page["hits"]]
        after = page["following"]
    assert sorted(pages) == sorted(ids)


def test_many_in_order(service: str) -> None:
    texts = ["running shoe", "sea", "zzzz qqqq"]
    found = post(service, "search_many", {"texts": texts, "mode": "idf", "k": 2}).json()["results"]
    alone = [post(service, "search", {"text": t, "mode": "idf", "k": 2}).json() for t in texts]
    assert [[h["id"] for h in r["hits"]] for r in found] == [
        [h["id"] for h in r["hits"]] for r in alone
    ]


def test_options_reach_the_search(service: str, engine_url: str, filled: str) -> None:
    body = {
        "text": "light shoe for running",
        "fusion": {"weights": [1, 0.5]},
        "query_pruning": {"top": 2},
        "source": ["title"],
    }
    found = post(service, "search", body).json()
    with SearchClient(engine_url, filled) as client:
        expected = client.search(
            body["text"],  # type: ignore[arg-type]
            fusion=Fusion(weights=(1, 0.5)),
            query_pruning=QueryPruning(top=2),
            source=["title"],
        )
    assert [h["score"] for h in found["hits"]] == pytest.approx([h.score for h in expected])
    assert all(set(hit["source"]) == {"title"} for hit in found["hits"])
    assert found["used"]["terms"] == expected.used.terms < expected.used.of


def test_vectors(service: str) -> None:
    text = "A light shoe for running"
    encoder = starter()
    ids, weights = encoder.encode([text]).row(0)
    expected = {encoder.vocabulary.tokens[i]: w for i, w in zip(ids, weights, strict=True)}
    found = post(service, "encode", {"texts": [text, ""]}).json()["vectors"]
    assert found[0].keys() == expected.keys() and found[1] == {}
    assert list(found[0].values()) == sorted(found[0].values(), reverse=True)
    queries = post(service, "encode", {"texts": [text], "side": "query"}).json()["vectors"]
    assert {"light", "shoe"} <= queries[0].keys()
    explained = post(service, "explain", {"text": text}).json()
    weighed = {each["token"]: each["weight"] for each in explained["document"]}
    assert weighed == pytest.approx(found[0])
    by_token = {each["token"]: each for each in explained["document"]}
    assert 0 < by_token["shoe"]["prior"] < by_token["shoe"]["weight"]
    assert by_token["shoes"]["expansion"] and by_token["shoes"]["prior"] == 0
    assert [piece["token"] for piece in explained["pieces"]][:3] == ["a", "light", "shoe"]


def test_documents(start: Start, engine_url: str) -> None:
    index = f"test-serve-{uuid.uuid4().hex[:10]}"
    url = start(engine_url, index, allow_writes=True).url
    engine = connect(engine_url)
    try:
        shoes = [{"id": "1", **DOCUMENTS[0]}, {"id": "2", "title": {"x": 1}}]
        written = post(url, "documents", {"upsert": shoes}).json()["results"]
        assert [each["result"] for each in written] == ["created", "failed"]
        assert written[1]["reason"]
        engine.refresh(index)
        assert post(url, "search", {"text": "red shoe"}).json()["hits"][0]["id"] == "1"
        gone = post(url, "documents", {"delete": ["1", "nobody"]}).json()["results"]
        assert [each["result"] for each in gone] == ["deleted", "not_found"]
        counted = requests.get(f"{url}/metrics", timeout=10).text
        assert 'splade_os_documents_written_total{result="created"} 1.0' in counted
        assert 'splade_os_http_requests_total{path="/v1/documents",status="200"} 2.0' in counted
    finally:
        engine.delete_index(index)
        engine.close()


def test_what_it_describes_is_what_it_takes(service: str) -> None:
    document = requests.get(f"{service}/openapi.json", timeout=10).json()
    assert set(document["paths"]) == {
        f"/v1/{name}" for name in ("search", "search_many", "encode", "explain", "documents")
    }
    schemas = document["components"]["schemas"]
    assert {"text", "k", "mode", "filter", "query_pruning"} <= schemas["SearchBody"][
        "properties"
    ].keys()

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    named = {f"#/components/schemas/{name}" for name in schemas}
    assert references(document) <= named
    assert requests.get(f"{service}/health/live", timeout=10).json() == {"status": "live"}
    assert requests.get(f"{service}/health/ready", timeout=10).json() == {"status": "ready"}
