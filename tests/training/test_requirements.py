"""A recipe whose losses do not fit its data is refused before its first step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splade_os.errors import InputError, SettingsError
from splade_os.training import train
from splade_os.training.loading import load_model
from splade_os.training.recipe import LossPart, Recipe
from splade_os.training.run import build_trainer
from splade_os.training.trainer import SpladeTrainer
from tests.training.conftest import make_rows

MakeRecipe = Callable[..., Recipe]
QUIET: dict[str, Any] = {
    "evaluation": [],
    "data.held_out": 0,
    "training.save_strategy": "no",
    "training.metric_for_best_model": None,
}
ALL = ["positive", "negative_1", "negative_2"]
SEVENTH = f"the row with query {make_rows(40)[7]['query']!r} has"  # wherever shuffling puts it


@pytest.fixture
def scored(tmp_path: Path) -> str:
    """The usual rows with scores of every kind."""
    rows = make_rows(40)
    for i, row in enumerate(rows):
        scores = [5.0 + i % 3, 1.0 + i % 5, 2.0]
        row |= {"scores": scores, "margins": [scores[0] - s for s in scores[1:]]}
        row |= {"s0": scores[0], "s1": scores[1], "s2": scores[2], "m1": row["margins"][0]}
        row |= {"mixed": row["margins"] if i == 7 else scores, "none": []}
        row |= {"holes": [1.0, None, 2.0], "nan": "nan"}
    file = tmp_path / "scored.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


@pytest.mark.parametrize(
    ("documents", "scores", "losses", "names"),
    [
        (["positive"], "s0", [{"kind": "margin-mse"}], ["losses.0 (margin-mse)", "data.documents"]),
        (["positive"], "s0", [{"kind": "kl"}], ["losses.0 (kl)", "one document"]),
        (["positive"], None, [{"kind": "infonce", "in_batch": False}], ["losses.0", "in_batch"]),
        (["positive", "negative_1"], "s0", [{"kind": "infonce"}], ["data.scores", "margin-mse"]),
        (ALL, None, [{"kind": "infonce"}, {"kind": "kl"}], ["data.scores"]),
    ],
)
def test_refused(
    documents: list[str],
    scores: str | None,
    losses: list[dict[str, Any]],
    names: list[str],
    scored: str,
    recipe: MakeRecipe,
) -> None:
    changes = {"data.train": scored, "data.scores": scores, "losses": losses}
    with pytest.raises(SettingsError) as error:
        train(recipe("gooaq", "bert", documents, **QUIET, **changes))
    assert all(name in str(error.value) for name in names), str(error.value)


@pytest.mark.parametrize(
    ("documents", "scores", "names"),
    [
        (ALL, "s0", ["data.scores (s0): the row with", "1 scores for 3 documents"]),
        (ALL, ["s0", "s1", "s2", "m1"], ["4 scores for 3 documents"]),
        (ALL, "mixed", [SEVENTH, "2 scores for 3 documents", "unlike the row"]),
        (ALL, "none", ["0 scores"]),
        (["positive"], "none", ["0 scores for 1 documents"]),
        (ALL, "holes", ["no number", "data.scores: holes"]),
        (["positive", "negative_1"], "nan", ["no number", "data.scores: nan"]),
    ],
)
def test_wrong_scores(
    documents: list[str], scores: Any, names: list[str], scored: str, recipe: MakeRecipe
) -> None:
    changes = {"data.train": scored, "data.scores": scores, "losses": [{"kind": "kl"}]}
    with pytest.raises(InputError) as error:
        train(recipe("gooaq", "bert", documents, **QUIET, **changes))
    assert all(name in str(error.value) for name in names), str(error.value)


def test_one_row_batches(recipe: MakeRecipe) -> None:
    """Nothing is told from anything."""
    with pytest.raises(SettingsError, match="per_device_train_batch_size"):
        train(
            recipe("gooaq", "bert", ["positive"], **QUIET, training__per_device_train_batch_size=1)
        )


def test_trainer_of_ones_own(recipe: MakeRecipe) -> None:
    """Without a recipe as well."""
    made = recipe("gooaq", "bert", ["positive"], **QUIET)
    trainer = build_trainer(made)
    with pytest.raises(SettingsError, match="learns from a teacher"):
        SpladeTrainer(
            load_model(made.model),
            trainer.args,
            trainer.train_dataset,
            losses=[LossPart(kind="kl")],
        )


@pytest.mark.parametrize("kind", ["kl", "margin-mse"])
@pytest.mark.parametrize(
    ("documents", "own", "margins"),
    [(ALL, "scores", "margins"), (["positive", "negative_1"], ["s0", "s1"], "m1")],
    ids=["two negatives", "one"],
)
def test_margins_are_as_good_as_scores(
    documents: list[str], own: Any, margins: Any, kind: str, scored: str, recipe: MakeRecipe
) -> None:
    """Trained on either, a run has the same losses. With one negative they were of one shape."""
    logs = []
    for column in (own, margins):
        changes = {"data.train": scored, "data.scores": column, "losses": [{"kind": kind}]}
        out = {"output": str(Path(scored).parent / f"out-{len(logs)}"), "training.bf16": False}
        done = train(recipe("gooaq", "bert", documents, **QUIET, **changes, **out))
        logs.append([entry["loss"] for entry in done.log if "loss" in entry])
    np.testing.assert_allclose(logs[1], logs[0], rtol=1e-4)
    assert len(logs[0]) == 4 and all(np.isfinite(logs[0])) and logs[0][0] > 0
