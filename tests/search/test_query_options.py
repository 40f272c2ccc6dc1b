"""Every option of a search, on every engine."""

from __future__ import annotations

import json
import subprocess
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from splade_os import EXACT, Cursor, Fusion, QueryPruning, Results, SearchClient, TwoPhase
from splade_os.engines import Engine, connect
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import EngineError, InputError, SettingsError
from splade_os.search.options import SearchKeywords
from tests.conftest import MATRIX, url_of
from tests.search.test_search import WORDS, fill, records

TEXT = "cat and dog in the red sun"
COUNT = 60


@pytest.fixture(scope="module", params=["sqlite", *MATRIX])
def client(
    request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SearchClient]:
    """Of an index that no test changes."""
    engine = connect(url_of(request.param, request, tmp_path_factory.mktemp("options")))
    index = f"options-{uuid4().hex[:12]}"
    fill(engine, index, tiny / "router", COUNT)
    yield SearchClient(engine=engine, index=index)
    engine.delete_index(index)
    engine.close()


def ids(results: Any) -> list[str]:
    return [hit.id for hit in results]


def post(url: str, body: bytes) -> Any:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_filter_keeps_scores(client: SearchClient) -> None:
    everything = client.search(TEXT, COUNT, mode="idf")
    low = {"range": {"n": {"lte": 20}}}
    few = client.search(TEXT, COUNT, filter=low, mode="idf")
    expected = [(h.id, h.score) for h in everything if h.source["n"] <= 20]
    assert expected and sorted(expected) == sorted((h.id, h.score) for h in few)
    both = [low, {"terms": {"n": [3, 7, 40]}}]
    for mode in ("idf", "encoder", "bm25"):
        assert {h.source["n"] for h in client.search(TEXT, COUNT, mode, filter=both)} <= {3, 7}  # type: ignore[arg-type]
    assert not client.search("", filter=low).hits
    assert "filter alone" in str(client.search("", filter=low).reason)


@pytest.mark.parametrize("mode", ["idf", "bm25", "encoder", "hybrid"])
def test_pages_make_up_the_whole(client: SearchClient, mode: Any) -> None:
    options: dict[str, Any] = {"query_pruning": EXACT}
    whole = client.search(TEXT, 30, mode, **options)
    pages = [client.search(TEXT, 10, mode, offset=offset, **options) for offset in (0, 10, 20)]
    assert ids(whole) == [i for page in pages for i in ids(page)]
    assert [h.rank for page in pages for h in page] == list(range(1, len(whole) + 1))


@pytest.mark.parametrize("mode", ["idf", "bm25"])
def test_scan_and_cursor(client: SearchClient, mode: Any) -> None:
    whole = client.search(TEXT, COUNT, mode)
    hits = list(client.scan(TEXT, mode, page=7))
    assert [h.rank for h in hits] == list(range(1, len(whole) + 1))
    np.testing.assert_array_equal([h.score for h in hits], [h.score for h in whole])
    assert len(set(ids(hits))) == len(hits) and set(ids(hits)) == set(ids(whole))
    first = client.search(TEXT, 5, mode, after=Cursor())
    assert first.following is not None
    second = client.search(TEXT, 5, mode, after=first.following)
    assert ids([*first, *second]) == ids(hits[:10])
    assert second.following is not None
    client.engine.close_cursor(second.following)
    client.engine.close_cursor(second.following)  # gone already
    abandoned = client.scan(TEXT, mode, page=3)
    next(abandoned)
    abandoned.close()  # type: ignore[attr-defined]


def test_scan_does_not_see_what_comes_after(engine: Engine, index: str, tiny: Path) -> None:
    if not isinstance(engine, ClusterEngine):
        pytest.skip("SQLite has no points in time")
    fill(engine, index, tiny / "router", COUNT)
    client = SearchClient(engine=engine, index=index)
    scan = client.scan(TEXT, page=5)
    seen = [next(scan)]
    body = b'{"delete":{"_id":"d%d"}}\n'
    client.engine.bulk(client.index, b"".join(body % i for i in range(1, COUNT + 1)))
    client.engine.refresh(client.index)
    assert not client.search(TEXT)
    seen += scan
    assert len(seen) > 5


