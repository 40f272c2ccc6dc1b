"""Small training data, and a recipe around it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from splade_os.training.recipe import Recipe
from splade_os.training.recipe_file import load_recipe
from tests import tiny_models


def make_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Queries of words that their positive holds and their negatives do not."""
    chooser = random.Random(seed)
    words = tiny_models._WORDS
    rows = []
    for i in range(count):
        own = chooser.sample(words, 5)
        others = [w for w in words if w not in own]
        rows.append(
            {
                "query": f"{own[0]} {own[1]} {i}",
                "positive": " ".join([*own, *chooser.sample(others, 5), f"p{i}"]),
                "negative_1": " ".join([*chooser.sample(others, 8), f"n{i}"]),
                "negative_2": " ".join([*chooser.sample(others, 8), f"m{i}"]),
            }
        )
        rows[-1]["negatives"] = [rows[-1]["negative_1"], rows[-1]["negative_2"]]
    return rows


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masked-LM checkpoints of the seeds' architectures."""
    root = tmp_path_factory.mktemp("bases")
    tiny_models.masked_lm("bert", root / "bert")
    tiny_models.masked_lm("distilbert", root / "distilbert")
    return root


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "train.jsonl"
    file.write_text("\n".join(map(json.dumps, make_rows(60))))
    return file


@pytest.fixture
def recipe(bases: Path, pairs_file: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """A recipe of the package, cut to a few steps on small data."""

    def make(name: str, base: str, documents: list[str], **changes: Any) -> Recipe:
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        return load_recipe(
            name,
            {
                "output": str(tmp_path / "out"),
                "model.base": str(bases / base),
                "model.max_length": None,
                "data.train": str(pairs_file),
                "data.subset": None,
                "data.limit": None,
                "data.query": "query",
                "data.documents": documents,
                "data.held_out": 8,
                "evaluation": [{"name": "dev", "kind": "held-out"}],
                "training.metric_for_best_model": "eval_dev_ndcg@10",
                "training.max_steps": 4,
                "training.per_device_train_batch_size": 4,
                "training.logging_steps": 1,
                "training.eval_strategy": "steps",
                "training.save_strategy": "steps",
                "training.eval_steps": 2,
                "training.save_steps": 2,
                "training.disable_tqdm": True,
                **dotted,
            },
        )

    return make
