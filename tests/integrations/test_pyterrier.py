"""PyTerrier's pipelines and its experiment, against searches and measures of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from splade_os import SearchClient
from splade_os.engines import Engine
from splade_os.errors import IngestError, SettingsError
from splade_os.evaluation.live import run_queries
from splade_os.evaluation.measures import ir_scores, parse_measures
from splade_os.evaluation.ways import Way
from tests.evaluation.collections import make
from tests.integrations.conftest import framework

framework("pyterrier")
import pandas as pd  # noqa: E402
import pyterrier as pt  # noqa: E402

from splade_os.integrations.pyterrier import (  # noqa: E402
    SpladeEncoder,
    SpladeIndexer,
    SpladeRetriever,
)

CORPUS, QUERIES, QRELS = make(copies=False)
TOPICS = pd.DataFrame([{"qid": q, "query": text} for q, text in QUERIES.items()])
JUDGED = pd.DataFrame(
    [
        {"qid": q, "docno": d, "label": label}
        for q, judged in QRELS.items()
        for d, label in judged.items()
    ]
)


@pytest.fixture
def retriever(engine: Engine, index: str, tiny: Path) -> SpladeRetriever:
    indexer = SpladeIndexer(index=index, engine=engine, model=str(tiny / "router"), device="cpu")
    documents = ({"docno": d, "text": text, "n": len(text)} for d, text in CORPUS.items())
    return indexer.index(documents)


def test_experiment(retriever: SpladeRetriever) -> None:
    client: SearchClient = retriever.client
    systems = {
        mode: SpladeRetriever(client, mode=mode, num_results=100) for mode in ("idf", "hybrid")
    }
    table = pt.Experiment(
        list(systems.values()), TOPICS, JUDGED, ["ndcg_cut_10", "recall_20"], names=[*systems]
    )
    for mode in systems:
        run, _ = run_queries(client, QUERIES, Way(mode, mode), depth=100)
        means = ir_scores(parse_measures(["nDCG@10", "R@20"]), QRELS, run).means
        row = table[table["name"] == mode].iloc[0]
        assert row["ndcg_cut_10"] == pytest.approx(means["nDCG@10"])
        assert row["recall_20"] == pytest.approx(means["R@20"])


def test_transform(retriever: SpladeRetriever) -> None:
    some = TOPICS.head(60)
    found = SpladeRetriever(retriever.client, num_results=5, include_fields=["n"])(some)
    for qid, part in found.groupby("qid"):
        expected = retriever.client.search(QUERIES[str(qid)], 5)
        assert part["docno"].tolist() == [hit.id for hit in expected]
        assert part["score"].tolist() == [hit.score for hit in expected]
        assert part["rank"].tolist() == list(range(len(part)))
        assert part["n"].tolist() == [len(CORPUS[d]) for d in part["docno"]]
        assert set(part["query"]) == {QUERIES[str(qid)]}
    nothing = retriever(TOPICS.head(0))
    assert {"qid", "query", "docno", "score", "rank"} <= set(nothing.columns) and nothing.empty
    unknown = retriever(pd.DataFrame([{"qid": "1", "query": ""}]))
    assert unknown.empty


def test_a_cutoff_reaches_the_engine(retriever: SpladeRetriever) -> None:
    pipeline = (retriever % 3).compile()
    assert isinstance(pipeline, SpladeRetriever) and pipeline.num_results == 3
    assert (pipeline % 10).compile().num_results == 3
    assert (retriever % 3)(TOPICS).equals(pipeline(TOPICS))


def test_encoder(
    retriever: SpladeRetriever, engine: Engine, engine_url: str, index: str, tiny: Path
) -> None:
    """Queries and documents that were encoded before: the figures of the whole."""
    model = str(tiny / "router")
    encoder = SpladeEncoder(model, device="cpu")
    frame = pd.DataFrame([{"docno": d, "text": t} for d, t in list(CORPUS.items())[:20]])
    toks = encoder(frame)
    assert toks["toks"].map(len).min() > 0 and list(frame.columns) == ["docno", "text"]
    name = f"{index}-2"
    indexer = SpladeIndexer(index=name, engine=engine, model=model, device="cpu")
    try:
        again = encoder >> indexer
        again.index(frame.to_dict("records"))
        one = TOPICS.head(1)
        pipeline = encoder >> SpladeRetriever(SearchClient(index=name, engine=engine, model=model))
        found = pipeline(one)
        exact = SearchClient(index=name, engine=engine, model=model)
        weights = encoder(one)["query_toks"].iloc[0]
        assert found["docno"].tolist() == [hit.id for hit in exact.search(weights, 100, "raw")]
    finally:
        engine.delete_index(name)


def test_mistakes(retriever: SpladeRetriever, engine: Engine, index: str, tiny: Path) -> None:
    with pytest.raises(SettingsError, match="num_results is 0"):
        SpladeRetriever(retriever.client, num_results=0)
    for step in (retriever, SpladeEncoder()):
        with pytest.raises(pt.validate.InputValidationError):
            step(pd.DataFrame([{"qid": "1"}]))
    with pytest.raises(SettingsError, match="list of fields"):
        SpladeIndexer(index=index, engine=engine, text_attrs="text")
    indexer = SpladeIndexer(index=index, engine=engine, model=str(tiny / "router"), device="cpu")
    rows: list[dict[str, Any]] = [{"docno": "1", "text": "cat"}, {"text": "no id"}]
    with pytest.raises(IngestError, match="1 of 2 documents"):
        indexer.index(rows)
