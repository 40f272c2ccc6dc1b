"""Gradient caching (arXiv 2101.06983): a batch larger than memory, with its exact gradient.

Vectors are computed without a graph, as many texts as fit at a time; the loss of the whole batch
gives the gradient of every vector; then each part is computed again with a graph, which takes that
gradient up. Dropout draws the same numbers both times.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splade_os.training.batches import trim
from splade_os.training.model import SpladeModel

RandomState = tuple[Tensor, list[Tensor]]


def random_state() -> RandomState:
    """Of torch, on the CPU and every GPU."""
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if _cuda() else []


def set_random_state(state: RandomState) -> None:
    """Go back to a state."""
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


def _cuda() -> bool:
    return bool(torch.cuda.is_available() and torch.cuda.is_initialized())


def cached_backward(
    model: SpladeModel,
    queries: dict[str, Any],
    documents: dict[str, Any],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    texts: int,
    context: Callable[[], AbstractContextManager[Any]],
    scale: float,
) -> Tensor:
    """Gradient of ``loss_of(queries, documents)`` into the weights; returns the loss.

    Args:
        model: without a wrapper.
        texts: at a time. Texts of like length are put together.
        context: mixed precision.
        scale: factor on the gradient.
    """
    sides: list[tuple[Callable[[dict[str, Any]], Tensor], dict[str, Any], Any]] = [
        (model.encode_queries, queries, _chunks(queries, texts)),
        (model.encode_documents, documents, _chunks(documents, texts)),
    ]
    vectors: list[Tensor] = []
    states: list[list[RandomState]] = []
    with torch.no_grad():
        for encode, features, chunks in sides:
            whole: Tensor | None = None
            states.append([])
            for rows in chunks:
                states[-1].append(random_state())
                with context():
                    part = encode(trim(features, rows)).float()
                if whole is None:
                    whole = part.new_empty(len(features["lengths"]), part.shape[1])
                whole[torch.from_numpy(rows).to(whole.device)] = part
            assert whole is not None
            vectors.append(whole.requires_grad_())
    after = random_state()
    loss = loss_of(*vectors)
    (loss * scale).backward()
    for (encode, features, chunks), whole, drawn in zip(sides, vectors, states, strict=True):
        if whole.grad is None:
            continue
        for rows, state in zip(chunks, drawn, strict=True):
            set_random_state(state)
            with context():
                part = encode(trim(features, rows)).float()
            if part.requires_grad:  # a frozen table has nothing to learn
                gradient = whole.grad[torch.from_numpy(rows).to(whole.device)]
                part.backward(gradient)
    set_random_state(after)
    return loss.detach()


def _chunks(features: dict[str, Any], texts: int) -> list[np.ndarray[Any, Any]]:
    """Row numbers, texts of like length together."""
    order = np.argsort(features["lengths"], kind="stable")
    return [order[start : start + texts] for start in range(0, len(order), texts)]
