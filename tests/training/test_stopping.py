"""When a run ends early, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from splade_os.errors import TrainingError
from splade_os.training import train
from splade_os.training.arguments import checkpoint_folder
from splade_os.training.checking import Collection
from splade_os.training.recipe import Recipe
from splade_os.training.restoring import last_checkpoint

MakeRecipe = Callable[..., Recipe]


def evaluations(log: list[dict[str, Any]]) -> dict[int, float]:
    return {e["step"]: e["eval_dev_ndcg@10"] for e in log if "eval_dev_ndcg@10" in e}


def test_stops_when_it_falls(
    recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The third evaluation falls: the model of the second is kept."""
    made = recipe(
        "gooaq", "bert", ["positive"], stop_if_below_start=0.02,
        training__max_steps=20, training__save_steps=1, training__save_total_limit=2,
        training__load_best_model_at_end=False, training__metric_for_best_model=None,
    )  # fmt: skip
    said = iter([0.5, 0.49, 0.6, 0.55, 0.4, 0.9])
    real = Collection.__call__

    def told(self: Collection, model: Any, encoder: Any) -> dict[str, float]:
        return real(self, model, encoder) | {"dev_ndcg@10": next(said)}

    monkeypatch.setattr(Collection, "__call__", told)
    done = train(made)
    assert done.steps == 8  # evaluated before the start, then every two steps
    assert evaluations(done.log) == {0: 0.5, 2: 0.49, 4: 0.6, 6: 0.55, 8: 0.4}
    assert done.metrics["eval_dev_ndcg@10"] == 0.6
    assert "Step 4's model is kept" in caplog.text and "0.4000, was 0.5000" in caplog.text
    kept, checkpoints = done.folder / "model.safetensors", checkpoint_folder(made)
    checkpoint = checkpoints / "checkpoint-4"
    assert kept.read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    newest = last_checkpoint(checkpoints)
    assert newest is not None and newest.name == "checkpoint-8"
    assert kept.read_bytes() != (newest / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"regularisers": {"document": {"kind": "flops", "weight": 1e6, "warmup": 0}},
          "training.learning_rate": 0.3}, "no term left"),
        ({"training.learning_rate": 4e9, "training.max_grad_norm": 4e9}, "The loss of step"),
    ],
    ids=["empty", "not finite"],
)  # fmt: skip
def test_collapse(changes: dict[str, Any], reason: str, recipe: MakeRecipe) -> None:
    with pytest.raises(TrainingError, match=reason) as error:
        train(recipe("gooaq", "bert", ["positive"], evaluation=[], **changes, **{
            "training.max_steps": 200, "training.save_strategy": "no",
        }))  # fmt: skip
    assert "rate" in (error.value.hint or "")


def test_card(recipe: MakeRecipe) -> None:
    """What it says is what was done."""
    done = train(recipe("nq-inference-free", "distilbert", ["positive"]))
    text = (done.folder / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    content = yaml.safe_load(front)
    results = content["model-index"][0]["results"]
    assert results[0]["metrics"][0]["value"] == round(done.metrics["eval_dev_ndcg@10"], 4)
    assert "inference-free" in content["tags"] and content["base_model"].endswith("distilbert")
    assert "52 rows" in body and "learning_rate: 2.0e-05" in body and "| transformers |" in body
    config = json.loads((done.folder / "config_sentence_transformers.json").read_text())
    assert config["model_type"] == "SparseEncoder"
