"""``splade-os doctor``: everything well, and each thing that is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from splade_os import Index
from splade_os.cli import cli
from splade_os.engines import Engine
from splade_os.engines.load_state import LoadState


def look(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = CliRunner().invoke(cli, ["doctor", "--json", *arguments])
    findings = json.loads(done.stdout)["findings"]
    return done.exit_code, {each["what"]: each for each in findings}


@pytest.fixture
def filled(engine: Engine, index: str, tiny: Path) -> str:
    with Index(index=index, engine=engine, model=str(tiny / "router"), text_fields=["text"]) as new:
        new.upsert([{"id": str(n), "text": "a cat"} for n in range(3)])
    return index


def test_all_is_well(engine: Engine, engine_url: str, filled: str) -> None:
    code, found = look("--url", engine_url, "--index", filled)
    assert code == 0, found
    assert {name for name, each in found.items() if each["ok"]} == {
        *("splade-os", "extras", "state folder", "server", "index", "statistics", "model"),
    }
    assert "3 documents" in found["index"]["found"] and engine.url in found["server"]["found"]
    shown = CliRunner().invoke(cli, ["doctor", "--url", engine_url, "--index", filled])
    assert shown.exit_code == 0 and "WRONG" not in shown.output


def test_what_is_wrong(
    engine: Engine, engine_url: str, filled: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, found = look("--url", engine_url, "--index", "none-such")
    assert code == 1 and found["index"]["ok"] is False and found["server"]["ok"]
    code, found = look("--url", engine_url, "--index", filled, "--model", str(tiny / "bert"))
    assert code == 1 and "not the model of the index" in found["model"]["found"]
    code, found = look("--url", engine_url, "--model", "/no/model")
    assert code == 1 and found["model"]["ok"] is False and found["index"]["ok"] is None
    engine.save_load_state(filled, LoadState(loading={"x": "2026-01-01"}, settings={}))
    code, found = look("--url", engine_url, "--index", filled)
    assert code == 0 and "restore-settings" in found["index"]["hint"]
    assert str(tiny / "router") in found["model"]["found"]  # the index's, loaded or not
    monkeypatch.setenv("SPLADE_OS_STATE", "/proc/nowhere")
    code, found = look("--url", engine_url)
    assert code == 1 and found["state folder"]["ok"] is False


def test_nobody_is_there() -> None:
    code, found = look("--url", "http://127.0.0.1:1", "--index", "x")
    assert code == 1 and found["server"]["ok"] is False and "statistics" not in found
