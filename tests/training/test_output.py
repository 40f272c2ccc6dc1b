"""What a finished run leaves in its folder, and what a copy of such a folder takes along."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from splade_os import DocumentEncoder
from splade_os.errors import SettingsError
from splade_os.export.onnx import export_onnx
from splade_os.export.sentence_transformers import export_sentence_transformers
from splade_os.training import train
from splade_os.training.arguments import checkpoint_folder
from splade_os.training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
NQ = ("nq-inference-free", "distilbert", ["positive"])


@pytest.fixture
def umask() -> Iterator[int]:
    """Files for the group, none for others."""
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def is_pickle(file: Path) -> bool:
    """As torch.load would find it: a ZIP file with a pickle in it, or a bare one."""
    if zipfile.is_zipfile(file):
        return any(name.endswith(".pkl") for name in zipfile.ZipFile(file).namelist())
    return file.read_bytes()[:1] == pickle.PROTO


def check_folder(folder: Path, mask: int) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            assert not path.name.startswith(("checkpoint", "runs")), path
            continue
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask, path
        assert not is_pickle(path), path
        assert path.suffix not in {".pt", ".pth", ".bin", ".pkl"}, path


def test_a_finished_folder(recipe: MakeRecipe, umask: int, tmp_path: Path) -> None:
    """Nothing but the model, as readable as other files; checkpoints stand beside it."""
    made = recipe(*NQ, training__report_to="tensorboard")
    done = train(made)
    check_folder(done.folder, umask)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.checkpoints"]
    kept = checkpoint_folder(made)
    assert {"checkpoint-2", "checkpoint-4"} <= {path.name for path in kept.iterdir()}
    assert all(
        file.stat().st_mode & 0o777 == 0o666 & ~umask for file in kept.rglob("*.safetensors")
    )
    before = DocumentEncoder.load(str(done.folder), device="cpu").encode(["a cat"])
    shutil.rmtree(kept)
    after = DocumentEncoder.load(str(done.folder), device="cpu").encode(["a cat"])
    assert (before.to_dense() == after.to_dense()).all()


def test_no_checkpoint_no_folder(recipe: MakeRecipe, tmp_path: Path) -> None:
    keys = {"training.save_strategy": "no", "training.load_best_model_at_end": False}
    train(recipe(*NQ, **keys))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_checkpoints_of_another_run_are_not_overwritten(recipe: MakeRecipe) -> None:
    made = recipe(*NQ)
    checkpoints = checkpoint_folder(made)
    (checkpoints / "checkpoint-2").mkdir(parents=True)
    with pytest.raises(SettingsError, match=f"{checkpoints} is not empty"):
        train(made)


def test_checkpoints_of_the_old_place(recipe: MakeRecipe, umask: int) -> None:
    """A run that was stopped when they stood in the model's folder goes on, and leaves them
    beside it, the best one still known."""
    made = recipe(*NQ)
    train(made)
    output, kept = Path(made.output), checkpoint_folder(made)
    shutil.rmtree(output)
    kept.rename(output)
    state = output / "checkpoint-4" / "trainer_state.json"
    content = json.loads(state.read_text())
    best = Path(content["best_model_checkpoint"]).name
    state.write_text(json.dumps(content | {"best_model_checkpoint": str(output / best)}))
    longer = made.model_copy(update={"training": made.training | {"max_steps": 6}})
    done = train(longer, resume=True)
    assert done.steps == 6
    check_folder(output, umask)
    last = json.loads((kept / "checkpoint-6" / "trainer_state.json").read_text())
    assert Path(last["best_model_checkpoint"]).parent == kept
    assert Path(last["best_model_checkpoint"]).is_dir()


@pytest.mark.parametrize(
    "copy", [export_onnx, export_sentence_transformers], ids=["onnx", "sentence-transformers"]
)
def test_a_copy_takes_the_model_alone(
    copy: Callable[..., Any], tiny: Path, umask: int, tmp_path: Path
) -> None:
    """Of a folder as training left it before, with weights for their owner alone."""
    littered, target = tmp_path / "littered", tmp_path / "copy"
    shutil.copytree(tiny / "router", littered)
    for file in littered.rglob("*.safetensors"):
        file.chmod(0o600)
    (littered / "checkpoint-8").mkdir()
    (littered / "runs").mkdir()
    names = ["training_args.bin", "scheduler.pt", "rng_state.pth", "checkpoint-8/optimizer.pt"]
    for name in names:
        torch.save({"x": 1}, littered / name)
    (littered / "runs" / "events").write_text("")
    copy(str(littered), target)
    check_folder(target, umask)
    DocumentEncoder.load(str(target), device="cpu")