def test_min_score_total_source(client: SearchClient) -> None:
    whole = client.search(TEXT, COUNT, mode="idf", total=True)
    assert whole.total == len(whole)
    assert client.search(TEXT, 1, mode="idf").total is None
    limit = whole[4].score
    best = client.search(TEXT, COUNT, min_score=limit, mode="idf")
    assert ids(best) == [h.id for h in whole if h.score >= limit]
    two = QueryPruning(two_phase=TwoPhase(2, COUNT))
    assert ids(client.search(TEXT, COUNT, min_score=limit, query_pruning=two, mode="idf")) == ids(
        best
    )
    (hit,) = client.search(TEXT, 1, source=["n"])
    assert set(hit.source) == {"n"}
    (hit,) = client.search(TEXT, 1, source=())
    assert hit.source == {}


def test_search_many_is_many_searches(client: SearchClient) -> None:
    texts = [record.text for record in records(4, seed=5)] + ["", "日本", TEXT]
    for mode in ("idf", "encoder", "bm25", "hybrid"):
        together = client.search_many(texts, 5, mode, explain=True)  # type: ignore[arg-type]
        assert len(together) == len(texts)
        for text, results in zip(texts, together, strict=True):
            alone = client.search(text, 5, mode, explain=True)  # type: ignore[arg-type]
            assert isinstance(results, Results)
            assert [h.rank for h in results] == [h.rank for h in alone]
            # a model's output depends in its last digits on the other texts of the batch
            assert [h.score for h in results] == pytest.approx([h.score for h in alone], rel=1e-4)
            matched = [{t.token for t in h.terms} | set(h.matched_words) for h in results]
            assert all(matched) and (results.reason or ids(results) == ids(alone))
            assert results.reason == alone.reason
    assert client.search_many([]) == []


def test_one_failed_search_harms_no_other(client: SearchClient) -> None:
    bad = {"range": {"n": {"gte": "no number"}}}
    with pytest.raises(EngineError):
        client.search(TEXT, filter={"no-such-clause": {}})
    good = client.search_many([TEXT, "red"], filter={"exists": {"field": "n"}})
    assert all(isinstance(r, Results) for r in good)
    if isinstance(client.engine, ClusterEngine):
        failed = client.search_many([TEXT, ""], filter=bad)
        assert isinstance(failed[0], EngineError) and isinstance(failed[1], Results)
        assert "no number" in str(failed[0])


def test_build_is_what_is_sent_and_curl_sends_it(client: SearchClient) -> None:
    fused: SearchKeywords = {"fusion": Fusion("rrf")}
    ways: list[tuple[Any, SearchKeywords, int]] = [
        (mode, {}, 1) for mode in ("idf", "encoder", "bm25", "hybrid")
    ]
    for mode, options, requests in [*ways, ("hybrid", fused, 2)]:
        results = client.search(TEXT, 3, mode, **options)
        assert list(results.bodies) == client.build(TEXT, 3, mode, **options)
        if not isinstance(client.engine, ClusterEngine):
            assert not results.bodies
            with pytest.raises(SettingsError, match="SQLite"):
                results.curl()
            continue
        assert len(results.bodies) == requests
        answer = post(results.endpoint, results.bodies[0])
        if requests == 1:
            assert [hit["_id"] for hit in answer["hits"]["hits"]] == ids(results)
        done = subprocess.run(
            results.curl().splitlines()[0], shell=True, capture_output=True, check=True
        )
        assert json.loads(done.stdout)["hits"] == answer["hits"]
    assert client.build("") == []
    with pytest.raises(SettingsError, match="query is empty"):
        client.search("").curl()


