"""The pooling head with a gradient, for training.

Logits of ``(B, L, V)`` are neither made nor kept for the backward pass. With ``max`` the forward
pass keeps the maximum and its position, ``(B, V)`` each, and the backward pass sends
``g · f'(x)`` to the one token where the maximum was (as autograd does for ``max``); with ``sum`` it
computes each tile's logits again. Source: Sparton (arXiv 2603.25011).

On a GPU, where a number that the host waits for costs more than products with zeros, everything
has a shape that is known beforehand; on a CPU only entries that are above zero are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from splade_os.encoding.pooling import activation, pool, repeat_first, tiles

_CHUNK = 16_384  # maxima whose vectors are in memory at a time


def pool_with_gradient(
    hidden: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    activation_name: str = "relu",
    pooling: str = "max",
    leak: float = 0.0,
    tile: int | None = None,
    fixed_shapes: bool | None = None,
) -> Tensor:
    """`pool`, differentiable in hidden, weight and bias.

    Args:
        hidden, mask, weight, bias, activation_name, pooling, tile: see `pool`.
        leak: (``max``) slope below zero as a part of ``exp(x)``, so that terms that do not fire
            can learn to; 0 = the exact gradient.
        fixed_shapes: never ask the device for a number; default on a GPU.

    Returns:
        float32 ``(B, V)``, >= 0.
    """
    if not torch.is_grad_enabled():
        return pool(
            hidden, mask, weight, bias, activation_name=activation_name, pooling=pooling, tile=tile
        )
    fixed = hidden.is_cuda if fixed_shapes is None else fixed_shapes
    if pooling == "sum":
        summed: Tensor = _SumPool.apply(hidden, mask, weight, bias, activation_name, tile)
        return summed
    weights: Tensor = _MaxPool.apply(hidden, mask, weight, bias, activation_name, leak, tile, fixed)
    return weights


class _MaxPool(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        mask: Tensor,
        weight: Tensor,
        bias: Tensor,
        activation_name: str,
        leak: float,
        tile: int | None,
        fixed: bool,
    ) -> Tensor:
        shape = hidden.shape[0], weight.shape[0]
        best = torch.empty(shape, dtype=torch.float32, device=hidden.device)
        where = torch.zeros(shape, dtype=torch.int32, device=hidden.device)
        repeated = repeat_first(hidden, mask)
        shift = bias.detach().float()
        ctx.dtype = weight.dtype
        for start, stop in tiles(hidden, weight, "max", tile):
            logits = F.linear(repeated, weight[start:stop])  # (B, L, tile)
            ctx.dtype = logits.dtype  # that of autocast, if it is on
            if fixed or leak:
                best[:, start:stop], where[:, start:stop] = logits.max(1)
                continue
            # amax is many times faster on a CPU than max with positions, which few entries need
            peaks = logits.amax(1)
            best[:, start:stop] = peaks
            texts, entries = (peaks + shift[start:stop] > 0).nonzero(as_tuple=True)
            where[texts, entries + start] = logits[texts, :, entries].argmax(1).int()
        best += shift
        # a maximum found in padding is that of the first token, which stands there as well
        where *= mask.gather(1, where.long())
        ctx.save_for_backward(hidden, weight, best, where)
        ctx.activation_name, ctx.leak, ctx.tile, ctx.fixed = activation_name, leak, tile, fixed
        return activation(activation_name)(best)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, best, where = ctx.saved_tensors
        flow = gradients[0] * _slope(best, ctx.activation_name, ctx.leak)  # (B, V)
        _, learn_weight, _ = learn = [ctx.needs_input_grad[i] for i in (0, 2, 3)]
        if ctx.fixed:
            parts = _scattered(flow, where, hidden, weight, ctx.tile)
            found = _products(parts, hidden, weight, ctx.dtype, learn_weight)
        else:
            found = _routed(flow, where, hidden, weight, learn_weight)
        to_bias = flow.sum(0) if learn[2] else None
        return (found[0], None, found[1], to_bias, None, None, None, None)


class _SumPool(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        mask: Tensor,
        weight: Tensor,
        bias: Tensor,
        activation_name: str,
        tile: int | None,
    ) -> Tensor:
        ctx.save_for_backward(hidden, mask, weight, bias)
        ctx.activation_name, ctx.tile = activation_name, tile
        ctx.autocast = torch.is_autocast_enabled(hidden.device.type)
        ctx.dtype = torch.get_autocast_dtype(hidden.device.type) if ctx.autocast else weight.dtype
        return pool(
            hidden, mask, weight, bias, activation_name=activation_name, pooling="sum", tile=tile
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, mask, weight, bias = ctx.saved_tensors
        states, real = hidden.to(ctx.dtype), mask[:, :, None]
        to_bias = torch.zeros_like(bias)

        def parts() -> Iterator[tuple[int, int, Tensor]]:
            for start, stop in tiles(hidden, weight, "sum", ctx.tile):
                part = weight[start:stop].to(ctx.dtype)
                logits = F.linear(states, part, bias[start:stop].to(ctx.dtype)).float()
                slope = _slope(logits, ctx.activation_name) * real
                flow = gradients[0][:, None, start:stop] * slope  # (B, L, tile)
                to_bias[start:stop] = flow.sum((0, 1))
                yield start, stop, flow

        to_hidden, to_weight = _products(
            parts(), hidden, weight, ctx.dtype, ctx.needs_input_grad[2]
        )
        return (to_hidden, None, to_weight, to_bias, None, None)


def _slope(logits: Tensor, activation_name: str, leak: float = 0.0) -> Tensor:
    """f'(x) of any shape."""
    above = logits.clamp(min=0)
    slope = 1 / (1 + above)
    if activation_name == "log1p_relu":
        slope = slope / (1 + torch.log1p(above))
    if leak:
        return torch.where(logits > 0, slope, leak * torch.exp(logits.clamp(max=0)))
    return slope * (logits > 0)


