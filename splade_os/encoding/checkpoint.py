"""From a transformer's folder to the transformers model: never code of the folder, never a pickle.

The class is transformers' own, by ``model_type``; ``auto_map`` is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from splade_os.encoding.adapters import base_folder
from splade_os.encoding.config_keys import check_keys, refuse_quantised, unread_tensor
from splade_os.encoding.gte import as_native_gte
from splade_os.encoding.module_config import read_object
from splade_os.encoding.refused_families import causal_model
from splade_os.encoding.weights import plain_weights_folder, weights_folder
from splade_os.errors import ModelError


class Checkpoint(NamedTuple):
    """A transformers model in float32 on the CPU.

    Attributes:
        model: the model.
        missing: names of the tensors that the folder lacks; random in ``model``.
    """

    model: Any
    missing: list[str]


def load_checkpoint(kind: Any, folder: Path) -> Checkpoint:
    """Load a folder; an adapter is merged with its base.

    Args:
        kind: ``AutoModelForMaskedLM`` or another class of transformers' ``auto`` ones.

    Raises:
        ModelError: weights are missing, damaged or no plain tensors; transformers does not know
            the family, or has no such model of it.
        MissingExtraError: what merges an adapter is not installed.
    """
    return _load(kind, base_folder(folder), weights_folder(folder), folder)


def load_plain(kind: Any, folder: Path) -> Checkpoint:
    """As `load_checkpoint`, without the adapter that may lie in the folder."""
    weights = plain_weights_folder(folder)
    with TemporaryDirectory(prefix="splade-os-weights-") as alone:  # transformers would apply it
        for file in (*weights.glob("model*.safetensors"), *weights.glob("*.index.json")):
            (Path(alone) / file.name).symlink_to(file.resolve())
        return _load(kind, folder, Path(alone), folder)


def _load(kind: Any, base: Path, weights: Path, name: Path) -> Checkpoint:
    import torch

    config = read_config(base, kind)
    with _quiet():
        try:
            model, report = kind.from_pretrained(
                weights,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever transformers met in configuration and weights
            raise ModelError(
                f"{name} cannot be loaded: {type(error).__name__}: {_first_line(error)}",
                hint=f"Do {base / 'config.json'} and the weights belong to one model? "
                "Download or save it again.",
            ) from error
    lost = unread_tensor(report["unexpected_keys"], model)
    if lost is not None:
        raise ModelError(
            f"{name}: transformers' {type(model).__name__} has no place for the tensor {lost} of "
            "its weights, so that the model would run without it and give other vectors than it "
            "was trained for.",
            hint=f"Does {base / 'config.json'} say what the model is? docs/models.md lists "
            "families; code of a folder is never run.",
        )
    model.config.name_or_path = str(name)
    return Checkpoint(model, sorted(report["missing_keys"]))


def read_config(folder: Path, kind: Any) -> Any:
    """The transformers configuration of a folder, for a class that loads it.

    Raises:
        ModelError: it is damaged, or transformers has no such model.
    """
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    file = folder / "config.json"
    content = native_config(folder)
    family = content.get("model_type")
    if not isinstance(family, str) or family not in CONFIG_MAPPING:
        remote = " (its own code lies in the folder, and is never run)"
        raise ModelError(
            f"{file}: the installed transformers has no model of the type {family!r}"
            f"{remote if 'auto_map' in content else ''}.",
            hint="A newer transformers may have it: pip install -U transformers. docs/models.md "
            "lists the families that are tested.",
        )
    refuse_quantised(content, file)
    # a tuple in the place of named results has no logits
    own = {key: value for key, value in content.items() if key not in ("auto_map", "return_dict")}
    try:
        config = CONFIG_MAPPING[family].from_dict(own)
    except Exception as error:  # transformers checks the numbers of the file, in its own words
        raise ModelError(
            f"{file} is no configuration of a {family} model: {_first_line(error)}",
            hint="Download or save the model again.",
        ) from error
    check_keys(content, config, file)
    if type(config) not in kind._model_mapping:
        if type(config) in AutoModelForCausalLM._model_mapping:
            raise causal_model(folder, family)
        raise ModelError(
            f"{folder}: transformers has no {kind.__name__.removeprefix('AutoModelFor')} model of "
            f"the family {family}, which is what is needed here.",
            hint="SPLADE models are masked-LM ones (BERT and its like): docs/models.md lists "
            "families.",
        )
    return config


def native_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a folder, or of an adapter's base, as transformers' own classes read it.

    Raises:
        ModelError: it is damaged, or asks for what they do not compute.
    """
    file = base_folder(folder, weights=False) / "config.json"
    content = read_object(file)
    return as_native_gte(dict(content), file)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' report of unused tensors: it is for people who fine-tune."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
