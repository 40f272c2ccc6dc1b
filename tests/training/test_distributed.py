"""Two processes (gloo) on half of a batch each do what one does on the whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from splade_os.training.recipe import Recipe
from tests.training import joint

MakeRecipe = Callable[..., Recipe]


def run(recipe: Recipe, folder: Path, name: str, processes: int, batch: int) -> Any:
    """Train, and return the log and the weights."""
    training = recipe.training | {"per_device_train_batch_size": batch}
    out = folder / name
    file = folder / f"{name}.yaml"
    made = recipe.model_copy(update={"output": str(out), "training": training})
    file.write_text(yaml.safe_dump(made.model_dump()))
    if processes == 1:
        joint.run(made)
    else:
        root = str(Path(__file__).parents[2])
        command = [
            *[sys.executable, "-m", "torch.distributed.run", "--standalone"],
            *[f"--nproc-per-node={processes}", str(joint.__file__), str(file)],
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=root)
        assert done.returncode == 0, done.stderr[-3000:]
    weights: dict[str, Any] = {}
    for file in sorted(out.glob("*/model.safetensors")) + sorted(out.glob("model.safetensors")):
        weights |= {f"{file.parent.relative_to(out)}/{k}": v for k, v in load_file(file).items()}
    return json.loads((out / "log.json").read_text()), weights


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"grad_cache": 3, "training.gradient_accumulation_steps": 2},
    ],
    ids=["plain", "grad-cache, accumulated"],
)
def test_two_are_one(changes: dict[str, Any], recipe: MakeRecipe, tmp_path: Path) -> None:
    """Same loss, same regularisers, same weights. Per-rank FLOPS would be larger."""
    options: dict[str, Any] = {
        "data.documents": ["positive", "negative_1"],
        "model.dropout": 0.0,
        "data.held_out": 0,
        "evaluation": [],
        "training.save_strategy": "no",
        "training.max_steps": 3,
        "training.bf16": False,
        "training.optim": "sgd",  # Adam makes much of gradients that are zero but for rounding
        "training.learning_rate": 0.05,
        "data.sampler": "sequential",
        "regularisers": {
            "query": {"kind": "l1", "weight": 0.01, "warmup": 0},
            "document": {"kind": "flops", "weight": 0.05, "warmup": 0, "target_dims": 20},
        },
        **changes,
    }
    made = recipe("quora", "distilbert", [], **options)
    one_log, one = run(made, tmp_path, "one", 1, 8)
    two_log, two = run(made, tmp_path, "two", 2, 4)
    keys = ("loss", "infonce", "query_l1", "document_flops", "document_dims", "document_lambda")
    for first, second in zip(one_log[:3], two_log[:3], strict=True):
        for key in keys:
            assert second[key] == pytest.approx(first[key], rel=2e-4), (first["step"], key)
    assert one_log[0]["document_flops"] > 0
    assert one.keys() == two.keys() and one
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=2e-5, err_msg=name)
