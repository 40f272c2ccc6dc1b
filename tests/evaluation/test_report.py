"""The report, and what pruning would do."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from splade_os import SearchClient
from splade_os.engines import Engine
from splade_os.errors import SettingsError
from splade_os.evaluation.sweep import heaviest, parse_sweep
from splade_os.vectors import SparseBatch
from tests.evaluation.collections import make, write_beir
from tests.evaluation.test_live import fill, run

MADE = make(copies=False)


class Page(HTMLParser):
    """Everything that opens is closed; collects what a browser would load."""

    EMPTY = frozenset({"meta", "br", "link", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.EMPTY:
            self.open.append(tag)
        self.loaded += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_page_and_sweep(
    engine: Engine, engine_url: str, index: str, tiny: Path, tmp_path: Path
) -> None:
    corpus, queries, qrels = MADE
    queries = {q: f"<b>{text}" for q, text in queries.items()}  # must not become HTML
    folder = write_beir(tmp_path / "small", (corpus, queries, qrels))
    fill(engine, index, tiny / "router", folder, tmp_path)
    file = tmp_path / "report.html"
    done = run(
        "evaluate", folder, "--url", engine_url, "--index", index, "--model", tiny / "router",
        "--modes", "idf,bm25", "--sweep", "max-active-dims=3,1000", "--html", file, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    few, all_ = report["curve"]
    assert (few["option"], few["value"], few["way"]) == ("max_active_dims", 3, "idf")
    assert few["sparsity"]["corpus_active_dims"] == 3
    assert few["index"]["documents"] == len(corpus)
    if not engine_url.startswith("sqlite"):  # which counts whole pages
        assert few["index"]["bytes"] < all_["index"]["bytes"]
    # a setting that cuts nothing is the index itself
    assert all_["measures"] == report["modes"]["idf"]["measures"]
    assert all_["sparsity"] == report["modes"]["idf"]["sparsity"]
    assert engine.indices(f"{index}*") == [index]  # nothing is left behind
    page = Page(file.read_text())
    assert page.open == [] and page.words.count("ndcg@10") > 3
    assert all(target.startswith("#") for target in page.loaded)  # nothing from elsewhere
    assert "<b>" not in file.read_text() and "&lt;b&gt;" in file.read_text()
    assert file.read_text().count("<svg") == 3
    for value in (report["modes"]["idf"]["measures"]["map@100"], all_["measures"]["ndcg@10"]):
        assert f"{value:.4f}" in page.words


def test_sweep_in_memory_is_the_encoders_own_pruning(tiny: Path, tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "small", MADE)
    common = ["evaluate", folder, "--model", tiny / "bert", "--device", "cpu", "--json"]
    common += ["--dtype", "float32"]
    swept = json.loads(run(*common, "--sweep", "max-ratio=0,0.5").stdout)
    alone = json.loads(run(*common, "--max-ratio", "0.5").stdout)
    assert swept["curve"][1]["measures"] == alone["modes"]["model"]["measures"]
    assert swept["curve"][1]["sparsity"] == alone["modes"]["model"]["sparsity"]
    assert swept["curve"][0]["measures"] == swept["modes"]["model"]["measures"]


def test_heaviest() -> None:
    random = np.random.default_rng(0)
    dense = np.where(random.random((40, 30)) < 0.4, random.random((40, 30)), 0).astype(np.float32)
    rows = [(np.flatnonzero(row).astype(np.int32), row[row > 0]) for row in dense]
    cut = heaviest(SparseBatch.from_rows(rows, 30), count=5)
    expected = np.where(dense >= -np.partition(-dense, 4, axis=1)[:, 4:5], dense, 0)
    assert np.array_equal(cut.to_dense(), expected)


@pytest.mark.parametrize(
    "text", ["max-ratio", "max-ratio=", "max-ratio=2", "max-active-dims=0", "length=3", ""]
)
def test_wrong_sweeps(text: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(repr(text.partition("=")[0])[:-1])):
        parse_sweep(text)


def test_a_failed_copy_is_removed(
    engine: Engine, index: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from splade_os.evaluation.evaluate import Settings
    from splade_os.evaluation.sweep import sweep_index
    from splade_os.evaluation.ways import parse_ways

    folder = write_beir(tmp_path / "small", MADE)
    collection = fill(engine, index, tiny / "router", folder, tmp_path)
    client = SearchClient(engine=engine, index=index, model=str(tiny / "router"))

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("splade_os.evaluation.sweep._send", fail)
    with pytest.raises(KeyboardInterrupt):
        sweep_index(client, collection, parse_ways("idf"), parse_sweep("max-ratio=0.1"),
                    settings=Settings(), model=str(tiny / "router"))  # fmt: skip
    assert engine.indices(f"{index}*") == [index]
    assert engine.count(index) == len(MADE[0])
