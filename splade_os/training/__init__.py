"""Fine-tuning: recipes, losses, regularisers, `SpladeTrainer`. Torch is imported when used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splade_os.training.loading import load_model as load_model
    from splade_os.training.recipe import Recipe as Recipe
    from splade_os.training.recipe_file import load_recipe as load_recipe
    from splade_os.training.run import train as train
    from splade_os.training.saving import save_model as save_model
    from splade_os.training.trainer import SpladeTrainer as SpladeTrainer

_HOMES = {
    "Recipe": "recipe",
    "SpladeTrainer": "trainer",
    "load_model": "loading",
    "load_recipe": "recipe_file",
    "save_model": "saving",
    "train": "run",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
