"""In-memory retrieval gives what sentence-transformers' evaluator gives."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.evaluation import (
    SparseInformationRetrievalEvaluator,
    SparseNanoBEIREvaluator,
)

from splade_os import DocumentEncoder
from splade_os.cli import cli
from splade_os.errors import InputError
from splade_os.evaluation.collection import open_collection
from splade_os.evaluation.measures import score
from splade_os.evaluation.memory import (
    corpus_statistics,
    encoded_blocks,
    load_queries_encoder,
    retrieve,
)
from splade_os.evaluation.report import Evaluation
from splade_os.evaluation.topk import TopK
from splade_os.vectors import SparseBatch
from tests.evaluation.collections import make, write_beir


def random_batch(random: np.random.Generator, rows: int, width: int = 50) -> SparseBatch:
    parts = []
    for _ in range(rows):
        ids = np.sort(random.choice(width, random.integers(0, 9), replace=False)).astype(np.int32)
        weights = random.integers(1, 5, len(ids)).astype(np.float32)  # many scores tie
        parts.append((ids, weights))
    return SparseBatch.from_rows(parts, width)


@pytest.mark.parametrize("k", [1, 7, 500])
def test_topk_is_brute_force(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splade_os.evaluation.topk._SCORES", 13 * 11)  # many small blocks
    random = np.random.default_rng(k)
    queries, documents = random_batch(random, 13), random_batch(random, 230)
    ids = [f"d{i}" for i in random.permutation(230)]
    best = TopK(queries, k)
    for start in range(0, 230, 57):
        rows = np.arange(start, min(start + 57, 230))
        best.add([ids[i] for i in rows], documents.take(rows))
    scores = queries.to_dense() @ documents.to_dense().T
    for row, (query, hits) in enumerate(best.run([f"q{i}" for i in range(13)]).items()):
        assert query == f"q{row}"
        order = sorted(range(230), key=lambda i: (-scores[row, i], ids[i]))[:k]
        assert list(hits.items()) == [(ids[i], scores[row, i]) for i in order]


@pytest.mark.parametrize("name", ["bert", "distilbert", "router", "router-50"])
def test_same_figures_as_sentence_transformers(tiny: Path, tmp_path: Path, name: str) -> None:
    corpus, queries, qrels = made = make()
    collection = open_collection(str(write_beir(tmp_path / "small", made, packed=name == "bert")))
    assert collection.name == "small"
    encoder = DocumentEncoder.load(str(tiny / name), device="cpu")
    found = retrieve(
        encoded_blocks(collection.documents(), encoder),
        list(queries),
        {
            "model": load_queries_encoder(str(tiny / name), "model", device="cpu").encode(
                list(queries.values())
            )
        },
    )["model", ""]
    scores = score(collection.judged.qrels, found.run)
    ours = Evaluation("model", found.run, scores, found.queries, found.documents).card("small")
    oracle = SparseInformationRetrievalEvaluator(
        queries=queries,
        corpus=corpus,
        relevant_docs={q: {d for d, r in j.items() if r > 0} for q, j in qrels.items()},
        name="small",
        write_csv=False,
        corpus_chunk_size=50,
    )
    theirs = oracle(SparseEncoder(str(tiny / name), device="cpu"))
    # theirs counts dimensions in float32, which moves a mean of 36.24 by 2e-6
    assert ours == pytest.approx(theirs, abs=1e-6, rel=1e-6)
    assert 0 < ours["small_dot_ndcg@10"] < 1  # it could be wrong


def test_statistics_are_those_of_an_ingest(tiny: Path, tmp_path: Path) -> None:
    from splade_os import connect, ingest_documents

    folder = write_beir(tmp_path / "small", make(40, 5))
    collection = open_collection(str(folder))
    encoder = DocumentEncoder.load(str(tiny / "bert"), device="cpu")
    counted = corpus_statistics(collection.documents(), encoder)
    engine = connect(f"sqlite:///{tmp_path}/engine.db")
    ingest_documents(
        collection.documents(),
        engine=engine,
        index="small",
        encoder=encoder,
        dead_letters=tmp_path / "dead.jsonl",
    )
    stored = engine.load_statistics("small")
    engine.close()
    assert stored is not None
    assert (counted.documents, counted.tokens) == (stored.documents, stored.tokens)
    assert np.array_equal(counted.frequencies, stored.frequencies)


def test_a_query_does_not_find_itself() -> None:
    random = np.random.default_rng(3)
    batch = random_batch(random, 12)

    names = [f"t{i}" for i in range(12)]
    found = retrieve([(names, batch)], names, {"known": batch}, depth=5, remove_query_id=True)
    for query, hits in found["known", ""].run.items():
        assert query not in hits and len(hits) == 5


def test_memory_does_not_grow_with_the_corpus() -> None:
    random = np.random.default_rng(0)
    queries, batch = random_batch(random, 20), random_batch(random, 2000)

    def peak(blocks: int) -> int:
        best = TopK(queries, 100)
        tracemalloc.start()
        for block in range(blocks):
            best.add([f"{block}-{i}" for i in range(2000)], batch)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(40) < 1.2 * peak(4)


def test_no_documents() -> None:
    nothing: Iterator[tuple[list[str], SparseBatch]] = iter(())
    with pytest.raises(InputError, match="no document"):
        retrieve(nothing, ["q"], {"model": SparseBatch.empty(1, 5)})


def hub_dataset(folder: Path, collections: dict[str, tuple[Any, Any, Any]]) -> Path:
    """A dataset as sentence-transformers/NanoBEIR-en: three subsets, a split per collection."""
    configs = []
    for subset in ("corpus", "queries", "qrels"):
        files = []
        for name, (corpus, queries, qrels) in collections.items():
            rows: list[dict[str, str]]
            if subset == "qrels":
                rows = [
                    {"query-id": q, "corpus-id": d}
                    for q, judged in qrels.items()
                    for d, r in judged.items()
                    if r > 0
                ]
            else:
                texts = corpus if subset == "corpus" else queries
                rows = [{"_id": i, "text": text} for i, text in texts.items()]
            file = folder / subset / f"{name}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
            files.append(f"  - split: {name}\n    path: {subset}/{name}.jsonl\n")
        configs.append(f"- config_name: {subset}\n  data_files:\n{''.join(files)}")
    (folder / "README.md").write_text(f"---\nconfigs:\n{''.join(configs)}---\n")
    return folder


def test_nanobeir_is_that_of_sentence_transformers(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    made = {"NanoMSMARCO": make(seed=1), "NanoNQ": make(70, 12, seed=2)}
    place = hub_dataset(tmp_path / "nano", made)
    arguments = ["evaluate", "nanobeir:msmarco,nq", "--nanobeir-from", str(place)]
    arguments += ["--model", str(tiny / "router"), "--device", "cpu", "--dtype", "float32"]
    done = CliRunner().invoke(cli, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    ours = {**report["mean"]["model"]["card"]}
    for collection in report["collections"]:
        ours |= collection["modes"]["model"]["card"]
    theirs = SparseNanoBEIREvaluator(["msmarco", "nq"], dataset_id=str(place), write_csv=False)(
        SparseEncoder(str(tiny / "router"), device="cpu")
    )
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-6, rel=1e-6), name
    shown = CliRunner().invoke(cli, arguments).stdout
    assert [line.split()[0] for line in shown.splitlines()][1:] == ["NanoMSMARCO", "NanoNQ", "mean"]


def test_a_collection_of_ir_datasets(tmp_path: Path) -> None:
    import ir_datasets
    from ir_datasets.datasets.base import Dataset
    from ir_datasets.formats import TrecQrels, TsvDocs, TsvQueries
    from ir_datasets.util import LocalDownload

    corpus, queries, qrels = make(20, 4)
    for name, texts in (("docs", corpus), ("queries", queries)):
        (tmp_path / name).write_text("".join(f"{i}\t{text}\n" for i, text in texts.items()))
    (tmp_path / "qrels").write_text(
        "".join(f"{q} 0 {d} {r}\n" for q, judged in qrels.items() for d, r in judged.items())
    )
    parts = [
        TsvDocs(LocalDownload(tmp_path / "docs")),
        TsvQueries(LocalDownload(tmp_path / "queries")),
        TrecQrels(LocalDownload(tmp_path / "qrels"), {0: "no", 1: "yes", 2: "very"}),
    ]
    ir_datasets.registry.register("splade-os-test/judged", Dataset(*parts))
    ir_datasets.registry.register("splade-os-test/plain", Dataset(parts[0]))
    found = open_collection("irds:splade-os-test/judged")
    folder = open_collection(str(write_beir(tmp_path / "same", (corpus, queries, qrels))))
    assert found.name == "splade-os-test-judged"
    assert found.judged == folder.judged
    texts = [{record.id: record.text for record in c.documents()} for c in (found, folder)]
    assert texts[0] == texts[1] == corpus
    with pytest.raises(InputError, match="has no queries"):
        open_collection("irds:splade-os-test/plain")
    plain = open_collection(
        "irds:splade-os-test/plain", queries=tmp_path / "queries", qrels=tmp_path / "qrels"
    )
    assert plain.judged == found.judged
    with pytest.raises(InputError, match="knows no"):
        open_collection("irds:no/such")
