"""The weights of an ONNX graph that has none of its own: they lie in safetensors beside it.

A model folder then holds every weight once, for torch and for ONNX Runtime. The manifest says
for each initializer of the graph which tensor it is, or which rows of one, and whether transposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from splade_os.errors import ModelError

Array = npt.NDArray[np.float32]
Int8 = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Share:
    """Where an initializer comes from.

    Attributes:
        tensor: name in safetensors.
        start, stop: rows of it; ``None`` = the whole of it.
        transposed: rows and columns change places.
        int8: by columns (`int8_columns`).
    """

    tensor: str
    start: int | None = None
    stop: int | None = None
    transposed: bool = False
    int8: bool = False

    def of(self, tensors: Mapping[str, Array]) -> Array | Int8:
        """The initializer, contiguous."""
        rows = tensors[self.tensor][self.start : self.stop]
        array = np.ascontiguousarray(rows.T if self.transposed else rows)
        return int8_columns(array) if self.int8 else array


def column_scales(weights: Array) -> Array:
    """What one step of int8 is worth in each column: its largest absolute value is 127 of them."""
    largest = np.abs(weights).max(0).astype(np.float64)
    scales: Array = (largest / 127).astype(np.float32)
    scales[scales < np.finfo(np.float32).tiny] = 1
    return scales


def int8_columns(weights: Array) -> Int8:
    """Symmetric int8, -127 .. 127, in steps of `column_scales`, which the graph keeps."""
    rounded: Int8 = np.clip(np.rint(weights / column_scales(weights)), -127, 127).astype(np.int8)
    return rounded


def read_tensors(folder: Path) -> dict[str, Array]:
    """Every tensor of a transformer folder as float32.

    Raises:
        ModelError: a file is damaged, or holds what numpy has no type for (bfloat16).
    """
    tensors: dict[str, Array] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "np") as content:
                tensors |= {
                    name: np.asarray(content.get_tensor(name), np.float32)
                    for name in content.keys()  # noqa: SIM118  # it is no mapping
                }
        except (SafetensorError, OSError, TypeError, AttributeError) as error:
            raise ModelError(f"{file} cannot be read: {error}") from error
    return tensors


def initializers(folder: Path, shares: Mapping[str, Mapping[str, Any]]) -> dict[str, Array | Int8]:
    """Initializers of a graph from the weights of its transformer folder.

    Raises:
        ModelError: weights and manifest do not belong together.
    """
    tensors = read_tensors(folder)
    try:
        return {name: Share(**share).of(tensors) for name, share in shares.items()}
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{folder}: the ONNX graph needs weights that are not there: {error}",
            hint="Export the model again: splade-os export MODEL --to onnx --out FOLDER.",
        ) from None
