"""What runs a model: token ids in, `SparseBatch` out. PyTorch or ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from splade_os.vectors import Ids, SparseBatch


class NonFiniteError(ArithmeticError):
    """The model returned NaN or infinity for a text."""

    def __init__(self, row: int) -> None:
        super().__init__(f"NaN or infinity in row {row}")
        self.row = row


class Backend(Protocol):
    """One loaded model.

    Attributes:
        device: where it runs, e.g. ``cuda:0``.
        precision: ``float32``, ``bfloat16``, ``float16`` or ``int8``.
        vocabulary_size: V.
        batch_tokens: tokens of a forward pass, padding included, that suit it.
    """

    device: str
    precision: str
    vocabulary_size: int
    batch_tokens: int

    def encode(self, tokens: Sequence[Ids], max_active_dims: int | None) -> SparseBatch:
        """Encode texts given as token ids, none empty, in one forward pass.

        Raises:
            NonFiniteError: naming the row.
        """
