"""Two processes (gloo) on half of a batch each do what one does on the whole."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from splade_os.training.arguments import training_arguments
from splade_os.training.distributed import torchrun_command
from splade_os.training.recipe import Recipe
from splade_os.training.run import build_trainer
from splade_os.training.trainer import SpladeTrainer
from tests.training import joint

MakeRecipe = Callable[..., Recipe]
full = pytest.mark.skipif(
    "SPLADE_OS_TEST_FULL" not in os.environ, reason="half a minute (SPLADE_OS_TEST_FULL=1)"
)


def run(
    recipe: Recipe,
    folder: Path,
    name: str,
    processes: int,
    batch: int,
    evaluation_seconds: float = 0.0,
) -> Any:
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
            str(evaluation_seconds),
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
        pytest.param({}, marks=full),
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


@full
def test_evaluation_longer_than_the_timeout(recipe: MakeRecipe, tmp_path: Path) -> None:
    """The second process waits for it, and both train on."""
    changes: dict[str, Any] = {
        "training.ddp_timeout": 4, "training.max_steps": 3, "training.eval_steps": 2,
        "training.save_strategy": "no", "training.load_best_model_at_end": False,
        "training.bf16": False,
    }  # fmt: skip
    made = recipe("gooaq", "distilbert", ["positive"], **changes)
    log, _ = run(made, tmp_path, "two", 2, 4, evaluation_seconds=7)
    assert [entry["step"] for entry in log if "loss" in entry] == [1, 2, 3]
    assert [entry["step"] for entry in log if "eval_dev_ndcg@10" in entry] == [2, 3]


def test_several_gpus_without_torchrun(
    recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One is used, with its own batch size, and the command for all of them is said."""
    made = recipe("gooaq", "bert", ["positive"], evaluation=[], training__save_strategy="no")
    trainer = build_trainer(made)
    arguments = training_arguments(made)
    arguments._n_gpu = 2  # what transformers finds on such a machine
    assert arguments.train_batch_size == 8
    monkeypatch.setattr(sys, "argv", ["/usr/bin/splade-os", "train", "gooaq", "--out", "a b"])
    trainer = SpladeTrainer(trainer.model, arguments, trainer.train_dataset)
    assert trainer._wrap_model(trainer.model) is trainer.model  # no DataParallel
    assert trainer.args.n_gpu == 1 and trainer.args.train_batch_size == 4
    command = "torchrun --nproc-per-node=2 -m splade_os train gooaq --out 'a b'"
    assert caplog.text.count(command) == 1
    trainer.train()
    assert trainer.state.global_step == 4


def test_torchrun_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts what was started, and what it names is there."""
    monkeypatch.setattr(sys, "argv", ["/there/splade_os/__main__.py", "train", "--list"])
    command = shlex.split(torchrun_command(1))
    assert command[:3] == ["torchrun", "--nproc-per-node=1", "-m"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run([*launcher, *command[1:]], capture_output=True, text=True)
    assert done.returncode == 0 and "nq-inference-free" in done.stdout, done.stderr[-2000:]
    monkeypatch.setattr(sys, "argv", ["mine/tune.py", "--seed", "3"])
    assert torchrun_command(4) == "torchrun --nproc-per-node=4 mine/tune.py --seed 3"
