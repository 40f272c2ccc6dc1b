"""A model that is not loaded: for documents that bring their vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import orjson

from splade_os.errors import ModelError
from splade_os.vectors import Ids, SparseBatch


class Unloaded:
    """A `Backend` that knows its vocabulary and encodes nothing.

    Args:
        folder: of the transformer.

    Raises:
        ModelError: its configuration does not say how large the vocabulary is.
    """

    device, precision = "none", "none"
    max_length: int | None = None
    batch_tokens = 1024
    batch_bytes: int | None = None
    buckets: tuple[int, ...] = ()
    ahead = 1

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            config = orjson.loads((folder / "config.json").read_bytes())
            self.vocabulary_size = int(config["vocab_size"])
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{folder} does not say how large its vocabulary is: {error}"
            ) from None

    def encode(self, tokens: Sequence[Ids], max_active_dims: int | None) -> SparseBatch:
        raise ModelError(
            f"The model {self._folder} is not loaded, so it encodes nothing.",
            hint="Load it with the backend auto, torch or onnx.",
        )

    def launch(
        self, tokens: Sequence[Ids], max_active_dims: int | None
    ) -> Callable[[], SparseBatch]:
        return lambda: self.encode(tokens, max_active_dims)
