"""A training run from a recipe to a model folder."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splade_os.errors import MissingExtraError, SettingsError
from splade_os.training.allocator import return_freed_memory
from splade_os.training.arguments import checkpoint_folder, training_arguments
from splade_os.training.recipe import Recipe

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """What a run gave.

    Attributes:
        folder: the model.
        steps: steps of the optimiser, of all runs that it was resumed from as well.
        loss: mean training loss of this run.
        metrics: the last evaluation, or the best one if that model was kept.
        log: everything that was logged.
    """

    folder: Path
    steps: int
    loss: float
    metrics: dict[str, float]
    log: list[dict[str, Any]]


def train(recipe: Recipe, *, resume: bool = False) -> Trained:
    """Train as a recipe says. Started by ``torchrun``, every process calls this.

    Args:
        recipe: see `load_recipe`.
        resume: go on from the last whole checkpoint of the output folder (`checkpoint_folder`),
            or begin if there is none.

    Raises:
        SettingsError: the recipe is wrong, or the output folder holds a model already.
        InputError, ModelError: data or base cannot be read.
        TrainingError: the run stopped before its end, and why.
    """
    try:
        import accelerate  # noqa: F401  # transformers' Trainer needs it
        import datasets  # noqa: F401
        import torch  # noqa: F401
        from transformers import set_seed
    except ImportError:
        raise MissingExtraError("Training", "train") from None
    from splade_os.training.provenance import describe_base
    from splade_os.training.restoring import last_checkpoint, move_checkpoints

    output, checkpoints = Path(recipe.output), checkpoint_folder(recipe)
    # before they stood beside the model, they stood in it
    checkpoint = last_checkpoint(checkpoints) or last_checkpoint(output)
    for folder in (output, checkpoints):
        if not resume and folder.is_dir() and any(folder.iterdir()):
            raise SettingsError(
                f"The folder {folder} is not empty.",
                hint="Name another one (--out), or go on with what is there (--resume).",
            )
    if recipe.top_only is not None:
        return _train_top(recipe, output, checkpoints)
    if resume and checkpoint is None:
        _log.warning("%s holds no whole checkpoint: beginning at the beginning.", checkpoints)
    trainer = build_trainer(recipe)
    set_seed(trainer.args.seed)
    if recipe.stop_if_below_start is not None and checkpoint is None:
        trainer.args.eval_on_start = True
    base = describe_base(recipe.model.base, trainer.model)
    began = time.monotonic()
    result = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    seconds = time.monotonic() - began
    state, log = trainer.state, list(trainer.state.log_history)
    best = state.best_global_step if state.best_model_checkpoint else None
    if recipe.stop_if_below_start is not None:
        if best is not None:
            trainer.load_best_model()
        stopped = [entry["stopped"] for entry in log if "stopped" in entry]
        if stopped:
            kept = "the last" if best is None else f"step {best}'s"
            _log.warning("Stopped at step %d: %s. %s model is kept.", state.global_step,
                         stopped[-1], kept.capitalize())  # fmt: skip
    metrics = _kept_metrics(log, best)
    trainer.save_model(str(output))
    if trainer.args.should_save:
        move_checkpoints(output, checkpoints)
        _remove_if_empty(checkpoints)
        from splade_os.training.card import Run, write_card

        device, emissions = str(trainer.args.device), _emissions(trainer)
        made = Run(base, state.global_step, seconds, log, metrics, device, emissions)
        write_card(output, recipe, trainer.model, trainer.train_dataset, made)
    return Trained(output, state.global_step, result.training_loss, metrics, log)


def _train_top(recipe: Recipe, output: Path, checkpoints: Path) -> Trained:
    """Minutes long: an interrupted run begins anew, but for the states that it finds on disk."""
    from splade_os.training.card import Run, write_card
    from splade_os.training.provenance import describe_base
    from splade_os.training.saving import save_model
    from splade_os.training.top_only import build_top_trainer

    arguments = training_arguments(recipe)
    trainer = build_top_trainer(in_folder(recipe), arguments)
    base = describe_base(recipe.model.base, trainer.model)
    began = time.monotonic()
    log = trainer.run()
    best = next((entry["step"] for entry in reversed(log) if "best" in entry), None)
    metrics = _kept_metrics(log, best)
    save_model(trainer.model, output)
    _remove_if_empty(checkpoints)
    seconds, steps = time.monotonic() - began, arguments.max_steps
    run = Run(base, steps, seconds, log, metrics, str(arguments.device))
    write_card(output, recipe, trainer.model, trainer.rows, run)
    losses = [entry["loss"] for entry in log if "loss" in entry]
    return Trained(output, steps, losses[-1] if losses else 0.0, metrics, log)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _emissions(trainer: Any) -> tuple[float, float] | None:
    """Of transformers' codecarbon callback (``report_to: codecarbon``)."""
    for callback in trainer.callback_handler.callbacks:
        data = getattr(getattr(callback, "tracker", None), "final_emissions_data", None)
        if data is not None:
            return float(data.emissions), float(data.energy_consumed)
    return None