def _scattered(
    flow: Tensor, where: Tensor, hidden: Tensor, weight: Tensor, tile: int | None
) -> Iterator[tuple[int, int, Tensor]]:
    """The gradient of the maxima ``(B, V)`` as one of logits, ``(B, L, tile)`` at a time."""
    for start, stop in tiles(hidden, weight, "sum", tile):
        part = torch.zeros(*hidden.shape[:2], stop - start, device=flow.device)
        part.scatter_(1, where[:, None, start:stop].long(), flow[:, None, start:stop])
        yield start, stop, part


def _products(
    parts: Iterator[tuple[int, int, Tensor]],
    hidden: Tensor,
    weight: Tensor,
    dtype: torch.dtype,
    learn: bool,
) -> tuple[Tensor, Tensor | None]:
    """Gradients of hidden and weight (``None`` unless ``learn``) from those of the logits."""
    flat = hidden.reshape(-1, hidden.shape[-1]).to(dtype)  # (T, H)
    to_hidden = torch.zeros(flat.shape, dtype=torch.float32, device=flat.device)
    to_weight = torch.empty_like(weight) if learn else None
    for start, stop, flow in parts:
        part = flow.reshape(len(flat), -1).to(dtype)  # (T, tile)
        to_hidden += part @ weight[start:stop].to(dtype)
        if to_weight is not None:
            to_weight[start:stop] = part.T @ flat
    return to_hidden.view(hidden.shape).to(hidden.dtype), to_weight


def _routed(
    flow: Tensor, where: Tensor, hidden: Tensor, weight: Tensor, learn: bool
) -> tuple[Tensor, Tensor | None]:
    """The same as `_products` of `_scattered`, entry by entry of what is not zero."""
    texts, entries = flow.nonzero(as_tuple=True)
    tokens = texts * hidden.shape[1] + where[texts, entries]
    amounts = flow[texts, entries]
    flat = hidden.reshape(-1, hidden.shape[-1])
    to_hidden = torch.zeros(flat.shape, dtype=torch.float32, device=flat.device)
    to_weight = torch.zeros_like(weight, dtype=torch.float32) if learn else None
    for start in range(0, len(amounts), _CHUNK):
        part = slice(start, start + _CHUNK)
        g, t, v = amounts[part, None], tokens[part], entries[part]
        to_hidden.index_add_(0, t, g * weight[v].float())
        if to_weight is not None:
            to_weight.index_add_(0, v, g * flat[t].float())
    if to_weight is not None:
        to_weight = to_weight.to(weight.dtype)
    return to_hidden.view(hidden.shape).to(hidden.dtype), to_weight
