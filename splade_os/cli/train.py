"""``splade-os train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from splade_os.cli.options import json_option
from splade_os.cli.terminal import echo


@click.command()
@click.argument("recipe", required=False)
@click.option(
    "--show", is_flag=True, help="Print RECIPE with every field explained; train nothing."
)
@click.option("--list", "list_", is_flag=True, help="List the recipes that come with the package.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of the trained model.")
@click.option(
    "--data", help="Training data, instead of the recipe's; or the folder that its paths begin in."
)
@click.option("--base", help="Base model, instead of the recipe's.")
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE",
    help="Change one value of the recipe, e.g. training.max_steps=100; may be repeated."
)  # fmt: skip
@click.option(
    "--resume",
    is_flag=True,
    help="Go on from the last checkpoint (in OUT.checkpoints), or begin if there is none.",
)
@json_option
def train(
    recipe: str | None,
    show: bool,
    list_: bool,
    out: Path | None,
    data: str | None,
    base: str | None,
    changes: tuple[str, ...],
    resume: bool,
    as_json: bool,
) -> None:
    """Fine-tune a model as RECIPE (a name, or a YAML file) says.

    Several GPUs: torchrun --nproc-per-node N -m splade_os train RECIPE. The result is a folder that
    sentence-transformers and every command here load, with idf.json for the engine where queries
    need no model.
    """
    from splade_os.training.recipe_file import describe, load_recipe, recipe_names

    if list_:
        for name in recipe_names():
            echo(f"{name:<20} {' '.join(load_recipe(name).description.split())}")
        return
    if recipe is None:
        raise click.UsageError("Which recipe? --list shows those of the package.")
    wanted = dict(_pair(change) for change in changes)
    place = "folder" if data is not None and _is_plain_folder(Path(data)) else "data.train"
    for key, value in (("output", out), (place, data), ("model.base", base)):
        if value is not None:
            wanted[key] = str(value)
    loaded = load_recipe(recipe, wanted)
    if show:
        echo(describe(loaded), nl=False)
        return
    from splade_os.training.run import train as run

    done = run(loaded, resume=resume)
    if int(os.environ.get("RANK", "0")):
        return  # another process of torchrun speaks
    if as_json:
        from splade_os.cli.options import print_json

        facts: dict[str, Any] = {"folder": done.folder, "steps": done.steps, "loss": done.loss}
        print_json(facts | {"metrics": done.metrics})
        return
    echo(f"{done.steps:,} steps, mean loss {done.loss:.4f}", err=True)
    for name, number in done.metrics.items():
        echo(f"{name:<40} {number:.4f}", err=True)
    echo(str(done.folder))


def _is_plain_folder(path: Path) -> bool:
    """Not one of datasets.save_to_disk, which is data itself."""
    return path.is_dir() and not any(
        (path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")
    )


def _pair(change: str) -> tuple[str, Any]:
    key, equals, value = change.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--set takes KEY=VALUE, not {change!r}.")
    from splade_os.training.recipe_file import parse_yaml

    return key, parse_yaml(value, f"--set {key}")
