"""transformers.TrainingArguments of a recipe, checked value by value."""

from __future__ import annotations

import dataclasses
import difflib
import logging
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from splade_os.errors import SettingsError
from splade_os.training.recipe import Recipe

_log = logging.getLogger(__name__)
_PRECISIONS = ("fp16", "bf16")
# what TrainingArguments takes and the trainer, torch or numpy then fails at
_LEAST = {
    "per_device_train_batch_size": 1, "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1, "dataloader_num_workers": 0, "seed": 0, "data_seed": 0,
    "learning_rate": 0, "num_train_epochs": 0, "max_grad_norm": 0,
}  # fmt: skip
_LARGEST = 2**32 - 1  # of a seed; no other number is as large


def checkpoint_folder(recipe: Recipe) -> Path:
    """Where a run keeps what it needs to go on: beside the model's folder, so that whoever copies,
    exports or uploads the model takes no optimiser state and no pickle along."""
    output = Path(recipe.output).resolve()
    return output.with_name(f"{output.name}.checkpoints")


def training_arguments(recipe: Recipe) -> Any:
    """transformers.TrainingArguments of a recipe.

    Without a GPU, fp16 is left out, and so is bf16 unless the CPU has products in bf16 (AVX-512 or
    AMX), where it is the fastest.

    Raises:
        SettingsError: naming a key that TrainingArguments does not have, or a wrong value.
    """
    import torch
    from transformers import TrainingArguments

    given = _checked(recipe.training, TrainingArguments)
    if not torch.cuda.is_available() or given.get("use_cpu"):
        for name in _PRECISIONS:
            if given.get(name) and not (name == "bf16" and _cpu_has_bf16()):
                del given[name]
                _log.warning("No GPU: training in float32 instead of %s.", name)
        given["use_cpu"] = True
    defaults: dict[str, Any] = {
        "report_to": "none",
        "logging_steps": 50,
        "save_total_limit": 2,
        "restore_callback_states_from_checkpoint": True,
        "dataloader_drop_last": False,
    }
    if recipe.evaluation and "eval_strategy" not in given:
        defaults["eval_strategy"] = "steps"
    if given.get("load_best_model_at_end"):
        defaults["save_strategy"] = given.get("eval_strategy", "steps")
    try:
        folder = str(checkpoint_folder(recipe))
        return TrainingArguments(output_dir=folder, **(defaults | given))
    except (
        *(ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError),
        OSError,  # some values name files: accelerator_config, deepspeed, fsdp_config
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SettingsError(f"training: {reason}") from None


def _checked(given: dict[str, Any], arguments: Any) -> dict[str, Any]:
    """The values, each of its own type: TrainingArguments itself takes a list for a number."""
    known = {field.name for field in dataclasses.fields(arguments) if field.init} - {"output_dir"}
    kinds = get_type_hints(arguments)
    checked = {}
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise SettingsError(
                f"training.{name} is no key of transformers.TrainingArguments.",
                hint=f"Is training.{near[0]} meant?" if near else None,
            )
        try:
            right = TypeAdapter(kinds[name]).validate_python(value)
        except ValidationError as error:
            raise SettingsError(
                f"training.{name}: {error.errors()[0]['msg']}, not {str(value)[:80]!r}."
            ) from None
        # YAML takes 2e-5 for a text; anything else stays as it is: 100 steps are no 100.0
        checked[name] = right if isinstance(value, str) else value
        number = isinstance(right, int | float) and not isinstance(right, bool)
        if number and not _LEAST.get(name, -_LARGEST) <= right <= _LARGEST:
            raise SettingsError(
                f"training.{name}: {str(value)[:80]} is not from {_LEAST.get(name, -_LARGEST)} "
                f"to {_LARGEST}."
            )
    return checked


def _cpu_has_bf16() -> bool:
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
