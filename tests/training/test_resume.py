"""A run that is killed goes on as if it had not been."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load_file

from splade_os.training import train
from splade_os.training.arguments import checkpoint_folder
from splade_os.training.recipe import Recipe
from splade_os.training.restoring import last_checkpoint

MakeRecipe = Callable[..., Recipe]

# everything that has a state: dropout, a controller, df-flops, accumulated batches, a second epoch
# with other negatives, a learned table, a stop below the start
FULL: dict[str, Any] = {
    "data.documents": ["positive", "negatives"],
    "data.negatives": 1,
    "data.negatives_pick": "spread",
    "model.query": {"kind": "idf", "table": "corpus"},
    "regularisers": {
        "document": {"kind": "df-flops", "weight": 0.01, "target_dims": 20, "warmup": 2}
    },
    "grad_cache": 3,
    "stop_if_below_start": 0.5,
    "early_stopping": 9,
    "training.gradient_accumulation_steps": 2,
    "training.max_steps": 10,
    "training.save_total_limit": None,
}


def weights(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in sorted(folder.rglob("*.safetensors")):
        found |= {f"{file.parent.name}/{k}": v for k, v in load_file(file).items()}
    return found


def losses(log: list[dict[str, Any]]) -> dict[int, Any]:
    kept = ("loss", "grad_norm", "document_lambda", "document_df_flops", "infonce")
    return {e["step"]: [e[k] for k in kept] for e in log if "loss" in e}


@pytest.mark.parametrize("lora", [False, True])
def test_same_to_the_bit(lora: bool, recipe: MakeRecipe, tmp_path: Path) -> None:
    """Killed after step 6 of 10, in the second epoch: same losses, same weights."""
    changes = dict(FULL)
    if lora:
        changes |= {"model.lora": {"r": 4, "dropout": 0.1}, "model.query.kind": "li-lsr"}
    whole = recipe("nq-inference-free", "bert", [], **changes, **{"output": str(tmp_path / "a")})
    straight = train(whole)
    assert straight.steps == 10 and straight.log[-1]["epoch"] > 1
    cut = tmp_path / "b.checkpoints"
    shutil.copytree(tmp_path / "a.checkpoints" / "checkpoint-6", cut / "checkpoint-6")
    (cut / "checkpoint-8").mkdir()  # it was killed while it wrote this one
    (cut / "checkpoint-8" / "trainer_state.json").write_text('{"global_step": 8,')
    resumed = train(whole.model_copy(update={"output": str(tmp_path / "b")}), resume=True)
    assert resumed.steps == 10
    later = {step: v for step, v in losses(straight.log).items() if step > 6}
    assert {s: v for s, v in losses(resumed.log).items() if s > 6} == later
    first, second = weights(straight.folder), weights(resumed.folder)
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
    # what it was before training is still known
    assert resumed.log[0]["eval_dev_ndcg@10"] == straight.log[0]["eval_dev_ndcg@10"]


def test_sigkill(recipe: MakeRecipe, tmp_path: Path) -> None:
    """The command, killed for real, then called again as it was."""
    changes: dict[str, Any] = {"training.max_steps": 400, "training.save_total_limit": 2}
    made = recipe("gooaq", "bert", ["positive"], **changes, evaluation=[])
    file, out = tmp_path / "recipe.yaml", Path(made.output)
    file.write_text(yaml.safe_dump(made.model_dump()))
    command = [sys.executable, "-m", "splade_os", "train", str(file), "--resume", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    checkpoints = checkpoint_folder(made)
    while time.monotonic() < end and (found := last_checkpoint(checkpoints)) is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert found is not None and not (out / "modules.json").exists()
    done = int(last_checkpoint(checkpoints).name.split("-")[1])  # type: ignore[union-attr]
    assert done < 390
    short = [*command, "--set", f"training.max_steps={done + 3}"]
    answer = subprocess.run(short, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["steps"] == done + 3
    assert (out / "modules.json").is_file()
