"""MTEB's own evaluation through an index: its figures are those of ``splade-os evaluate``."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from splade_os import DocumentEncoder, ingest_documents
from splade_os.cli import cli
from splade_os.engines import Engine
from splade_os.errors import IngestError, InputError, SettingsError
from splade_os.evaluation.collection import open_collection
from tests.evaluation.collections import make, write_beir
from tests.integrations.conftest import framework

framework("mteb")
import mteb  # noqa: E402
from datasets import Dataset  # noqa: E402
from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402

from splade_os.integrations.mteb import SpladeEncoder, SpladeSearch  # noqa: E402

MADE = make(copies=False)  # equal documents tie, and an engine orders ties in its own way
SPLIT: dict[str, Any] = {
    "corpus": Dataset.from_list([{"id": i, "title": "", "text": t} for i, t in MADE[0].items()]),
    "queries": Dataset.from_list([{"id": i, "text": t} for i, t in MADE[1].items()]),
    "relevant_docs": MADE[2],
    "top_ranked": None,
}


def metadata(kind: str) -> TaskMetadata:
    return TaskMetadata(
        dataset={"path": "made/here", "revision": "1"},
        name=f"Made{kind}",
        description="Random words.",
        type=kind,
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )


class Made(AbsTaskRetrieval):
    metadata = metadata("Retrieval")

    def load_data(self, **kwargs: Any) -> None:
        self.dataset = {"default": {"test": dict(SPLIT)}}
        self.data_loaded = True


class MadeReranking(Made):
    metadata = metadata("Reranking")

    def load_data(self, **kwargs: Any) -> None:
        super().load_data()
        first = {query: list(judged) for query, judged in MADE[2].items()}
        self.dataset["default"]["test"]["top_ranked"] = first


def figures(model: Any, task: AbsTaskRetrieval) -> dict[str, float]:
    result = mteb.evaluate(
        model, task, cache=None, overwrite_strategy="always", show_progress_bar=False
    )
    (scores,) = result.task_results[0].scores["test"]
    return dict(scores)


@pytest.fixture
def expected(
    engine: Engine, engine_url: str, index: str, tiny: Path, tmp_path: Path
) -> dict[str, Any]:
    """Mode → figures, as ``splade-os evaluate`` has them."""
    folder, model = write_beir(tmp_path / "made", MADE), str(tiny / "router")
    ingest_documents(
        open_collection(str(folder)).documents(),
        engine=engine,
        index=index,
        encoder=DocumentEncoder.load(model, device="cpu"),
        dead_letters=tmp_path / "dead.jsonl",
    )
    command = ["evaluate", str(folder), "--url", engine_url, "--index", index, "--model", model]
    done = CliRunner().invoke(
        cli,
        [*command, "--json", "--modes", "idf,encoder:exact,hybrid", "--measures", "nDCG@10,R@20"],
    )
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout)["modes"])


def test_figures(engine: Engine, tiny: Path, expected: dict[str, Any]) -> None:
    before = set(engine.indices("*"))
    for mode, report in expected.items():
        model = str(tiny / "router")
        with SpladeSearch(engine=engine, model=model, mode=mode, device="cpu") as search:
            mine = figures(search, Made())
            name = search.mteb_model_meta.name
        theirs = report["measures"]  # nDCG@10 is graded, as mteb has it; ndcg@10 is binary
        assert mine["ndcg_at_10"] == pytest.approx(theirs["nDCG@10"], abs=1e-5), mode
        assert mine["recall_at_20"] == pytest.approx(theirs["R@20"], abs=1e-5), mode
        assert name == "splade-os/router"
    made = [n for n in set(engine.indices("*")) - before if n.startswith("mteb-made")]
    assert not made, "every index is deleted"


def test_reranking(engine: Engine, tiny: Path) -> None:
    with SpladeSearch(engine=engine, model=str(tiny / "router"), mode="idf") as search:
        scores = figures(search, MadeReranking())
        run = search.search(
            SPLIT["queries"], task_metadata=Made.metadata, hf_split="test", hf_subset="default",
            top_k=5, top_ranked={"q0": ["d1", "d2"]},
        )  # fmt: skip
    assert 0 < scores["ndcg_at_10"] <= 1
    assert set(run["q0"]) <= {"d1", "d2"} and run["q1"] == {}


def test_encoder(tiny: Path, engine: Engine, engine_url: str) -> None:
    """Without an engine the figures are those of an exact search (but for what an index stores of a
    weight, 9 bits of it)."""
    if not engine_url.startswith("sqlite"):
        pytest.skip("the encoder knows no engine: once is enough")
    model = str(tiny / "router")
    alone = figures(SpladeEncoder(model, device="cpu"), Made())
    with SpladeSearch(engine=engine, model=model, mode="encoder:exact", device="cpu") as search:
        indexed = figures(search, Made())
    assert alone["ndcg_at_10"] == pytest.approx(indexed["ndcg_at_10"], abs=0.02)
    with pytest.raises(SettingsError, match="revision"):
        SpladeEncoder(model, "main")


def test_mistakes(engine: Engine, tiny: Path) -> None:
    with pytest.raises(SettingsError, match="one for each of idf,bm25"):
        SpladeSearch(engine=engine, mode="idf,bm25")
    task = {"task_metadata": Made.metadata, "hf_split": "test", "hf_subset": "default"}
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    with SpladeSearch(engine=engine, model=str(tiny / "router"), index=prefix) as search:
        with pytest.raises(SettingsError, match="before search"):
            search.search(SPLIT["queries"], top_k=3, **task)
        with pytest.raises(IngestError, match=r"1 of 2 documents of MadeRetrieval"):
            search.index([{"id": "1", "text": "cat"}, {"id": True, "text": "dog"}], **task)
        search.index([{"id": "1", "text": "cat"}], **task)
        with pytest.raises(InputError, match="query q of MadeRetrieval is list"):
            search.search([{"id": "q", "text": ["cat"]}], top_k=3, **task)
    assert not engine.indices(f"{prefix}*")
