"""One process of a joint batch, as torchrun starts it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

from splade_os.training.recipe import Recipe
from splade_os.training.run import build_trainer


def run(recipe: Recipe) -> None:
    """Train, save, and write the log beside the model."""
    trainer = build_trainer(recipe)
    trainer.train()
    if trainer.args.process_index == 0:
        trainer.save_model(recipe.output)
        log = Path(recipe.output) / "log.json"
        log.write_text(json.dumps(trainer.state.log_history))


if __name__ == "__main__":
    run(Recipe(**yaml.safe_load(Path(sys.argv[1]).read_text())))
