"""Steps per second and memory of training, against sentence-transformers' SparseEncoderTrainer.

    python benchmarks/train.py [--steps 20]

Same model (Mini shape: 4 layers, 256 wide, BERT's vocabulary), same pairs in the same order, batch
16, 128 tokens, SparseMultipleNegativesRankingLoss with FLOPS, float32, no dropout; so the losses of
both must agree as well. Ours once as the recipes have it, and once with gradient checkpointing.
Each trainer in a process of its own; memory is the peak above the loaded model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from encode import make_model, make_texts, peak_resident, resident

os.environ.setdefault("HF_HUB_OFFLINE", "1")
BATCH, TOKENS, RATE = int(os.environ.get("BENCHMARK_BATCH", 16)), 128, 2e-5
QUERY_WEIGHT, DOCUMENT_WEIGHT = 5e-5, 3e-5
SPEED_GOAL, MEMORY_GOAL, CURVE_GOAL = 1.5, 3.0, 1e-3


def arguments_of(out: str, steps: int, device: str, precision: str) -> dict[str, Any]:
    return {
        "output_dir": out,
        "max_steps": steps,
        "per_device_train_batch_size": BATCH,
        "learning_rate": RATE,
        "lr_scheduler_type": "linear",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": device == "cpu",
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "disable_tqdm": True,
        "seed": 1,
    }


def timed(trainer: Any) -> dict[str, Any]:
    """Train; the first two steps warm up."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    before = resident()
    trainer.train()
    seconds = sorted(b - a for a, b in pairwise(ends[1:]))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "rate": 1 / seconds[len(seconds) // 2],  # median: other work on the machine comes and goes
        "memory": peak_resident() - before,
        "losses": losses,
    }


def peer(
    model_folder: str, data: str, out: str, steps: int, device: str, precision: str
) -> dict[str, Any]:
    import torch
    from datasets import load_dataset
    from sentence_transformers import (
        SparseEncoder,
        SparseEncoderTrainer,
        SparseEncoderTrainingArguments,
    )
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sparse_encoder.losses import (
        SparseMultipleNegativesRankingLoss,
        SpladeLoss,
    )

    class InOrder(SparseEncoderTrainer):  # type: ignore[misc]
        """The rows as the file has them."""

        def get_batch_sampler(self, dataset: Any, batch_size: int, **_: Any) -> Any:
            rows = torch.utils.data.SequentialSampler(dataset)
            return DefaultBatchSampler(rows, batch_size, drop_last=True)

    model = SparseEncoder(model_folder, device=device)
    model.max_seq_length = TOKENS
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    loss = SpladeLoss(
        model=model,
        loss=SparseMultipleNegativesRankingLoss(model=model),
        query_regularizer_weight=QUERY_WEIGHT,
        document_regularizer_weight=DOCUMENT_WEIGHT,
    )
    rows = load_dataset("json", data_files=data, split="train")
    trainer = InOrder(
        model=model,
        args=SparseEncoderTrainingArguments(**arguments_of(out, steps, device, precision)),
        train_dataset=rows,
        loss=loss,
    )
    return timed(trainer)


def ours(
    model_folder: str,
    data: str,
    out: str,
    steps: int,
    device: str,
    precision: str,
    *,
    checkpointing: bool = False,
    grad_cache: int | None = None,
) -> dict[str, Any]:
    from splade_os.training.recipe_file import load_recipe
    from splade_os.training.run import build_trainer

    training = arguments_of(out, steps, device, precision) | {
        "gradient_checkpointing": checkpointing
    }
    del training["output_dir"]
    recipe = load_recipe(
        "gooaq",
        {
            "output": out,
            "model.base": model_folder,
            "model.max_length": TOKENS,
            "model.dropout": 0.0,
            "data.train": data,
            "data.query": "query",
            "data.sampler": "sequential",
            "data.held_out": 0,
            "data.shuffle_seed": None,
            "evaluation": [],
            "grad_cache": grad_cache,
            "training": training,
        },
    )
    return timed(build_trainer(recipe))


WORKERS: dict[str, Callable[..., dict[str, Any]]] = {
    "peer": peer,
    "ours": ours,
    "checkpointing": partial(ours, checkpointing=True),
    "cached": partial(ours, grad_cache=4),
}
CPU = ("peer", "ours", "checkpointing")


def measure(
    what: str, model: Path, data: Path, steps: int, device: str = "cpu", precision: str = "fp32"
) -> dict[str, Any]:
    """One trainer in a process of its own, on ``cpu`` or ``cuda``; fp32, bf16 or fp16."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, __file__, "--worker", what, str(model), str(data), out]
        command += [device, precision]
        done = subprocess.run(
            [*command, "--steps", str(steps)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--worker", nargs=6)
    arguments = parser.parse_args()
    if arguments.worker:
        what, model, pairs, out, device, precision = arguments.worker
        print(json.dumps(WORKERS[what](model, pairs, out, arguments.steps, device, precision)))
        return
    from splade_os.encoding.processor import processor_name

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        make_model("mini", root / "mini")
        data = root / "pairs.jsonl"
        count = BATCH * arguments.steps
        queries, answers = make_texts(count, 20), make_texts(count, 140)
        data.write_text(
            "\n".join(
                json.dumps({"query": q, "answer": f"{q} {a}"})
                for q, a in zip(queries, answers, strict=True)
            )
        )
        found = {name: measure(name, root / "mini", data, arguments.steps) for name in CPU}
    theirs, rows = found["peer"], []
    for name, what in (("ours", ""), ("checkpointing", "gradient checkpointing, ")):
        mine = found[name]
        pairs = zip(mine["losses"], theirs["losses"], strict=True)
        curve = max(abs(a - b) / abs(b) for a, b in pairs)
        speed, memory = mine["rate"] / theirs["rate"], theirs["memory"] / mine["memory"]
        rows += [
            row(f"{what}steps/s", mine["rate"], theirs["rate"], speed, SPEED_GOAL,
                speed >= SPEED_GOAL),
            row(f"{what}peak memory above the model, MB", mine["memory"] / 1e6,
                theirs["memory"] / 1e6, memory, MEMORY_GOAL, memory >= MEMORY_GOAL),
            row(f"{what}loss, {len(mine['losses'])} steps, largest relative difference",
                mine["losses"][-1], theirs["losses"][-1], curve, CURVE_GOAL, curve <= CURVE_GOAL),
        ]  # fmt: skip
    for r in rows:
        print(
            f"{r['case']:<52} {r['ours']!s:>9} {r['peer']!s:>9} {r['ratio']!s:>9} "
            f"(goal {r['goal']}) {r['ok']}",
            file=sys.stderr,
        )
    machine = f"{processor_name()}, {os.cpu_count()} cores"
    print(json.dumps({"benchmark": "train", "machine": machine, "rows": rows}))


def row(
    case: str,
    ours: float | None,
    peer: float | None,
    ratio: float | None,
    goal: float,
    ok: bool | None,
) -> dict[str, Any]:
    def short(value: float | None) -> float | None:
        return None if value is None else float(f"{value:.4g}")

    return {
        "case": f"mini, batch {BATCH}, {TOKENS} tokens: {case}",
        "ours": short(ours),
        "peer": short(peer),
        "ratio": short(ratio),
        "goal": goal,
        "ok": ok,
    }


if __name__ == "__main__":
    main()
