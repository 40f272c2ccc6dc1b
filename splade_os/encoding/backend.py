"""What runs a model: token ids in, `SparseBatch` out. PyTorch or ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from splade_os.vectors import Ids, SparseBatch


class NonFiniteError(ArithmeticError):
    """The model returned NaN or infinity for a text."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row

    def __str__(self) -> str:
        return f"NaN or infinity in row {self.row}"


class Backend(Protocol):
    """One loaded model.

    Attributes:
        device: where it runs, e.g. ``cuda:0``.
        precision: ``float32``, ``bfloat16``, ``float16`` or ``int8``.
        vocabulary_size: V.
        max_length: tokens for which the model has positions; ``None`` = not known here.
        batch_tokens: tokens of a forward pass, padding included, that suit it.
        batch_bytes: most that the weights ``(B, V)`` of a forward pass may take in float32;
            ``None`` = no bound beside the tokens.
        buckets: lengths to which batches are padded; none = that of their longest text.
        ahead: batches to `launch` before the first of them is waited for.
    """

    device: str
    precision: str
    vocabulary_size: int
    max_length: int | None
    batch_tokens: int
    batch_bytes: int | None
    buckets: tuple[int, ...]
    ahead: int

    def encode(self, tokens: Sequence[Ids], max_active_dims: int | None) -> SparseBatch:
        """Encode texts given as token ids, none empty, in one forward pass.

        Raises:
            NonFiniteError: naming the row.
        """

    def launch(
        self, tokens: Sequence[Ids], max_active_dims: int | None
    ) -> Callable[[], SparseBatch]:
        """Start `encode`; the returned function waits and gives its result, or raises its
        error. On a GPU the host prepares the next batch meanwhile; on a CPU the work is done
        in the returned function."""