def test_raw_weights(client: SearchClient) -> None:
    weights = {"cat": 1.5, "dog": 70.0, "no such token": 2.0}
    results = client.search(weights, COUNT, "raw", explain=True)
    assert results.query == {"dog": 70.0, "no such token": 2.0, "cat": 1.5}
    for hit in results:
        assert {term.token for term in hit.terms} <= {"cat", "dog"}
        assert sum(term.share for term in hit.terms) == pytest.approx(hit.score, rel=1e-5)
    assert not client.search({}, mode="raw").hits
    for bad in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="'cat'"):
            client.search({"dog": 1, "cat": bad}, mode="raw")
    with pytest.raises(InputError, match="no number"):
        client.search({"cat": "much"}, mode="raw")  # type: ignore[dict-item]
    with pytest.raises(InputError, match="token → weight"):
        client.search("cat", mode="raw")
    with pytest.raises(InputError, match="not a dict"):
        client.search({"cat": 1.0})


def test_query_pruning(client: SearchClient) -> None:
    whole = client.search(TEXT, COUNT, "encoder", query_pruning=EXACT)
    weights = list(whole.query.values())
    assert weights == sorted(weights, reverse=True) and len(weights) > 4
    top = client.search(TEXT, COUNT, "encoder", query_pruning=QueryPruning(top=3))
    assert list(top.query.items()) == list(whole.query.items())[:3]
    ratio = client.search(TEXT, COUNT, "encoder", query_pruning=QueryPruning(max_ratio=0.5))
    assert list(ratio.query.values()) == [w for w in weights if w >= weights[0] / 2]
    same = client.search(top.query, COUNT, "raw")
    assert ids(same) == ids(top)


def test_two_phases_score_exactly(client: SearchClient) -> None:
    all_terms = client.search(TEXT, COUNT, "encoder", query_pruning=EXACT)
    exact, whole = {h.id: h.score for h in all_terms}, all_terms.query
    for first, window, k in ((1, 10, 5), (3, 60, 60), (500, 50, 10), (0.5, 60, 60)):
        pruning = QueryPruning(two_phase=TwoPhase(first, window))
        results = client.search(TEXT, k, "encoder", query_pruning=pruning)
        assert results
        scores = [hit.score for hit in results]
        assert scores == sorted(scores, reverse=True)
        np.testing.assert_allclose(scores, [exact[hit.id] for hit in results], rtol=1e-5)
        if isinstance(client.engine, ClusterEngine):
            body = json.loads(results.bodies[0])
            assert ("rescore" in body) == (first < 500)
            heavy = sum(w >= max(whole.values()) / 2 for w in whole.values())
            found = len(body["query"]["bool"]["should"])
            assert found == min({0.5: heavy}.get(first, first), len(whole))
    default = client.search(TEXT, 10, "encoder")
    np.testing.assert_allclose([h.score for h in default], [exact[h.id] for h in default], 1e-5)


@pytest.mark.parametrize("method", ["rrf", "min_max"])
def test_hybrid(client: SearchClient, method: Any) -> None:
    lists = {mode: client.search(TEXT, 100, mode) for mode in ("idf", "bm25")}  # type: ignore[arg-type]
    fusion = Fusion(method, weights=(2.0, 1.0))
    results = client.search(TEXT, 20, "hybrid", fusion=fusion, explain=True)
    assert results
    for hit in results:
        expected = 0.0
        for weight, (mode, ranking) in zip((2.0, 1.0), lists.items(), strict=True):
            scores = [h.score for h in ranking]
            for h in ranking:
                if h.id == hit.id:
                    assert hit.scores[mode] == pytest.approx(h.score)
                    scaled = (h.score - min(scores)) / (max(scores) - min(scores))
                    part = {"rrf": 1 / (60 + h.rank), "min_max": max(scaled, 0.001) / 3}[method]
                    expected += weight * part
        assert hit.score == pytest.approx(expected)
        assert ("idf" in hit.scores) == bool(hit.terms)
        assert ("bm25" in hit.scores) == bool(hit.matched_words)
    assert [h.score for h in results] == sorted((h.score for h in results), reverse=True)
    only = client.search("日本 running-unknown", 5, "hybrid")
    assert only.reason or only.query


