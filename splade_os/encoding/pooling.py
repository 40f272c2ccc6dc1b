"""The SPLADE head: hidden states → one weight per vocabulary entry.

    w_j = max_i f(h_i · E_j + b_j),   f = log1p(relu(x)) or log1p(log1p(relu(x)))

f is monotone, so ``max_i f(x_i) = f(max_i x_i)``: the maximum is taken on raw logits, tile by
tile of the vocabulary, the bias is added after it, and f touches only ``(B, V)``. Logits of
``(B, L, V)`` never exist. Source: SPLADE v2 (arXiv 2109.10086, eq. 6) and, for the
reduction on tiles, Sparton (arXiv 2603.25011). ``sum`` pooling (SPLADE v1) is no such case:
there f is applied to each tile before the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

TILE = 2048
"""Vocabulary entries per tile: on CPU 512 to 4096 are equally fast, 8192 is slower."""
PADDED_TILE = 4096
"""The same on a GPU: a product large enough to fill it, and logits of some 500 MB."""


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """``relu`` → log1p(relu(x)); ``log1p_relu`` → log1p(log1p(relu(x)))."""
    if name == "relu":
        return lambda x: torch.log1p(torch.relu(x))
    if name == "log1p_relu":
        return lambda x: torch.log1p(torch.log1p(torch.relu(x)))
    raise ValueError(f"unknown activation {name!r}")


def pool(
    hidden: Tensor,
    lengths: Sequence[int],
    weight: Tensor,
    bias: Tensor | None,
    *,
    activation_name: str,
    pooling: str,
    tile: int = TILE,
) -> Tensor:
    """Weights of each text.

    Args:
        hidden: states of all tokens without padding ``(T, H)``, text after text.
        lengths: tokens of each text, ``B`` numbers with sum ``T``.
        weight: decoder ``(V, H)``; bias: ``(V,)`` or ``None``.
        activation_name: ``relu`` or ``log1p_relu``.
        pooling: ``max`` or ``sum``.
        tile: vocabulary entries at a time.

    Returns:
        float32 ``(B, V)``, >= 0.
    """
    apply = activation(activation_name)
    size = weight.shape[0]
    out = torch.zeros(len(lengths), size, dtype=torch.float32, device=hidden.device)
    for start in range(0, size, tile):
        stop = min(start + tile, size)
        if pooling == "max":
            logits = F.linear(hidden, weight[start:stop])  # (T, tile)
        else:
            part = None if bias is None else bias[start:stop].to(weight.dtype)
            logits = apply(F.linear(hidden, weight[start:stop], part).float())
        first = 0
        for i, length in enumerate(lengths):
            rows = logits[first : first + length]
            out[i, start:stop] = rows.amax(0) if pooling == "max" else rows.sum(0)
            first += length
    if pooling == "max":
        if bias is not None:
            out += bias.float()
        out = apply(out)
    return out


def pool_padded(
    hidden: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    activation_name: str,
    pooling: str,
    tile: int = PADDED_TILE,
) -> Tensor:
    """`pool` for a GPU: few large operations, no wait for the host, any shape known beforehand.

    Every padded place gets the states of its text's first token, which no maximum notices, so
    that logits are written once and read once, without a mask.

    Args:
        hidden: states ``(B, L, H)``; the first place of each row is real.
        mask: real places, bool ``(B, L)``.
        weight, bias, activation_name, pooling, tile: see `pool`.

    Returns:
        float32 ``(B, V)``, >= 0.
    """
    apply = activation(activation_name)
    real = mask[:, :, None]  # (B, L, 1)
    if pooling == "max":
        hidden = torch.where(real, hidden, hidden[:, :1])
    tiles = []
    for start in range(0, weight.shape[0], tile):
        part = weight[start : start + tile]
        if pooling == "max":
            tiles.append(F.linear(hidden, part).amax(1).float())  # (B, tile)
        else:
            shift = None if bias is None else bias[start : start + tile].to(weight.dtype)
            tiles.append((apply(F.linear(hidden, part, shift).float()) * real).sum(1))
    out = torch.cat(tiles, 1)
    if pooling == "max":
        if bias is not None:
            out += bias.float()
        out = apply(out)
    return out
