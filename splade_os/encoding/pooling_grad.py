"""The max-pooling head with a gradient, for training.

The forward pass keeps only the score and the position of the maximum, ``(B, V)`` each; logits of
``(B, L, V)`` are neither made nor kept for the backward pass, which sends ``g · f'(x)`` to the one
token where the maximum was (as autograd does for ``max``). f' is computed from the score itself:
``exp(-y)`` for y = log1p(x), ``exp(-y - expm1(y))`` for y = log1p(log1p(x)). Source: Sparton
(arXiv 2603.25011).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from splade_os.encoding.pooling import TILE, activation, pool

_CHUNK = 16_384  # maxima whose vectors are in memory at a time


def max_pool(
    hidden: Tensor,
    lengths: Sequence[int],
    weight: Tensor,
    bias: Tensor,
    activation_name: str = "relu",
    tile: int = TILE,
) -> Tensor:
    """Weights of each text, float32 ``(B, V)``, differentiable in hidden, weight and bias.

    Args:
        hidden: states of all tokens without padding ``(T, H)``, text after text.
        lengths: tokens of each text, each at least 1, with sum ``T``.
        weight: decoder ``(V, H)``; bias: ``(V,)``.
        activation_name: ``relu`` or ``log1p_relu``.
        tile: vocabulary entries at a time.
    """
    if not torch.is_grad_enabled():
        return pool(
            hidden, lengths, weight, bias, activation_name=activation_name, pooling="max", tile=tile
        )
    weights: Tensor = _MaxPool.apply(hidden, weight, bias, tuple(lengths), activation_name, tile)
    return weights


def leaky_max_pool(
    hidden: Tensor, lengths: Sequence[int], weight: Tensor, bias: Tensor, leak: float
) -> Tensor:
    """`max_pool` with ``relu`` whose gradient also reaches terms that do not fire.

    There the slope of log1p(relu(x)) is 0, and what does not fire could never learn to; it is taken
    as ``leak · exp(x)``. For a part of the vocabulary: the position of every maximum is kept.
    """
    weights: Tensor = _LeakyMaxPool.apply(hidden, weight, bias, tuple(lengths), leak)
    return weights


class _LeakyMaxPool(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        lengths: tuple[int, ...],
        leak: float,
    ) -> Tensor:
        best = torch.empty(len(lengths), len(weight), device=hidden.device)
        where = torch.empty(len(lengths), len(weight), dtype=torch.int32, device=hidden.device)
        first = 0
        for i, length in enumerate(lengths):
            logits = F.linear(hidden[first : first + length], weight)  # (L, C)
            best[i], position = logits.max(0)
            where[i] = position + first
            first += length
        best += bias
        ctx.save_for_backward(hidden, weight, best, where)
        ctx.leak = leak
        return activation("relu")(best)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, best, where = ctx.saved_tensors
        fires = 1 / (1 + best.clamp(min=0))
        learn = ctx.needs_input_grad[1]
        slope = torch.where(best > 0, fires, ctx.leak * torch.exp(best.clamp(max=0)))
        return (*_routed(gradients[0] * slope, where, hidden, weight, learn), None, None)


class _MaxPool(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        lengths: tuple[int, ...],
        activation_name: str,
        tile: int,
    ) -> Tensor:
        size = weight.shape[0]
        best = torch.empty(len(lengths), size, dtype=torch.float32, device=hidden.device)
        where = torch.zeros(len(lengths), size, dtype=torch.int32, device=hidden.device)
        bias = bias.float()
        for start in range(0, size, tile):
            stop = min(start + tile, size)
            logits = F.linear(hidden, weight[start:stop])  # (T, tile)
            parts = logits.split(lengths)
            for i, part in enumerate(parts):
                best[i, start:stop] = part.amax(0)
            # amax is many times faster than max with positions, which only few entries need
            active = best[:, start:stop] + bias[start:stop] > 0  # (B, tile)
            first = 0
            for i, part in enumerate(parts):
                entries = active[i].nonzero()[:, 0]
                if len(entries):
                    where[i, start + entries] = (part[:, entries].argmax(0) + first).int()
                first += len(part)
        scores = activation(activation_name)(best + bias)
        ctx.save_for_backward(hidden, weight, scores, where)
        ctx.activation_name = activation_name
        return scores

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, scores, where = ctx.saved_tensors
        if ctx.activation_name == "relu":
            slope = torch.exp(-scores)
        else:
            slope = torch.exp(-scores - torch.expm1(scores))
        flow = gradients[0] * slope * (scores > 0)  # (B, V)
        learn = ctx.needs_input_grad[1]
        return (*_routed(flow, where, hidden, weight, learn), None, None, None)


def _routed(
    flow: Tensor, where: Tensor, hidden: Tensor, weight: Tensor, learn: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Gradients of hidden, weight (``None`` unless ``learn``) and bias from that of the maxima
    ``(B, V)``."""
    texts, entries = flow.nonzero(as_tuple=True)
    tokens = where[texts, entries].long()
    amounts = flow[texts, entries]
    to_hidden = torch.zeros_like(hidden, dtype=torch.float32)
    to_weight = torch.zeros_like(weight, dtype=torch.float32) if learn else None
    for start in range(0, len(amounts), _CHUNK):
        part = slice(start, start + _CHUNK)
        g, t, v = amounts[part, None], tokens[part], entries[part]
        to_hidden.index_add_(0, t, g * weight[v].float())
        if to_weight is not None:
            to_weight.index_add_(0, v, g * hidden[t].float())
    if to_weight is not None:
        to_weight = to_weight.to(weight.dtype)
    return to_hidden.to(hidden.dtype), to_weight, flow.sum(0)
