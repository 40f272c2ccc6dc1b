"""One query with both parts: its score is their sum, and it can do what one query can."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from splade_os import AsyncSearchClient, Cursor, Fusion, SearchClient, ingest_documents
from splade_os.cli.ingest import ingest
from splade_os.cli.search import search
from splade_os.engines import Engine
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.ingest.documents.records import Record
from splade_os.online.async_index import AsyncIndex
from splade_os.online.index import Index
from splade_os.search.canaries import lost_canaries
from splade_os.search.options import DEFAULT_MODE
from tests.search.test_search import fill, loaded

TEXT = "cat and dog in the red sun"

COUNT = 80


@pytest.fixture
def client(engine: Engine, index: str, tiny: Path) -> SearchClient:
    fill(engine, index, tiny / "router", COUNT)
    return SearchClient(engine=engine, index=index)


def scores(client: SearchClient, mode: Any, **options: Any) -> dict[str, float]:
    return {hit.id: hit.score for hit in client.search(TEXT, COUNT, mode, **options)}


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 3.0), (1.0, 0.0), (0.0, 2.0)])
@pytest.mark.parametrize("sparse", ["idf", "encoder"])
def test_score_is_the_sum(client: SearchClient, weights: Any, sparse: Any) -> None:
    """The engine's own scores of the two parts, asked one by one, are the oracle."""
    fusion = Fusion(weights=weights, sparse=sparse)
    ours, theirs = weights
    exact: dict[str, Any] = {"query_pruning": None} if sparse == "idf" else {}
    first, second = scores(client, sparse, **exact), scores(client, "bm25")
    expected = {
        name: ours * first.get(name, 0.0) + theirs * second.get(name, 0.0)
        for name in (first if ours else {}) | (second if theirs else {})
    }
    results = client.search(TEXT, COUNT, "hybrid", fusion=fusion, explain=True, total=True)
    assert results.total == len(results)
    if sparse == "idf":  # the encoder finds with its heaviest terms, and BM25
        assert {hit.id for hit in results} == set(expected)
    for hit in results:
        if hit.id in first or not ours:
            assert hit.score == pytest.approx(expected[hit.id], rel=1e-5)
        assert sum(hit.scores.values()) == pytest.approx(hit.score, rel=1e-5)
        if weights != (0.0, 2.0):
            assert hit.scores["bm25"] == pytest.approx(
                theirs * second.get(hit.id, 0.0), rel=1e-4, abs=1e-5
            )
            part = sum(term.share for term in hit.terms)
            assert hit.scores[sparse] == pytest.approx(part)
    assert [h.score for h in results] == sorted((h.score for h in results), reverse=True)


def test_everything_that_one_query_can_do(client: SearchClient) -> None:
    whole = [(h.id, h.score) for h in client.search(TEXT, COUNT, "hybrid")]
    pages = [client.search(TEXT, 7, "hybrid", offset=at) for at in range(0, COUNT, 7)]
    assert [(h.id, h.score) for page in pages for h in page] == whole
    after, cursor = [], Cursor()
    while cursor is not None:
        page = client.search(TEXT, 9, "hybrid", after=cursor)
        after += [(h.id, h.score) for h in page]
        cursor = page.following  # type: ignore[assignment]
    assert sorted(after) == sorted(whole)
    assert [s for _, s in after] == pytest.approx([s for _, s in whole])
    least = whole[10][1]
    above = client.search(TEXT, COUNT, "hybrid", min_score=least, total=True)
    assert above.total == len(above) == sum(score >= least for _, score in whole)
    low = {"range": {"n": {"lte": 30}}}
    filtered = client.search(TEXT, COUNT, "hybrid", filter=low)
    kept = {h.id for h in client.search(TEXT, COUNT, "hybrid") if h.source["n"] <= 30}
    assert {h.id for h in filtered} == kept
    (many,) = client.search_many([TEXT], COUNT, "hybrid")
    assert [(h.id, h.score) for h in many] == whole  # type: ignore[union-attr]
    if isinstance(client.engine, ClusterEngine):
        assert len(client.build(TEXT, 5, "hybrid")) == 1


def test_a_code_that_word_pieces_cannot_tell_apart(
    engine: Engine, index: str, tiny: Path, tmp_path: Path
) -> None:
    """Versions of the same pieces in another order: words find the right one."""
    if not isinstance(engine, ClusterEngine):
        pytest.skip("SQLite's words end at a full stop")
    codes = [f"{a}.{b}.{c}" for a in range(1, 4) for b in range(1, 4) for c in range(1, 4)]
    documents = [
        Record(i, f"test:{i}", f"c{i}", f"cat {code}", {"text": f"cat {code}", "n": i})
        for i, code in enumerate(codes, 1)
    ]
    model = tiny / "router"
    ingest_documents(
        documents, engine=engine, index=index, encoder=loaded(model),
        dead_letters=tmp_path / "dead.jsonl",
    )  # fmt: skip
    client = SearchClient(engine=engine, index=index)
    for code in codes:
        best = client.search(code, 1, "hybrid")[0]
        assert best.source["text"] == f"cat {code}"


def test_it_is_the_default_everywhere(client: SearchClient) -> None:
    """Of `SearchClient`, `Index`, `AsyncIndex`, canaries and both commands: one mode."""
    assert DEFAULT_MODE == "hybrid"
    expected = [(h.id, h.score) for h in client.search(TEXT, 20, "hybrid")]
    assert [(h.id, h.score) for h in client.search(TEXT, 20)] == expected
    assert [(h.id, h.score) for h in client.scan(TEXT)][:20] == expected
    with Index(index=client.index, engine=client.engine) as same:
        assert [(h.id, h.score) for h in same.search(TEXT, 20)] == expected
    for method in (Index.search, AsyncIndex.search, AsyncSearchClient.search, lost_canaries):
        assert signature(method).parameters["mode"].default == DEFAULT_MODE
    for command, name in ((search, "mode"), (ingest, "canary_mode")):
        (option,) = (o for o in command.params if o.name == name)
        assert option.default == DEFAULT_MODE


def test_without_words_it_is_idf(engine: Engine, index: str, tiny: Path, tmp_path: Path) -> None:
    """Documents that brought their vectors alone: BM25 has no part, and explain says so."""
    vectors = [{"red": 1.5, "sun": 2.0}, {"sun": 3.0}, {"moon": 1.0}]
    documents = [
        Record(i, f"test:{i}", f"v{i}", "", {"n": i}, vector) for i, vector in enumerate(vectors, 1)
    ]
    encoder = loaded(tiny / "router")
    ingest_documents(
        documents, engine=engine, index=index, encoder=encoder,
        dead_letters=tmp_path / "dead.jsonl",
    )  # fmt: skip
    client = SearchClient(engine=engine, index=index)
    hits = client.search("red sun", explain=True)
    assert [(h.id, h.score) for h in hits] == [
        (h.id, pytest.approx(h.score)) for h in client.search("red sun", mode="idf")
    ]
    assert len(hits) == 2 and all(hit.scores["bm25"] == 0 for hit in hits)
