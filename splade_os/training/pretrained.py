"""Weights that training begins with, or learns from: read as encoding reads a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from splade_os.encoding.resolve import require_safetensors
from splade_os.errors import ModelError


class Pretrained(NamedTuple):
    """A transformers model with its tokenizer.

    Attributes:
        model: in float32.
        tokenizer: the fast one.
        missing: names of the tensors that the checkpoint lacks; random in ``model``.
    """

    model: Any
    tokenizer: Any
    missing: list[str]


def load_pretrained(kind: Any, name: str, what: str) -> Pretrained:
    """Load a checkpoint without running anything of it: safetensors, never a pickle.

    Args:
        kind: a transformers class, ``AutoModelForMaskedLM`` ...
        name: a folder, or a name on the hub (for which transformers finds the hub's own
            conversion where a repository has pickled weights only).
        what: what messages call it.

    Raises:
        ModelError: it cannot be found or read, or its weights are pickled.
    """
    from transformers import AutoTokenizer

    folder = Path(name).expanduser()
    if folder.is_dir():
        require_safetensors(folder, kind.__name__)
        name = str(folder)
    try:
        model, report = kind.from_pretrained(
            name,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True, trust_remote_code=False)
    except Exception as error:  # the hub's client, transformers and safetensors raise their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{what} {name} cannot be loaded: {reason}",
            hint=f"Name a folder that {kind.__name__} loads, or a hub name that can be reached.",
        ) from error
    return Pretrained(model, tokenizer, sorted(report["missing_keys"]))
