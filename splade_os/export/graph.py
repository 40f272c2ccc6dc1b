"""The document side as one torch module, ids in and weights out, that can be traced."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from splade_os.encoding.pooling import activation
from splade_os.encoding.transformer import SpladeTransformer

TILE = 4096


def graph_of(transformer: SpladeTransformer) -> nn.Module:
    """``(input_ids, attention_mask)`` ``(B, L)`` → weights ``(B, V)``; the maximum is taken tile by
    tile of the vocabulary."""
    return _Graph(transformer).eval()


class _Graph(nn.Module):  # type: ignore[misc]
    def __init__(self, transformer: SpladeTransformer) -> None:
        super().__init__()
        weight, bias = transformer.weight, transformer.bias
        assert transformer.part.activation is not None
        self.body = transformer.model
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(len(weight)) if bias is None else bias)
        self.pooling = transformer.part.pooling
        self.apply_activation = activation(transformer.part.activation)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).logits
        real = attention_mask[:, :, None].to(hidden.dtype)  # (B, L, 1)
        apply, size = self.apply_activation, len(self.weight)
        tiles = []
        for start in range(0, size, TILE):
            stop = min(start + TILE, size)
            logits = nn.functional.linear(hidden, self.weight[start:stop])  # (B, L, tile)
            if self.pooling == "max":
                tiles.append((logits + (1 - real) * -1e9).amax(1))
            else:
                tiles.append((apply(logits + self.bias[start:stop]) * real).sum(1))
        whole = torch.cat(tiles, 1)  # (B, V)
        return whole if self.pooling == "sum" else apply(whole + self.bias)
