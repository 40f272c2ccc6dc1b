"""What stands behind the pooling, in training: as `splade_os.encoding.stepped`, with gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from splade_os.training.query_table import HIGHEST, presence


class UnitLength(nn.Module):  # type: ignore[misc]
    """Every vector divided by its Euclidean length."""

    def forward(self, weights: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Weights ``(B, V)`` of texts whose padded ids are ``(B, L)``."""
        del input_ids, attention_mask
        return F.normalize(weights, dim=-1)


class OwnTerms(nn.Module):  # type: ignore[misc]
    """The tokens that stand in the text itself, each times its weight.

    Args:
        weights: ``(V,)``.
        trainable: whether they are learned.
    """

    def __init__(self, weights: Tensor, trainable: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(weights.clone().float(), requires_grad=trainable)

    def forward(self, weights: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Weights ``(B, V)`` of texts whose padded ids are ``(B, L)``."""
        return weights * presence(input_ids, attention_mask, len(self.weight)) * self.weight

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def clamp(self) -> None:
        """Bring the weights back to [0, 64]; a frozen table is left as it is."""
        if self.weight.requires_grad:
            self.weight.clamp_(0, HIGHEST)


Step = UnitLength | OwnTerms