def test_hybrid_fetches_stored_fields_of_its_page(client: SearchClient) -> None:
    rrf = Fusion("rrf")
    stored = {record.id: record.source for record in records(COUNT)}
    low = {"range": {"n": {"lte": 30}}}
    plain = client.search(TEXT, 5, "hybrid", fusion=rrf, offset=2, filter=low)
    assert [h.source for h in plain] == [stored[h.id] for h in plain]
    assert [h.source["n"] <= 30 for h in plain] == [True] * 5
    explained = client.search(TEXT, 5, "hybrid", fusion=rrf, offset=2, filter=low, explain=True)
    for other in (
        explained,
        client.search(TEXT, 5, "hybrid", fusion=rrf, offset=2, filter=low, source=()),
        client.search(TEXT, 5, "hybrid", fusion=rrf, offset=2, filter=low, source=["n"]),
    ):
        assert [(h.id, h.rank, h.score, h.scores) for h in other] == [
            (h.id, h.rank, h.score, h.scores) for h in plain
        ]
    assert [h.source for h in explained] == [h.source for h in plain]
    assert {tuple(h.source) for h in other} == {("n",)}
    many = client.search_many([TEXT, "", "no-such-word 日本", "moon"], 3, "hybrid", fusion=rrf)
    assert [len(r) for r in many if isinstance(r, Results)][:2] == [3, 0]
    for results in many:
        assert isinstance(results, Results)
        assert [h.source for h in results] == [stored[h.id] for h in results]


def test_hybrid_leaves_out_what_was_deleted_meanwhile(engine: Engine, tiny: Path) -> None:
    fill(engine, "vanishing", tiny / "router", 20)
    try:
        client = SearchClient(engine=engine, index="vanishing")
        best, second = client.search(TEXT, 2, "hybrid", fusion=Fusion("rrf"))
        search_many = engine.search_many

        def deleting(index: str, requests: Any) -> Any:
            answers = search_many(index, requests)
            if len(requests) == 2:  # between the two halves and the fetch
                engine.bulk(index, b'{"delete":{"_id":"%s"}}\n' % best.id.encode())
                engine.refresh(index)
            return answers

        engine.search_many = deleting  # type: ignore[method-assign]
        assert ids(client.search(TEXT, 2, "hybrid", fusion=Fusion("rrf"))) == [second.id]
    finally:
        engine.delete_index("vanishing")


def test_hybrid_in_the_engine(client: SearchClient) -> None:
    """OpenSearch's own fusion is the oracle of ours."""
    engine = client.engine
    for method in ("rrf", "min_max"):
        inside = Fusion(method, engine=True)  # type: ignore[arg-type]
        if not isinstance(engine, ClusterEngine) or not engine.capabilities().neural_search:
            with pytest.raises(EngineError, match="no hybrid query"):
                client.search(TEXT, 10, "hybrid", fusion=inside)
            continue
        theirs = client.search(TEXT, 20, "hybrid", fusion=inside)
        ours = client.search(TEXT, 20, "hybrid", fusion=Fusion(method))  # type: ignore[arg-type]
        assert [h.score for h in theirs] == pytest.approx([h.score for h in ours], rel=1e-5)
        mine = {h.id: h.score for h in ours}
        for hit in theirs:
            if hit.id in mine:
                assert hit.score == pytest.approx(mine[hit.id], rel=1e-5)


