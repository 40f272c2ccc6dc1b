"""The inference-free query side in training: presence of each token times its weight.

As sentence-transformers' SparseStaticEmbedding: a token counts once, however often it occurs.
Special and unknown tokens have no weight and get none. Weights stay in (0, 64], which is what
Lucene's FeatureField takes.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

LOWEST, HIGHEST = 1e-3, 64.0


def presence(input_ids: Tensor, attention_mask: Tensor, size: int) -> Tensor:
    """1 where a token stands in a text, else 0: ``(B, V)`` of padded ids ``(B, L)``.

    Args:
        size: V.
    """
    ids = input_ids.masked_fill(attention_mask == 0, size)
    found = torch.zeros(len(ids), size + 1, device=ids.device)
    return found.scatter_(1, ids, 1.0)[:, :size]


class QueryTable(nn.Module):  # type: ignore[misc]
    """Base of both kinds. ``needs_embeddings``: `forward` takes the word embeddings."""

    needs_embeddings = False

    def __init__(self, special_ids: Collection[int], size: int) -> None:
        super().__init__()
        kept = torch.ones(size)
        kept[list(special_ids)] = 0
        self.register_buffer("kept", kept, persistent=False)

    def table(self, embeddings: Tensor | None = None) -> Tensor:
        """Weight of every token ``(V,)``."""
        raise NotImplementedError

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, embeddings: Tensor | None = None
    ) -> Tensor:
        """Weights ``(B, V)`` of padded ids ``(B, L)``."""
        table = self.table(embeddings)
        return presence(input_ids, attention_mask, len(table)) * table

    def clamp(self) -> None:
        """Bring the weights back into (0, 64]."""


class StaticTable(QueryTable):
    """One free parameter per token.

    Args:
        weights: start ``(V,)``.
        trainable: whether they are learned.
    """

    def __init__(self, weights: Tensor, special_ids: Collection[int], trainable: bool) -> None:
        super().__init__(special_ids, len(weights))
        self.weight = nn.Parameter(weights.clone().float(), requires_grad=trainable)

    def table(self, embeddings: Tensor | None = None) -> Tensor:
        """Weight of every token ``(V,)``."""
        del embeddings
        return self.weight * self.kept

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def clamp(self) -> None:
        """Bring the weights back into (0, 64]; a frozen table is left as it is."""
        if self.weight.requires_grad:
            self.weight.clamp_(LOWEST, HIGHEST)


class LinearTable(QueryTable):
    """Li-LSR (arXiv 2505.01452): ``s_i = log(1 + relu(w · E(x_i) + b))``, E the word embeddings.

    The gradient goes to w and b only. It starts at the ridge regression of ``exp(weights) - 1``
    on the embeddings, so that the first table is near the given one.

    Args:
        weights: table to start near ``(V,)``.
        embeddings: ``(V, H)``.
    """

    needs_embeddings = True

    def __init__(
        self, weights: Tensor, embeddings: Tensor, special_ids: Collection[int], ridge: float = 1.0
    ) -> None:
        super().__init__(special_ids, len(weights))
        self.linear = nn.Linear(embeddings.shape[1], 1)
        with torch.no_grad():
            kept = self.kept.bool() & (weights > 0)
            x = embeddings.detach().double()[kept]
            y = torch.expm1(weights.double().clamp(max=8.0))[kept]
            mean_x, mean_y = x.mean(0), y.mean()
            x = x - mean_x
            gram = x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype)
            w = torch.linalg.solve(gram, x.T @ (y - mean_y))
            self.linear.weight.copy_(w[None])
            self.linear.bias.copy_((mean_y - mean_x @ w)[None])

    def table(self, embeddings: Tensor | None = None) -> Tensor:
        """Weight of every token ``(V,)``."""
        assert embeddings is not None
        scores = self.linear(embeddings.detach())[:, 0]
        return torch.log1p(torch.relu(scores)) * self.kept
