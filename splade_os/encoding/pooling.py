"""The SPLADE head: hidden states → one weight per vocabulary entry.

    w_j = max_i f(h_i · E_j + b_j),   f = log1p(relu(x)) or log1p(log1p(relu(x)))

f is monotone, so ``max_i f(x_i) = f(max_i x_i)``: the maximum is taken on raw logits, tile by
tile of the vocabulary, the bias is added after it, and f touches only ``(B, V)``. Logits of
``(B, L, V)`` never exist. Source: SPLADE v2 (arXiv 2109.10086, eq. 6) and, for the
reduction on tiles, Sparton (arXiv 2603.25011). ``sum`` pooling (SPLADE v1) is no such case:
there f is applied to each tile before the sum.

One head for CPU, GPU, export and training (`splade_os.encoding.pooling_grad` is its gradient): a
fixed number of operations whatever the number of texts, and no wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

TILE = 2048
"""Vocabulary entries per tile on a CPU, where 512 to 4096 are equally fast and 8192 is slower."""
_GPU_TILE = 4096  # a product large enough to fill a GPU
_TILE_BYTES = 512 << 20  # most that the logits of one tile may take


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """``relu`` → log1p(relu(x)); ``log1p_relu`` → log1p(log1p(relu(x)))."""
    if name == "relu":
        return lambda x: torch.log1p(torch.relu(x))
    if name == "log1p_relu":
        return lambda x: torch.log1p(torch.log1p(torch.relu(x)))
    raise ValueError(f"unknown activation {name!r}")


def pool(
    hidden: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    activation_name: str,
    pooling: str,
    tile: int | None = None,
) -> Tensor:
    """Weights of each text.

    Args:
        hidden: states ``(B, L, H)``; what stands in padded places does not matter.
        mask: real places, bool ``(B, L)``; the first place of each row is real.
        weight: decoder ``(V, H)``; bias: ``(V,)`` or ``None``.
        activation_name: ``relu`` or ``log1p_relu``.
        pooling: ``max`` or ``sum``.
        tile: vocabulary entries at a time; ``None`` = what suits the device.

    Returns:
        float32 ``(B, V)``, >= 0.
    """
    apply = activation(activation_name)
    size = weight.shape[0]
    out = torch.empty(hidden.shape[0], size, dtype=torch.float32, device=hidden.device)
    for start, part in pooled_tiles(hidden, mask, weight, bias, apply, pooling, tile):
        out[:, start : start + part.shape[1]] = part
    return finish(out, bias, apply, pooling)


def pool_logits(logits: Tensor, mask: Tensor, *, activation_name: str, pooling: str) -> Tensor:
    """As `pool`, of a head that cannot be taken apart: from its logits ``(B, L, V)``."""
    apply = activation(activation_name)
    if pooling == "max":
        return apply(repeat_first(logits, mask).amax(1).float())
    return (apply(logits.float()) * mask[:, :, None]).sum(1)


def pooled_tiles(
    hidden: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    apply: Callable[[Tensor], Tensor],
    pooling: str,
    tile: int | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """First entry and pooled values ``(B, tile)`` of each tile; arguments as those of `pool`.
    With ``max`` they are logits without bias, which `finish` makes weights of."""
    if pooling == "max":
        hidden = repeat_first(hidden, mask)
    real = mask[:, :, None]
    for start, stop in tiles(hidden, weight, pooling, tile):
        if pooling == "max":
            yield start, F.linear(hidden, weight[start:stop]).amax(1)
        else:
            shift = None if bias is None else bias[start:stop].to(weight.dtype)
            logits = F.linear(hidden, weight[start:stop], shift).float()  # (B, L, tile)
            yield start, (apply(logits) * real).sum(1)


def finish(
    pooled: Tensor, bias: Tensor | None, apply: Callable[[Tensor], Tensor], pooling: str
) -> Tensor:
    """What all tiles gave ``(B, V)`` → weights."""
    if pooling == "sum":
        return pooled
    return apply(pooled if bias is None else pooled + bias.float())


def repeat_first(hidden: Tensor, mask: Tensor) -> Tensor:
    """The states of a text's first token in every padded place: no maximum notices them, so that
    logits are written once and read once, without a mask."""
    return torch.where(mask[:, :, None], hidden, hidden[:, :1])


def tiles(
    hidden: Tensor, weight: Tensor, pooling: str, tile: int | None = None
) -> Iterator[tuple[int, int]]:
    """First entry and end of each tile of the vocabulary.

    Args:
        hidden: states ``(B, L, H)``; on a GPU their number bounds the tile.
        weight: decoder ``(V, H)``.
    """
    if tile is None:
        tile = TILE
        if hidden.is_cuda:
            bytes_each = hidden.element_size() if pooling == "max" else 12  # three of float32
            fitting = _TILE_BYTES // (hidden.shape[0] * hidden.shape[1] * bytes_each)
            tile = max(256, min(_GPU_TILE, fitting // 256 * 256))
    for start in range(0, weight.shape[0], tile):
        yield start, min(start + tile, weight.shape[0])
