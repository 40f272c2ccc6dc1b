"""What a step shows of its vectors: logged beside the loss, and watched for collapse."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from splade_os.errors import TrainingError
from splade_os.training.distributed import mean_over_ranks

_PATIENCE = 20  # steps in a row
_EMPTY_ROWS, _FULL_PART, _SAME = 0.5, 0.9, 0.999


@dataclass(frozen=True)
class StepView:
    """Means over a step, all ranks.

    Attributes:
        query_frequency, document_frequency: part of texts that each term occurs in ``(V,)``.
        numbers: by name: active dimensions, empty rows, likeness of documents.
    """

    query_frequency: Tensor
    document_frequency: Tensor
    numbers: dict[str, Tensor]

    def logs(self) -> dict[str, Tensor]:
        """All numbers, with FLOPS: terms that a random query and a random document share."""
        return {
            **self.numbers,
            "flops": (self.query_frequency * self.document_frequency).sum(),
        }


@torch.no_grad()  # type: ignore[untyped-decorator]
def look_at(queries: Tensor, documents: Tensor) -> StepView:
    """Look at the vectors of a batch: queries ``(B, V)``, documents ``(N, V)``."""
    query_active, document_active = queries > 0, documents > 0
    mean = documents.mean(0)
    likeness = mean.square().sum() / documents.square().sum(1).mean().clamp_min(1e-12)
    numbers = torch.stack(
        [
            query_active.sum(1).float().mean(),
            document_active.sum(1).float().mean(),
            (~query_active.any(1)).float().mean(),
            (~document_active.any(1)).float().mean(),
            likeness,
        ]
    )
    names = ("query_dims", "document_dims", "dead_queries", "dead_documents", "likeness")
    return StepView(
        mean_over_ranks(query_active.float().mean(0)),
        mean_over_ranks(document_active.float().mean(0)),
        dict(zip(names, mean_over_ranks(numbers), strict=True)),
    )


class CollapseWatch:
    """Stops a run that cannot recover.

    Args:
        size: of the vocabulary.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen: deque[str | None] = deque(maxlen=_PATIENCE)

    def check(self, step: int, view: StepView, loss: float, warm: bool) -> None:
        """Look at one step.

        Args:
            warm: whether the regularisers have reached their full weight: before that, full vectors
                are how a model starts.

        Raises:
            TrainingError: saying what has happened, and what to change.
        """
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise TrainingError(
                f"The loss of step {step} is {loss}.",
                hint="Lower the learning rate; with fp16, take bf16 or no mixed precision.",
            )
        numbers = {name: float(value) for name, value in view.numbers.items()}
        sick = None
        if numbers["dead_documents"] > _EMPTY_ROWS:
            sick = f"{numbers['dead_documents']:.0%} of the documents have no term left"
        elif numbers["dead_queries"] > _EMPTY_ROWS:
            sick = f"{numbers['dead_queries']:.0%} of the queries have no term left"
        elif warm and numbers["document_dims"] > _FULL_PART * self._size:
            sick = f"documents have {numbers['document_dims']:.0f} of {self._size} terms"
        elif numbers["likeness"] > _SAME and numbers["document_dims"] > 0:
            sick = "all documents have the same vector"
        self._seen.append(sick)
        if len(self._seen) == _PATIENCE and all(self._seen):
            raise TrainingError(
                f"The model has collapsed: for {_PATIENCE} steps, at step {step}, {sick}.",
                hint="Empty vectors: lower the regulariser's weight or lengthen its warm-up. Full "
                "or equal ones: raise it, lower the learning rate, or take another base. The "
                "last checkpoint is kept.",
            )
