"""Gradient caching (arXiv 2101.06983): a batch larger than memory, with its exact gradient.

Vectors are computed without a graph, as many texts as fit at a time; the loss of the whole batch
gives the gradient of every vector; then each part is computed again with a graph, which takes that
gradient up. Dropout draws the same numbers both times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splade_os.training.batches import trim
from splade_os.training.model import Features

RandomState = tuple[Tensor, Tensor | None]


def random_state(device: torch.device) -> RandomState:
    """Of torch on the CPU, and on a GPU."""
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_gpu


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Go back to a state."""
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)


@dataclass(frozen=True)
class _Chunk:
    """Rows of a batch that are computed together, and the random numbers they are computed with."""

    rows: Tensor
    features: Features
    state: RandomState


class CachedSide:
    """One side of a batch, computed in parts: the first pass when it is made.

    Args:
        encode: features of some texts → their vectors.
        features: of all N texts, where the data loader left them.
        texts: at a time. Texts of like length are put together.
        prepare: brings features to the device.

    Attributes:
        vectors: ``(N, V)`` float32; a leaf, whose gradient `backward` takes.
    """

    def __init__(
        self,
        encode: Callable[[Features], Tensor],
        features: Features,
        texts: int,
        prepare: Callable[[Features], Features],
    ) -> None:
        self._encode, self._chunks = encode, list[_Chunk]()
        whole: Tensor | None = None
        lengths = features["attention_mask"].sum(1).cpu().numpy()
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), texts):
            rows = order[start : start + texts]
            part = prepare(trim(features, rows))
            device = part["input_ids"].device
            chunk = _Chunk(torch.from_numpy(rows).to(device), part, random_state(device))
            with torch.no_grad():
                vectors = encode(part).float()
            if whole is None:
                whole = vectors.new_empty(len(order), vectors.shape[1])
            whole[chunk.rows] = vectors
            self._chunks.append(chunk)
        assert whole is not None
        self.vectors = whole.requires_grad_()

    def backward(self) -> None:
        """The second pass: from the gradient of the vectors to that of the weights."""
        gradient = self.vectors.grad
        if gradient is None:
            return
        after = random_state(gradient.device)
        for chunk in self._chunks:
            set_random_state(chunk.state, gradient.device)
            part = self._encode(chunk.features).float()
            if part.requires_grad:  # a frozen table has nothing to learn
                part.backward(gradient[chunk.rows])
        set_random_state(after, gradient.device)


class CachedBatch:
    """Both sides of a batch after the first pass.

    Args:
        model: called with features of ``queries`` or ``documents``, gives both sides' vectors.
        batch: of the `Collator`.
        texts, prepare: see `CachedSide`.
    """

    def __init__(
        self,
        model: Callable[..., tuple[Any, Any]],
        batch: dict[str, Any],
        texts: int,
        prepare: Callable[[Features], Features],
    ) -> None:
        def encode_queries(features: Features) -> Tensor:
            vectors: Tensor = model(queries=features)[0]
            return vectors

        def encode_documents(features: Features) -> Tensor:
            vectors: Tensor = model(documents=features)[1]
            return vectors

        self._queries = CachedSide(encode_queries, batch["queries"], texts, prepare)
        self._documents = CachedSide(encode_documents, batch["documents"], texts, prepare)
        self.batch = batch

    @property
    def vectors(self) -> tuple[Tensor, Tensor]:
        """Queries ``(B, V)`` and documents ``(K · B, V)``."""
        return self._queries.vectors, self._documents.vectors

    def backward(
        self, loss_of: Callable[..., Tensor], run_backward: Callable[[Tensor], None]
    ) -> Tensor:
        """Gradient of ``loss_of(queries, documents, batch)`` into the weights; returns the loss.

        Args:
            run_backward: backward pass of a loss, scaled as those of other batches are.
        """
        loss = loss_of(*self.vectors, self.batch)
        run_backward(loss)
        for side in (self._queries, self._documents):
            side.backward()
        return loss.detach()
