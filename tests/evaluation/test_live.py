"""Through a live index, against arithmetic in memory and sentence-transformers."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.evaluation import SparseInformationRetrievalEvaluator

from splade_os import DocumentEncoder, SearchClient, connect, ingest_documents
from splade_os.cli import cli
from splade_os.engines import Engine, TwoPhase
from splade_os.errors import SettingsError
from splade_os.evaluation.agreement import compare_scores, positive
from splade_os.evaluation.collection import Collection, open_collection
from splade_os.evaluation.evaluate_index import evaluate_index
from splade_os.evaluation.live import indexed_sparsity, run_queries
from splade_os.evaluation.sparsity import Sparsity
from splade_os.evaluation.trec import read_run
from splade_os.evaluation.ways import Way, parse_ways
from splade_os.search.options import Fusion, QueryPruning
from tests.evaluation.collections import make, write_beir

MADE = make(copies=False)  # equal documents tie, and an engine orders ties in its own way


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_beir(tmp_path / "small", MADE)


def fill(engine: Engine, index: str, model: Path, folder: Path, tmp_path: Path) -> Collection:
    collection = open_collection(str(folder))
    ingest_documents(
        collection.documents(),
        engine=engine,
        index=index,
        encoder=DocumentEncoder.load(str(model), device="cpu"),
        dead_letters=tmp_path / "dead.jsonl",
    )
    return collection


@pytest.mark.parametrize("name", ["bert", "distilbert", "router"])
def test_engine_and_memory_agree(
    engine: Engine, engine_url: str, index: str, tiny: Path, small: Path, tmp_path: Path, name: str
) -> None:
    check_agreement(engine, engine_url, index, tiny, small, tmp_path, name)


def test_elasticsearch_and_memory_agree(
    elasticsearch_url: str, tiny: Path, small: Path, tmp_path: Path
) -> None:
    engine = connect(elasticsearch_url)
    index = f"test-{uuid.uuid4().hex[:12]}"
    try:
        check_agreement(engine, elasticsearch_url, index, tiny, small, tmp_path, "router")
    finally:
        engine.delete_index(index)
        engine.close()


def check_agreement(
    engine: Engine, engine_url: str, index: str, tiny: Path, small: Path, tmp_path: Path, name: str
) -> None:
    fill(engine, index, tiny / name, small, tmp_path)
    done = run(
        "evaluate", small, "--url", engine_url, "--index", index, "--model", tiny / name,
        "--in-memory", "--device", "cpu", "--dtype", "float32",
        "--measures", "nDCG@10", "--runs", tmp_path / "runs", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    live = ["bm25", "idf", "encoder", "hybrid"]
    assert list(report["modes"]) == [*live, "idf (memory)", "encoder (memory)"]
    for agreement in report["agreements"]:
        assert agreement["ok"], agreement
        assert agreement["hits"] > 500
        assert agreement["engine"] == pytest.approx(agreement["stored"], abs=1e-9)
    modes = report["modes"]
    # each mode has figures of its own, and the memory's are near
    assert len({modes[m]["measures"]["ndcg@10"] for m in live}) == 4
    for mode in ("idf", "encoder"):
        found, memory = modes[mode], modes[f"{mode} (memory)"]
        assert found["sparsity"] == pytest.approx(memory["sparsity"], rel=1e-6)
        assert memory["latency"] is None and found["latency"]["whole_p99_ms"] > 0
    written = read_run(tmp_path / "runs" / "small-encoder.trec")
    assert set(written) == set(MADE[1])
    assert [c["b"] for c in report["comparisons"]] == live[1:]
    assert report["index"]["documents"] == report["documents"] == len(MADE[0])
    if name == "bert":  # a symmetric model: its card is the encoder mode's in memory
        oracle = SparseInformationRetrievalEvaluator(
            queries=MADE[1],
            corpus=MADE[0],
            relevant_docs={q: {d for d, r in j.items() if r > 0} for q, j in MADE[2].items()},
            name="small",
            write_csv=False,
        )(SparseEncoder(str(tiny / name), device="cpu"))
        assert modes["encoder (memory)"]["card"] == pytest.approx(oracle, abs=1e-6, rel=1e-6)


def test_table_and_notes(
    engine: Engine, engine_url: str, index: str, tiny: Path, small: Path, tmp_path: Path
) -> None:
    fill(engine, index, tiny / "router", small, tmp_path)
    corpus = (small / "corpus.jsonl").read_text()
    (small / "qrels" / "test.tsv").open("a").write("q1\tnowhere\t1\n")
    (small / "queries.jsonl").open("a").write('{"_id": "odd", "text": "☃"}\n')
    (small / "qrels" / "test.tsv").open("a").write("odd\td1\t1\n")
    assert corpus
    arguments = ["--url", engine_url, "--index", index, "--model", tiny / "router"]
    done = run("evaluate", small, *arguments, "--modes", "idf,bm25")
    assert done.exit_code == 0, done.output
    assert "ndcg@10 against idf" in done.stdout and "p95 ms" in done.stdout
    assert "lacks 1 relevant documents, 'nowhere'" in done.stderr
    assert "1 queries found nothing by bm25" in done.stderr
    one = run("evaluate", small, *arguments, "--modes", "idf")
    assert "precision@3" in one.stdout and "against" not in one.stdout


def test_wrong_use(
    engine: Engine, engine_url: str, index: str, tiny: Path, small: Path, tmp_path: Path
) -> None:
    fill(engine, index, tiny / "router", small, tmp_path)
    other = write_beir(tmp_path / "other", ({"x": "cat"}, {"q": "cat"}, {"q": {"x": 1}}))
    at = ["--url", engine_url, "--model", tiny / "router", "--index"]
    done = run("evaluate", other, *at, index)
    assert "holds none of the 1 relevant documents" in str(done.exception)
    assert "no index" in str(run("evaluate", small, *at, f"{index}-x").exception).lower()
    done = run("evaluate", small, *at, index, "--modes", "bm26")
    assert isinstance(done.exception, SettingsError)
    for more, message in [
        (["--max-active-dims", "4"], "encoded already"),
        (["--by", "bleu"], "There is no 'bleu'"),
    ]:
        done = run("evaluate", small, *at, index, *more)
        assert done.exit_code and message in done.output + str(done.exception)
    assert run("evaluate", "nanobeir", "--index", index).exit_code == 2
    assert run("evaluate", small, "--in-memory").exit_code == 2


def test_no_query_finds_itself(engine: Engine, index: str, tiny: Path, tmp_path: Path) -> None:
    corpus = dict(list(MADE[0].items())[:30])
    qrels = {q: {"d0": 1} for q in corpus}
    folder = write_beir(tmp_path / "self", (corpus, corpus, qrels))
    collection = fill(engine, index, tiny / "router", folder, tmp_path)
    client = SearchClient(engine=engine, index=index, model=str(tiny / "router"))
    way = Way("bm25", "bm25")  # of which it is sure that a text finds itself
    plain, _ = run_queries(client, corpus, way, depth=5)
    assert sum(query in hits for query, hits in plain.items()) > 20
    found, _ = run_queries(client, corpus, way, depth=5, remove_query_id=True)
    assert not any(query in hits for query, hits in found.items())
    assert max(map(len, found.values())) == 5
    encoder = DocumentEncoder.load(str(tiny / "router"), device="cpu")
    counted = indexed_sparsity(engine, index, client.meta, encoder.vocabulary)
    exact = Sparsity.empty(len(encoder.vocabulary))
    exact.add(encoder.encode(list(corpus.values())))
    assert counted.rows == 30 and np.array_equal(counted.frequencies, exact.frequencies)
    report = evaluate_index(client, collection, [Way("idf", "idf")])
    assert report.comparisons == [] and report.evaluations[0].latency is not None


def test_ways() -> None:
    ways = parse_ways(
        "bm25, idf,encoder,encoder:exact,encoder:top=32:ratio=0.1,idf:two-phase=5/40,"
        "hybrid:encoder:min_max:weights=2/1"
    )
    assert [w.mode for w in ways][:3] == ["bm25", "idf", "encoder"]
    # what a user gets who says nothing: exact for idf, not for the encoder
    assert [w.exact for w in ways] == [False, True, False, True, False, False, False]
    assert ways[4].options["query_pruning"] == QueryPruning(32, 0.1)
    assert ways[5].options["query_pruning"] == QueryPruning(two_phase=TwoPhase(5, 40))
    assert ways[6].options["fusion"] == Fusion("min_max", (2.0, 1.0), sparse="encoder")
    assert ways[6].encoder == "encoder"
    for wrong in ("", ",", "idf,idf", "raw", "idf:top", "idf:top=x", "idf:top=0", "bm25:top=3",
                  "idf:min_max", "idf:two-phase=5", "hybrid:weights=1", "idf:exact=1"):  # fmt: skip
        with pytest.raises(SettingsError):
            parse_ways(wrong)


@pytest.mark.parametrize("label", ["encoder:exact", "encoder:top=3", "idf:ratio=0.5"])
def test_a_way_is_what_the_client_does(
    engine: Engine, index: str, tiny: Path, small: Path, tmp_path: Path, label: str
) -> None:
    fill(engine, index, tiny / "router", small, tmp_path)
    client = SearchClient(engine=engine, index=index, model=str(tiny / "router"))
    (way,) = parse_ways(label)
    found, queries = run_queries(client, MADE[1], way, depth=7)
    for query, text in MADE[1].items():
        alone = client.search(text, 7, way.mode, **way.options)
        # a transformer gives a text a little other numbers when it is alone
        assert found[query] == {hit.id: pytest.approx(hit.score, rel=1e-4) for hit in alone}
    assert queries is not None and len(queries) == len(MADE[1])
    if "top" in label:
        assert set(queries.active_dims()) == {3}


def test_differences_are_seen() -> None:
    engine = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}
    exact = positive({"q": {"a": 3.0, "b": 2.0, "c": 1.0, "z": 0.0}})
    assert compare_scores(engine, exact) == (1, 3, 0.0)
    # another document at the last rank: only if it ties
    assert compare_scores(engine, {"q": {"a": 3.0, "b": 2.0, "d": 1.0}})[0] == 1
    assert compare_scores(engine, {"q": {"a": 3.0, "b": 2.0, "d": 1.1}})[0] == 0
    same, pairs, largest = compare_scores(engine, {"q": {"a": 3.3, "b": 2.0, "c": 1.0}})
    assert (same, pairs) == (1, 3) and largest == pytest.approx(0.3 / 3.3)
    assert compare_scores({"q": {}}, {"q": {"a": 1.0}})[0] == 0
