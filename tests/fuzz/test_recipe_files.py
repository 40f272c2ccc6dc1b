"""Recipes, damaged as text and as values: what is read is what yaml reads, and all of it prints."""

from __future__ import annotations

import dataclasses
import random
import typing
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from splade_os.errors import SettingsError
from splade_os.training.recipe import Recipe
from splade_os.training.recipe_file import describe, load_recipe, parse_yaml, recipe_names
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutations import HOSTILE, change, damage
from tests.fuzz.mutations import VALUES as VALUES_OF_ANY_TYPE

FOLDER = resources.files("splade_os.training") / "recipes"
TEXTS = [(FOLDER / f"{name}.yaml").read_bytes() for name in recipe_names()]
VALUES = [yaml.safe_load(text) for text in TEXTS]


def test_texts(tmp_path: Path, fuzz: Fuzz) -> None:
    file = tmp_path / "recipe.yaml"

    def load(data: bytes) -> None:
        file.write_bytes(data)
        recipe = load_recipe(file)
        theirs = yaml.safe_load(data.decode("utf-8-sig"))
        if theirs.get("evaluation"):
            assert recipe == Recipe.model_validate(theirs)
        assert theirs["model"]["base"] == recipe.model.base

    fuzz("recipe (text)", lambda chance: damage(chance.choice(TEXTS), chance), load)


def test_values(tmp_path: Path, fuzz: Fuzz) -> None:
    """What passes is printed by --show, and read from there as the same recipe."""
    file = tmp_path / "recipe.yaml"

    def load(value: Any) -> None:
        try:
            text = yaml.safe_dump(value, allow_unicode=False)
        except (yaml.YAMLError, RecursionError, UnicodeError):
            return
        file.write_text(text)
        recipe = load_recipe(file)
        again = tmp_path / "again.yaml"
        again.write_text(describe(recipe), "utf-8")
        assert repr(load_recipe(again)) == repr(recipe)

    fuzz("recipe (values)", lambda chance: change(chance.choice(VALUES), chance), load)


def test_changes(tmp_path: Path, fuzz: Fuzz) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("model: {base: x}\ndata: {train: x}\nlosses: [{kind: infonce}]\n")
    keys = (
        "training.max_steps", "losses.0.kind", "losses.9.kind", "losses.x", "evaluation", "", ".",
        "a..b", "data.documents.0", "model", "regularisers.query.weight", "name.x", "losses",
        "training", "data.leave_out.a", "\0", "losses.\u0663.kind", "losses.-1",
    )  # fmt: skip

    def make(chance: random.Random) -> tuple[str, bytes]:
        return chance.choice(keys), damage(chance.choice(HOSTILE), chance)

    def load(pair: tuple[str, bytes]) -> None:
        key, data = pair
        value = parse_yaml(data.decode("utf-8", "surrogateescape"), f"--set {key}")
        load_recipe(file, {key: value})

    fuzz("recipe (--set)", make, load)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"name: \xe4\n", r"r\.yaml:1 is not UTF-8"),
        (b"name: x\n1: 2\n", "1: Keys should be strings"),
        (b"x: 2020-13-45\n", "holds a value that is none: month must be in 1..12"),
        (b"x: !!timestamp y\n", "holds a value that is none"),
        (b"a: [1\nb: 2\n", r"r\.yaml:2 is not YAML: "),
        (b"{a: " * 2000, "nested too deeply"),
        (b"a: &a [*a]\ntraining: *a\n", "no valid recipe"),
        (b"- 1\n", "holds list"),
        (b"", "holds NoneType"),
    ],
)
def test_a_wrong_file(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(data)
    with pytest.raises(SettingsError, match=message):
        load_recipe(file)


def test_the_name_of_no_file() -> None:
    for name in ("x" * 300, "\0", "/", ".", "", "~", "a/b"):
        with pytest.raises(SettingsError, match="recipe"):
            load_recipe(name)


def test_training_arguments(tmp_path: Path, fuzz: Fuzz) -> None:
    """Every key of TrainingArguments with values of any type: what passes has its own type."""
    from transformers import TrainingArguments

    from splade_os.training.arguments import training_arguments

    kinds = typing.get_type_hints(TrainingArguments)
    names = sorted(f.name for f in dataclasses.fields(TrainingArguments) if f.init)
    # what they stand for is not here, or changes the whole process
    names = [name for name in names if name not in {"deepspeed", "debug", "log_level", "fsdp"}]

    def make(chance: random.Random) -> tuple[str, Any]:
        value = chance.choice(VALUES_OF_ANY_TYPE)
        return chance.choice(names), value

    def load(pair: tuple[str, Any]) -> None:
        name, value = pair
        recipe = Recipe.model_validate(
            {"model": {"base": "x"}, "data": {"train": "x"}, "output": str(tmp_path / "m"),
             "training": {name: value}}
        )  # fmt: skip
        made = training_arguments(recipe)
        if kinds[name] in (int, float) and not name.endswith("_steps"):
            assert isinstance(getattr(made, name), int | float)

    fuzz("recipe (training.*)", make, load)
