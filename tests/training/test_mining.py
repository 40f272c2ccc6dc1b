"""Negatives from a real index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from splade_os import DocumentEncoder, SearchClient, ingest_documents
from splade_os.cli.mine import mine as command
from splade_os.engines import Engine
from splade_os.errors import SettingsError
from splade_os.ingest.documents.records import Record
from splade_os.training import train
from splade_os.training.data import load_rows
from splade_os.training.mining import MiningReport, Window, mine
from splade_os.training.recipe import DataPart
from splade_os.training.recipe_file import load_recipe
from tests.training.conftest import make_rows

ROWS = make_rows(30)


@pytest.fixture
def filled(engine: Engine, index: str, tiny: Path) -> str:
    """Every positive, one of them twice, under another id and in capitals."""
    texts = [row["positive"] for row in ROWS] + [ROWS[0]["positive"].upper()]
    ingest_documents(
        [Record(i, "test", f"d{i}", text, {"text": text}) for i, text in enumerate(texts, 1)],
        engine=engine,
        index=index,
        encoder=DocumentEncoder.load(str(tiny / "router"), device="cpu"),
        dead_letters=Path("never.jsonl"),
    )
    return index


def test_what_is_mined(engine: Engine, filled: str, tmp_path: Path) -> None:
    """Hits of the window in their order, without any copy of the relevant document; the index is
    as it was."""
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps({k: r[k] for k in ("query", "positive")}) for r in ROWS))
    rows, _ = load_rows(DataPart(train=str(file)))
    client = SearchClient(engine=engine, index=filled)
    report = MiningReport()
    mined = list(mine(rows, client, report, window=Window(3, 12, 4)))
    assert report.rows == len(mined) > 10 and report.rows + report.short == len(ROWS)
    assert report.positives > 0
    for row in mined:
        hits = [hit.source["text"] for hit in client.search(row["query"], 12, mode="idf")][2:]
        once = list({hit.lower(): hit for hit in reversed(hits)}.items())[::-1]
        assert row["negatives"] == [h for low, h in once if low != row["positive"].lower()][:4]
    assert engine.count(filled) == 31


def test_teacher(engine: Engine, filled: str, tmp_path: Path) -> None:
    """Its margin filters, and its scores are written in order."""
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps({k: r[k] for k in ("query", "positive")}) for r in ROWS))
    rows, _ = load_rows(DataPart(train=str(file)))
    client = SearchClient(engine=engine, index=filled)

    def score(queries: object, documents: object) -> list[float]:
        return [float(len(text)) for text in documents]  # type: ignore[attr-defined]

    report = MiningReport()
    mined = list(mine(rows, client, report, window=Window(1, 20, 2, margin=3), score=score))
    assert mined and report.near > 0
    for row in mined:
        assert row["scores"] == [len(row["positive"]), *map(len, row["negatives"])]
        assert max(row["scores"][1:]) <= row["scores"][0] - 3


def test_command(
    engine_url: str, filled: str, bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it writes is trained."""
    monkeypatch.setenv("SPLADE_OS_CACHE", str(tmp_path / "cache"))
    file, out = tmp_path / "pairs.jsonl", tmp_path / "mined.jsonl"
    file.write_text("\n".join(json.dumps({k: r[k] for k in ("query", "positive")}) for r in ROWS))
    flags = [str(file), "--url", engine_url, "--index", filled, "-o", str(out)]
    done = CliRunner().invoke(command, [*flags, "--ranks", "2:20", "--count", "3"])
    assert done.exit_code == 0, done.output
    made = load_recipe(
        "quora",
        {
            "output": str(tmp_path / "o"),
            "model.base": str(bases / "bert"), "model.max_length": None,
            "data.train": str(out), "data.subset": None, "data.query": "query",
            "data.documents": ["positive", "negatives"], "data.held_out": 0, "data.limit": None,
            "evaluation": [], "training": {"max_steps": 1, "disable_tqdm": True},
        },
    )  # fmt: skip
    assert train(made).steps == 1
    again = CliRunner().invoke(command, flags)
    assert again.exit_code == 2 and "exists already" in again.output


def test_windows() -> None:
    with pytest.raises(SettingsError, match="no window"):
        Window(5, 3)
    with pytest.raises(SettingsError, match="cannot give 8"):
        Window(1, 5, 8)
