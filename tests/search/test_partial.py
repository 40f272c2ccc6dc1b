"""Shards that are not there, scores that do not depend on shards, searches that are put off, and
the limits of an index."""

from __future__ import annotations

import contextlib
import json
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from splade_os import SearchClient
from splade_os.engines import Engine, TwoPhase
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import EngineError, EngineUnavailableError, IndexNotFoundError
from splade_os.search.options import Fusion, QueryPruning
from tests.faults.gate import Gate, Refusal
from tests.search.test_search import fill

TEXT = "cat and dog in the red sun"


@pytest.fixture
def cluster(engine: Engine) -> ClusterEngine:
    if not isinstance(engine, ClusterEngine):
        pytest.skip("one file has no shards")
    return engine


@pytest.fixture
def others(cluster: ClusterEngine, index: str) -> Iterator[str]:
    """A name for a second index."""
    name = f"{index}-other"
    yield name
    with contextlib.suppress(IndexNotFoundError):
        cluster.delete_index(name)


def create(cluster: ClusterEngine, index: str, like: str, settings: dict[str, Any]) -> None:
    """An index with the mapping of another."""
    mapping = cluster.request("GET", f"/{like}/_mapping")[like]["mappings"]
    body = {"mappings": mapping, "settings": {"number_of_replicas": 0, **settings}}
    cluster.request("PUT", f"/{index}", body, params={"wait_for_active_shards": "0"})


def test_a_shard_that_is_on_no_node(
    cluster: ClusterEngine, index: str, others: str, tiny: Path
) -> None:
    fill(cluster, index, tiny / "router", 20)
    create(cluster, others, index, {"index.routing.allocation.require._name": "nowhere"})
    client = SearchClient(engine=cluster, index=f"{index},{others}")
    for mode in ("idf", "bm25", "hybrid"):
        fusions = (Fusion(), Fusion("rrf")) if mode == "hybrid" else (Fusion(),)
        for fusion in fusions:
            with pytest.raises(EngineError, match=r"incomplete|refused") as refused:
                client.search(TEXT, 5, mode, fusion=fusion)  # type: ignore[arg-type]
            assert "--allow-partial" in str(refused.value)
            some = client.search(TEXT, 5, mode, fusion=fusion, allow_partial=True)  # type: ignore[arg-type]
            assert len(some) == 5 and "1 of 2 shards" in str(some.partial)
            assert some.to_dict()["partial"] == some.partial
            (many,) = client.search_many([TEXT], 5, mode, fusion=fusion, allow_partial=True)  # type: ignore[arg-type]
            assert not isinstance(many, EngineError)
            assert [h.id for h in many] == [h.id for h in some] and many.partial
    whole = SearchClient(engine=cluster, index=index).search(TEXT, 5, allow_partial=True)
    assert len(whole) == 5 and whole.partial is None


def test_words_of_all_shards(cluster: ClusterEngine, index: str, others: str, tiny: Path) -> None:
    """Five shards score as one does."""
    fill(cluster, index, tiny / "router", 60)
    create(cluster, others, index, {"number_of_shards": 5})
    lines: list[bytes] = []
    for identifier, source in cluster.scan(index):
        lines += [json.dumps({"index": {"_id": identifier}}).encode(), json.dumps(source).encode()]
    assert all(outcome.ok for outcome in cluster.bulk(others, b"\n".join(lines) + b"\n"))
    cluster.refresh(others)
    one, five = (SearchClient(engine=cluster, index=name, idf="model") for name in (index, others))
    for mode in ("bm25", "hybrid"):
        scores = {h.id: h.score for h in one.search(TEXT, 60, mode)}  # type: ignore[arg-type]
        found = five.search(TEXT, 60, mode, dfs=True)  # type: ignore[arg-type]
        assert {h.id: h.score for h in found} == pytest.approx(scores, rel=1e-5)
        apart = {h.id: h.score for h in five.search(TEXT, 60, mode)}  # type: ignore[arg-type]
        assert apart != pytest.approx(scores, rel=1e-5)
        (many,) = five.search_many([TEXT], 60, mode, dfs=True)  # type: ignore[arg-type]
        assert not isinstance(many, EngineError)
        assert [h.id for h in many] == [h.id for h in found]
        scanned = list(five.scan(TEXT, mode, page=7, dfs=True))  # type: ignore[arg-type]
        assert {h.id: h.score for h in scanned} == pytest.approx(scores, rel=1e-5)


