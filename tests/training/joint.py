"""One process of a joint batch, as torchrun starts it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch.distributed as dist
import yaml

from splade_os.training.recipe import Recipe
from splade_os.training.run import build_trainer


def run(recipe: Recipe, evaluation_seconds: float = 0.0) -> None:
    """Train, save, and write the log beside the model.

    Args:
        evaluation_seconds: how much longer the first evaluation takes than it does.
    """
    trainer = build_trainer(recipe)
    measure, pauses = trainer._metrics, iter([evaluation_seconds])

    def slowly(prefix: str) -> dict[str, float]:
        time.sleep(next(pauses, 0.0))
        metrics: dict[str, float] = measure(prefix)
        return metrics

    trainer._metrics = slowly
    trainer.train()
    if trainer.args.process_index == 0:
        trainer.save_model(recipe.output)
        log = Path(recipe.output) / "log.json"
        log.write_text(json.dumps(trainer.state.log_history))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    run(Recipe(**yaml.safe_load(Path(sys.argv[1]).read_text())), float(sys.argv[2]))
