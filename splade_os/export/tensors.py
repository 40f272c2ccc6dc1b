"""Writes safetensors that other users of the machine may read as they may read other files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def save_file(
    tensors: Mapping[str, Any], file: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """safetensors' ``save_file``, but for the mode of the file.

    safetensors writes to a temporary file, which belongs to its user alone (0600), and renames
    it. Here a new file has the mode that the umask gives, and one that is replaced keeps its own.

    Args:
        tensors: of numpy, or of torch.
        metadata: for the header.
    """
    if all(isinstance(tensor, np.ndarray) for tensor in tensors.values()):
        from safetensors.numpy import save_file as save
    else:
        from safetensors.torch import save_file as save
    file.touch()
    mode = file.stat().st_mode
    save(dict(tensors), file, metadata=None if metadata is None else dict(metadata))
    file.chmod(mode)
