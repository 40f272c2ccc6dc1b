"""Weights that training begins with, or learns from: read as encoding reads a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from splade_os.encoding.checkpoint import load_checkpoint
from splade_os.encoding.hub import download, is_hub_name
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
    """Load a checkpoint without running anything of it.

    Args:
        kind: a transformers class, ``AutoModelForMaskedLM`` ...
        name: a folder, or a name on the hub.
        what: what messages call it.

    Raises:
        ModelError: it cannot be found or read.
    """
    from transformers import AutoTokenizer

    folder = Path(name).expanduser()
    try:
        if not folder.is_dir():
            if name.count("/") and not is_hub_name(name):  # those of the first models have no slash
                raise ModelError(f"There is no folder {name}.", hint="Name a folder or a hub name.")
            folder = download(name)
        model, missing = load_checkpoint(kind, folder)
    except ModelError as error:
        message = f"{what} {name} cannot be loaded: {error.message}"
        raise ModelError(message, hint=error.hint) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, config=model.config, use_fast=True, trust_remote_code=False
        )
    except Exception as error:  # transformers and tokenizers raise their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"The tokenizer of {what[0].lower()}{what[1:]} {name} cannot be loaded: {reason}",
            hint="Download or save the model again.",
        ) from error
    return Pretrained(model, tokenizer, missing)