def build_trainer(recipe: Recipe) -> Any:
    """The `SpladeTrainer` of a recipe, ready to train."""
    from splade_os.training.checking import load_collections
    from splade_os.training.data import count_idf, load_rows
    from splade_os.training.loading import load_model
    from splade_os.training.requirements import check_losses
    from splade_os.training.stopping import BelowStart, early_stopping
    from splade_os.training.trainer import SpladeTrainer

    recipe = in_folder(recipe)
    arguments = training_arguments(recipe)
    if arguments.device.type == "cpu":
        return_freed_memory()
    rows, held_out = load_rows(recipe.data)
    teachers = recipe.distillation.teachers
    batch = arguments.per_device_train_batch_size * arguments.world_size
    # `SpladeTrainer` looks as well, but after the base was loaded and the table counted
    check_losses(recipe.losses, rows, batch, recipe.distillation.kind if teachers else None)
    model = load_model(recipe.model, count_idf(rows))
    callbacks: list[Any] = []
    if recipe.early_stopping is not None:
        callbacks.append(early_stopping(recipe.early_stopping))
    if recipe.stop_if_below_start is not None:
        callbacks.append(BelowStart(recipe.stop_if_below_start))
    teacher = None
    if teachers:
        from splade_os.training.teachers import Ensemble

        teacher = Ensemble(recipe.distillation, arguments.device)
    return SpladeTrainer(
        model,
        arguments,
        rows,
        losses=recipe.losses,
        regularisers=recipe.regularisers,
        sampler=recipe.data.sampler,
        teacher=teacher,
        grad_cache=recipe.grad_cache,
        query_learning_rate=recipe.model.query.learning_rate,
        evaluations=load_collections(recipe.evaluation, held_out),
        stop_on_collapse=recipe.stop_on_collapse,
        callbacks=callbacks,
    )


def in_folder(recipe: Recipe) -> Recipe:
    """The recipe with the relative paths of its data found under ``recipe.folder``."""
    if recipe.folder is None:
        return recipe
    root = Path(recipe.folder).expanduser()

    def found(name: Any) -> Any:
        return str(root / name) if isinstance(name, str) and (root / name).exists() else name

    train = recipe.data.train
    data = {
        "train": found(train) if isinstance(train, str) else [found(name) for name in train],
        "corpus": found(recipe.data.corpus),
        "queries": found(recipe.data.queries),
    }
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update=data),
            "evaluation": [
                part.model_copy(update={"path": found(part.path)}) for part in recipe.evaluation
            ],
        }
    )


def _kept_metrics(log: list[dict[str, Any]], best: int | None) -> dict[str, float]:
    found = [entry for entry in log if any(key.startswith("eval_") for key in entry)]
    if best is not None:
        found = [entry for entry in found if entry["step"] == best] or found
    if not found:
        return {}
    return {key: value for key, value in found[-1].items() if key.startswith("eval_")}