def test_what_is_put_off_in_a_batch_is_sent_again(
    cluster: ClusterEngine, index: str, tiny: Path
) -> None:
    fill(cluster, index, tiny / "router", 20)
    busy = {"error": {"type": "rejected", "reason": "queue is full"}, "status": 429}

    def put_off(method: str, path: str, body: bytes) -> Refusal | None:
        if not path.endswith("_msearch"):
            return None
        header = {"content-type": "application/x-ndjson"}
        request = urllib.request.Request(cluster.url + path, body, header, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        found["responses"][1::2] = [busy for _ in found["responses"][1::2]]
        return 200, "application/json", json.dumps(found).encode()

    texts = [TEXT, "red", "sun", "dog cat"]
    with Gate(cluster.url, put_off) as gate, SearchClient(gate.url, index) as client:
        given = client.search_many(texts, 5)
        assert len(gate.refused) == 1
    expected = SearchClient(engine=cluster, index=index)
    for text, results in zip(texts, given, strict=True):
        assert not isinstance(results, EngineError)
        assert [h.id for h in results] == [h.id for h in expected.search(text, 5)]


def test_the_clauses_of_an_aliass_filter_count(
    cluster: ClusterEngine, index: str, tiny: Path
) -> None:
    fill(cluster, index, tiny / "router", 20)
    limit = cluster.capabilities().max_clauses
    some = {"bool": {"should": [{"term": {"n": i}} for i in range(min(limit // 4, 900))]}}
    alias = f"{index}-some"
    add = {"add": {"index": index, "alias": alias, "filter": some}}
    cluster.request("POST", "/_aliases", {"actions": [add]})
    tokens = {"cat": 3.0, **{f"t{i}": 1 - i / (2 * limit) for i in range(limit + 10)}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = SearchClient(engine=cluster, index=alias).search(tokens, 3, "raw")
    assert found.used.cut and 0 < found.used.terms < limit


def test_another_limit_of_clauses_is_noticed(
    cluster: ClusterEngine, index: str, tiny: Path
) -> None:
    """What was known of the server is not so any more: as after a rolling restart."""
    fill(cluster, index, tiny / "router", 20)
    limit = cluster.capabilities().max_clauses
    tokens = {"cat": 3.0, **{f"t{i}": 1 - i / (2 * limit) for i in range(limit + 10)}}

    def more(method: str, path: str, body: bytes) -> Refusal | None:
        """Before: a server with a higher limit."""
        if path != "/_cluster/settings" or len(asked) > 1:
            return None
        asked.append(path)
        raised = {"transient": {"indices": {"query": {"bool": {"max_clause_count": limit + 99}}}}}
        return 200, "application/json", json.dumps(raised).encode()

    asked: list[str] = ["once"]
    with (
        warnings.catch_warnings(),
        Gate(cluster.url, more) as gate,
        SearchClient(gate.url, index) as client,
    ):
        warnings.simplefilter("ignore")
        assert client.search(tokens, 3, "raw").used.terms <= limit
        (many,) = client.search_many([tokens], 3, "raw")
        assert not isinstance(many, EngineError) and many.used.terms <= limit


def test_windows_of_the_index_are_obeyed(cluster: ClusterEngine, index: str, tiny: Path) -> None:
    fill(cluster, index, tiny / "router", 120)
    before = SearchClient(engine=cluster, index=index)
    two = QueryPruning(two_phase=TwoPhase(2, 50))
    expected = [h.id for h in before.search(TEXT, 100)]
    halves = before.search(TEXT, 20, "hybrid", fusion=Fusion("rrf"))
    cluster.update_settings(index, {"max_result_window": 20, "max_rescore_window": 20})
    with SearchClient(cluster.url, index) as client:
        assert [h.id for h in client.search(TEXT, 100)] == expected
        assert [h.id for h in client.search(TEXT, 30, offset=50)] == expected[50:80]
        (many,) = client.search_many([TEXT], 100)
        assert not isinstance(many, EngineError) and [h.id for h in many] == expected
        assert [h.id for h in client.scan(TEXT)][:100] == expected
        assert [h.id for h in client.search(TEXT, 20, "hybrid", fusion=Fusion("rrf"))] == [
            h.id for h in halves
        ]
        assert client.search(TEXT, 100, total=True).total == before.search(TEXT, total=True).total
        assert client.search(TEXT, 5, query_pruning=two, mode="idf").used.window == 20
        assert client.search(TEXT, 40, query_pruning=two, mode="idf").used.window is None
        assert len(client.search(TEXT, 5, "encoder")) == 5
    with contextlib.closing(ClusterEngine(cluster.url)) as fresh:
        assert len(list(fresh.scan(index, ()))) == 120


def test_no_infinity_reaches_json(engine: Engine, index: str, tiny: Path) -> None:
    """A dot product over float32 is the largest that there is, everywhere."""
    fill(engine, index, tiny / "router", 20)
    client = SearchClient(engine=engine, index=index)
    found = client.search({"cat": 3e38, "dog": 3e38}, 20, "raw", explain=True)
    assert len(found) and found[0].score < float("inf")
    assert "Infinity" not in json.dumps(found.to_dict(), allow_nan=True)
    pages = list(client.scan({"cat": 3e38, "dog": 3e38}, "raw", page=3))
    assert sorted(h.id for h in pages) == sorted(h.id for h in found)


def test_a_dead_server_is_asked_once() -> None:
    with SearchClient("http://127.0.0.1:9", "x") as client, pytest.raises(EngineUnavailableError):
        client.search(TEXT)
