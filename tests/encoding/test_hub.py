"""What is fetched from a hub: never a pickle where there are safetensors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.encoding.hub_server import hub

DOWNLOAD = """
import sys
from splade_os.encoding.resolve import resolve_model
from splade_os.errors import SpladeError
try:
    folder = resolve_model(sys.argv[1], weights=sys.argv[2] == "encoder").folder
    print(*sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()))
except SpladeError as error:
    print(error)
"""


def run(name: str, home: Path, url: str, *, mode: str = "encoder", offline: bool = False) -> str:
    """In a process of its own: the hub's client reads its settings when it is imported."""
    environment = {
        **os.environ,
        "HF_HOME": str(home),
        "HF_ENDPOINT": url,
        "HF_HUB_OFFLINE": str(int(offline)),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    command = [sys.executable, "-c", DOWNLOAD, name, mode]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def pickle_document_side(folder: Path) -> None:
    body = folder / "document_0_Transformer"
    if not body.is_dir():
        body = folder
    file = body / "model.safetensors"
    torch.save(load_file(file), body / "pytorch_model.bin")
    file.unlink()


@pytest.mark.parametrize("layout", ["bert", "router"])
def test_pickles_only_where_there_is_nothing_else(tiny: Path, tmp_path: Path, layout: str) -> None:
    pickled = Path(shutil.copytree(tiny / layout, tmp_path / "pickled"))
    pickle_document_side(pickled)
    both = Path(shutil.copytree(tiny / layout, tmp_path / "both"))
    for body in (both, both / "document_0_Transformer"):
        if (body / "model.safetensors").is_file():
            (body / "pytorch_model.bin").write_bytes(b"never fetched")
    home = tmp_path / "home"
    with hub({"org/pickled": pickled, "org/both": both}) as (url, fetched):
        if layout == "router":
            assert "query_0_SparseStaticEmbedding" in run("org/pickled", home, url, mode="idf")
            assert not [name for name in fetched if name.endswith(".bin")]
        first = run("org/pickled", home, url)
        assert len([name for name in fetched if name.endswith("pytorch_model.bin")]) == 1
        del fetched[:]
        second = run("org/both", home, url)
        assert not [name for name in fetched if name.endswith(".bin")]
        assert "model.safetensors" in second
    nowhere = "http://127.0.0.1:9"
    assert run("org/pickled", home, nowhere, offline=True) == first
    assert run("org/both", home, nowhere, offline=True) == second
    assert "neither a folder nor to be had" in run("org/other", home, nowhere, offline=True)