def test_idf_sources(client: SearchClient, tmp_path: Path) -> None:
    own = client.search("cat", 1)
    assert own.weights_from == f"index ({COUNT} documents)"

    def weight(source: Any) -> tuple[float, str]:
        other = SearchClient(engine=client.engine, index=client.index, idf=source)
        results = other.search("cat", 1)
        return results.query["cat"], results.weights_from

    assert weight("index")[0] == own.query["cat"]
    saved, origin = weight("model")
    assert origin == "model" and saved != own.query["cat"]
    file = tmp_path / "idf.json"
    file.write_text('{"cat": 2.5}')
    assert weight(file) == (2.5, str(file))
    mixed, origin = weight({"index": 1, str(file): 3})
    assert mixed == pytest.approx((own.query["cat"] + 3 * 2.5) / 4)
    assert origin.startswith("25% index (60 documents) + 75% ")


def test_long_and_odd_queries(client: SearchClient) -> None:
    random = np.random.default_rng(0)
    long = " ".join(random.choice(WORDS, 5000))
    assert client.search(long, 3, mode="idf") and client.search(long, 3, "encoder")
    cluster = isinstance(client.engine, ClusterEngine)
    limit = client.engine.capabilities().max_clauses if cluster else None  # type: ignore[attr-defined]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = client.search(long, 3, "bm25")
    cut = limit is not None and limit < 5000
    assert found and found.used.cut == cut
    assert not cut or any("heaviest are kept" in str(one.message) for one in said)
    for text in ('"', "\\", "a\x00b", "{}", "\N{SYMBOL FOR ESCAPE}"):
        for mode in ("idf", "encoder", "bm25"):
            client.search(text, 2, mode)  # type: ignore[arg-type]
    if limit is not None:
        with warnings.catch_warnings():  # said once: by now, or above
            warnings.simplefilter("ignore")
            many = client.search({f"t{i}": 1.0 + i for i in range(limit + 1)}, 1, "raw")
        assert (many.used.terms, many.used.of) == (limit, limit + 1)


def test_options_that_make_no_sense(client: SearchClient) -> None:
    for options in (
        {"k": 10_001},
        {"offset": -1},
        {"offset": 9_995},
        {"timeout": 0},
        {"offset": 1, "after": Cursor()},
        {"mode": "hybrid", "fusion": Fusion("rrf"), "after": Cursor()},
        {"query_tf": "much"},
        {"source": "title"},
    ):
        with pytest.raises(SettingsError):
            client.search(TEXT, **options)  # type: ignore[arg-type]
    for make in (
        lambda: QueryPruning(top=0),
        lambda: QueryPruning(max_ratio=2),
        lambda: QueryPruning(two_phase=TwoPhase(0, 1)),
        lambda: QueryPruning(two_phase=TwoPhase(2.5, 1)),
        lambda: QueryPruning(two_phase=TwoPhase(2, 0)),
        lambda: Fusion("best"),  # type: ignore[arg-type]
        lambda: Fusion(weights=(0, 0)),
        lambda: Fusion(depth=0),
        lambda: Fusion("sum", engine=True),
        lambda: Fusion(sparse="bm25"),  # type: ignore[arg-type]
    ):
        with pytest.raises(SettingsError):
            make()


def test_results_in_other_forms(client: SearchClient) -> None:
    results = client.search(TEXT, 5, explain=True)
    frame = results.to_pandas()
    assert list(frame["id"]) == ids(results) and list(frame["score"]) == [h.score for h in results]
    lines = results.to_trec("q1", "tag").splitlines()
    assert [line.split()[2] for line in lines] == ids(results)
    assert lines[0].split()[:2] == ["q1", "Q0"] and lines[0].split()[3:] == [
        "1",
        repr(results[0].score),
        "tag",
    ]
    assert json.loads(json.dumps(results.to_dicts()))[0]["id"] == results[0].id
    page = results._repr_html_()
    assert page.count("<tr>") == 6 and results[0].id in page
    nothing = client.search("")
    assert list(nothing.to_pandas().columns) == ["rank", "id", "score"]
    assert "empty" in nothing._repr_html_() and nothing.to_trec("q") == ""
