"""``splade-os model check``: what is promised, tried with good models and a damaged one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from splade_os.cli import cli


@pytest.mark.parametrize("kind", ["bert", "router"])
def test_good_models(tiny: Path, kind: str) -> None:
    done = CliRunner().invoke(cli, ["model", "check", str(tiny / kind), "--quick", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    status = {row["name"]: row["status"] for row in report["checks"]}
    assert report["ok"]
    for name in ("tokenizer", "runs", "head", "padding", "sentence-transformers"):
        assert status[name] == "ok", report
    assert status["onnx"] == status["trainable"] == "skipped"


def test_damaged(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    shutil.copytree(tiny / "bert", folder)
    (folder / "config.json").unlink()
    done = CliRunner().invoke(cli, ["model", "check", str(folder)])
    assert done.exit_code == 1 and "config.jsonismissing" in "".join(done.stdout.split())
    assert CliRunner().invoke(cli, ["model", "check", str(tmp_path / "none")]).exit_code == 1
