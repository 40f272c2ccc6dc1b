"""The document side as one torch module, ids in and weights out, that can be traced."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from splade_os.encoding.architecture import require_decoder
from splade_os.encoding.pooling import activation, finish, pooled_tiles
from splade_os.encoding.transformer import SpladeTransformer

TILE = 4096


def graph_of(transformer: SpladeTransformer) -> nn.Module:
    """``(input_ids, attention_mask)`` ``(B, L)`` → weights ``(B, V)``; the maximum is taken tile by
    tile of the vocabulary.

    Raises:
        ModelError: the head cannot be taken apart.
    """
    family = transformer.part.family
    require_decoder(transformer.architecture, family, "An exported graph")
    return _Graph(transformer).eval()


class _Graph(nn.Module):  # type: ignore[misc]
    def __init__(self, transformer: SpladeTransformer) -> None:
        super().__init__()
        weight, bias = transformer.weight, transformer.bias
        assert transformer.part.activation is not None and transformer.part.pooling is not None
        self.body = transformer.model
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(len(weight)) if bias is None else bias)
        self.pooling = transformer.part.pooling
        self.apply_activation = activation(transformer.part.activation)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).logits
        apply, pooling = self.apply_activation, self.pooling
        pooled = pooled_tiles(
            hidden, attention_mask > 0, self.weight, self.bias, apply, pooling, TILE
        )
        whole = torch.cat([part for _, part in pooled], 1)  # (B, V)
        return finish(whole, self.bias, apply, pooling)
