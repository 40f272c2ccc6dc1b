"""``splade-os search`` with every flag."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from splade_os.cli import cli
from splade_os.engines import Engine
from splade_os.engines.rest.cluster import ClusterEngine
from tests.search.test_search import fill

TEXT = "cat and dog in the red sun"


@pytest.fixture
def place(engine: Engine, engine_url: str, index: str, tiny: Path) -> list[str]:
    fill(engine, index, tiny / "router", 30)
    return ["--url", engine_url, "--index", index]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def hits(*arguments: str) -> list[Any]:
    done = run("search", *arguments, "--json")
    assert done.exit_code == 0, done.output
    found: list[Any] = json.loads(done.stdout)["hits"]
    return found


def test_options(place: list[str], engine: Engine, tmp_path: Path) -> None:
    whole = hits(TEXT, *place, "-k", "30")
    assert len(whole) > 5
    few = hits(TEXT, *place, "-k", "30", "--filter", '{"range": {"n": {"lte": 20}}}')
    assert [h["id"] for h in few] == [h["id"] for h in whole if h["source"]["n"] <= 20]
    page = hits(TEXT, *place, "-k", "3", "--offset", "2", "--fields", "n")
    assert [(h["id"], set(h["source"])) for h in page] == [(h["id"], {"n"}) for h in whole[2:5]]
    least = whole[3]["score"]
    assert len(hits(TEXT, *place, "--min-score", str(least))) >= 4
    for flags in (
        ["--mode", "encoder", "--exact"],
        ["--mode", "encoder", "--top-terms", "3", "--max-ratio", "0.2", "--two-phase", "2,30"],
        ["--mode", "hybrid", "--fusion", "min_max", "--fusion-weights", "2,1", "--explain"],
        ["--mode", "hybrid", "--sparse", "encoder"],
        ["--idf", "model"],
        ["--idf", "model=1", "--idf", "index=2"],
        ["--search-timeout", "5"],
    ):
        assert hits(TEXT, *place, *flags), flags
    assert hits('{"cat": 2, "dog": 1}', *place, "--mode", "raw")
    shown = run("search", TEXT, *place, "--explain", "--count")
    assert "weights from index (30 documents)" in shown.stderr and " of " in shown.stderr
    command = run("search", TEXT, *place, "--curl")
    if isinstance(engine, ClusterEngine):
        done = subprocess.run(command.stdout, shell=True, capture_output=True, check=True)
        found = json.loads(done.stdout)["hits"]["hits"]
        assert [h["_id"] for h in found] == [h["id"] for h in whole[:10]]
    else:
        assert command.exit_code == 1 and "curl" in command.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ["--filter", "{"],
        ["--filter", "[1]"],
        ["--two-phase", "10"],
        ["--exact", "--top-terms", "3"],
        ["--idf", "index=1", "--idf", "model"],
        ["--fusion-weights", "a,b"],
        ["--mode", "raw"],
        ["--max-ratio", "2"],
        ["-k", "0"],
    ],
)
def test_wrong_use(flags: list[str]) -> None:
    done = run("search", TEXT, "--url", "sqlite:///never.db", "--index", "i", *flags)
    assert done.exit_code == 2 and "Usage" in done.stderr, done.output
    assert not Path("never.db").exists()
