"""What training starts from, or learns from, is read as encoding reads a model."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from splade_os import DocumentEncoder
from splade_os.errors import ModelError
from splade_os.training.loading import load_model
from splade_os.training.recipe import DistillationPart, ModelPart, TeacherPart
from splade_os.training.teachers import Ensemble
from tests.encoding.hub_server import hub


class _Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def _as_base(folder: str) -> Any:
    return load_model(ModelPart(base=folder))


def _as_teacher(kind: str) -> Callable[[str], Any]:
    def load(folder: str) -> Any:
        part = TeacherPart(kind=kind, model=folder)  # type: ignore[arg-type]
        return Ensemble(DistillationPart(teachers=[part]), torch.device("cpu"))

    return load


def _as_encoder(folder: str) -> Any:
    return DocumentEncoder.load(folder, device="cpu", activation="relu", pooling="max")


READERS = [_as_base, _as_teacher("cross-encoder"), _as_teacher("dense"), _as_encoder]


@pytest.fixture
def pickled(bases: Path, tmp_path: Path) -> Path:
    """A checkpoint with good weights in pytorch_model.bin alone."""
    folder = tmp_path / "pickled"
    shutil.copytree(bases / "bert", folder)
    file = folder / "model.safetensors"
    torch.save(load_file(file), folder / "pytorch_model.bin")
    file.unlink()
    return folder


@pytest.mark.parametrize("read", READERS)
def test_a_pickle_is_read_and_never_run(
    read: Callable[[str], Any], pickled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLADE_OS_CACHE", str(tmp_path / "cache"))
    if read is not READERS[1]:  # a masked-LM model scores no pairs
        read(str(pickled))
    proof = tmp_path / "it ran"
    (pickled / "pytorch_model.bin").write_bytes(pickle.dumps(_Touch(proof)))
    with pytest.raises(ModelError, match="nothing of it was run") as refused:
        read(str(pickled))
    assert str(pickled) in str(refused.value)
    assert not proof.exists()


def test_a_damaged_base_is_named(bases: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(bases / "bert", folder)
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=f"The base model {folder} cannot be loaded"):
        _as_base(str(folder))


def test_a_base_of_the_hub_without_network(bases: Path, tiny: Path, tmp_path: Path) -> None:
    """What is in the cache is read for what it is; what is not is told in one sentence."""
    script = (
        "import sys\n"
        "from splade_os.errors import ModelError\n"
        "from splade_os.training.loading import load_model\n"
        "from splade_os.training.recipe import ModelPart\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        print(type(load_model(ModelPart(base=name)).query).__name__)\n"
        "    except ModelError as error:\n"
        "        print(error.message)\n"
    )

    def run(names: list[str], endpoint: str, **more: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", script, *names],
            env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": endpoint, **more},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    names = ["org/splade", "org/plain"]
    with hub({"org/splade": tiny / "router", "org/plain": bases / "bert"}) as (url, _):
        online = run(names, url, HF_HUB_OFFLINE="0")
    assert len(online) == 2 and not any("org/" in line for line in online)
    *offline, missing = run([*names, "org/other"], "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert offline == online
    assert "org/other" in missing
