"""`benchmarks/gpu.py` rehearsed: every check and rate of it, small, on what stands in for a GPU."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from splade_os.encoding.transformer import SpladeTransformer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, defaults: None) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("BENCHMARK_BATCH", "2")
    if not torch.cuda.is_initialized():
        device = SimpleNamespace(total_memory=80e9)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 0)
        for name in (
            "reset_peak_memory_stats",
            "set_per_process_memory_fraction",
            "set_sync_debug_mode",
            "synchronize",
        ):
            monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    module = importlib.import_module("gpu")
    monkeypatch.setattr(module, "SPEED", (("mini", 12, 0.0, 1, 1e-9),))
    monkeypatch.setattr(module, "PEER_SIZES", (4,))
    monkeypatch.setattr(module, "VOCABULARIES", (1500, 3000))
    monkeypatch.setattr(module, "TRAINERS", ("cached",))
    monkeypatch.setattr(module, "TRAINING", {"bf16": 5e-2})  # the scaler of fp16 wants a GPU
    if "SPLADE_OS_TEST_FULL" not in os.environ:  # half a minute; `training` runs the same code
        monkeypatch.setattr(module, "RATES", (module.documents,))
    return module


@pytest.mark.timeout(600)  # all of it takes a minute, on a machine that is busy more
def test_every_part_of_it(script: ModuleType, gpu: torch.device) -> None:
    rows, wrong = script.run(gpu, 12, minutes=9)
    assert wrong is None
    measured = {row["case"] for row in rows if row["ours"] is not None}
    for part in ("load with defaults", "families", "texts twice", "peak of a full batch",
                 "8 GB for all", "training steps, bf16, cached", "docs/s of",
                 "roofline"):  # fmt: skip
        assert any(part in case for case in measured), part
    assert all(set(row) == set(rows[0]) for row in rows)


def test_it_stops_at_the_first_wrong_result(
    script: ModuleType, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = SpladeTransformer._weights

    def off(self: SpladeTransformer, *arguments: Any) -> torch.Tensor:
        weights = pool(self, *arguments)
        return weights.roll(1, 0) if len(weights) > 1 else weights

    monkeypatch.setattr(SpladeTransformer, "_weights", off)
    monkeypatch.setattr(script, "CHECKS", (script.families, script.twice))
    rows, wrong = script.run(gpu, 12, minutes=9)
    assert wrong is not None and wrong.startswith("families: bert max float32: off by")
    assert rows[-1]["ok"] is False and len(rows) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py")], capture_output=True, text=True, check=True
    )
    assert "sees no GPU" in done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["benchmark"] == "gpu" and all(row["ok"] is None for row in found["rows"])
