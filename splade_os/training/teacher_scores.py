"""What a teacher said of a batch, and of which documents it said it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from splade_os.errors import TrainingError
from splade_os.training.distributed import gather

ScoresKind = Literal["own", "margins", "whole"]


@dataclass(frozen=True)
class TeacherScores:
    """Scores of B queries, each with K documents of its own, the relevant one first.

    Attributes:
        kind: ``own``: of each query's own documents. ``margins``: of its relevant document above
            each of its negatives. ``whole``: of all documents of the batch, column by column.
        values: ``(B, K)``, ``(B, K - 1)`` or ``(B, K · B)``.
    """

    kind: ScoresKind
    values: Tensor

    def to(self, device: torch.device) -> TeacherScores:
        """The same on a device."""
        return replace(self, values=self.values.to(device))

    def pin_memory(self) -> TeacherScores:
        """Called by torch's DataLoader."""
        return replace(self, values=self.values.pin_memory())

    def gathered(self) -> TeacherScores:
        """Of the queries of all ranks (``own`` and ``margins``, which do not cross ranks)."""
        return replace(self, values=gather(self.values))

    def of_own(self, columns: int) -> Tensor:
        """Scores of each query's own documents ``(B, K)``, up to a constant for each query.

        Margins leave that constant open; differences and softmax do not see it.
        """
        self._check(columns)
        if self.kind == "margins":
            return torch.cat([self.values.new_zeros(len(self.values), 1), -self.values], 1)
        if self.kind == "own":
            return self.values
        blocks = self.values.view(len(self.values), columns, -1)  # (B, K, B)
        return torch.diagonal(blocks, dim1=0, dim2=2).T

    def of_batch(self, columns: int) -> Tensor:
        """(``whole``) scores of all documents ``(B, K · B)``."""
        self._check(columns)
        return self.values

    def _check(self, columns: int) -> None:
        batch = len(self.values)
        wanted = {"own": columns, "margins": columns - 1, "whole": columns * batch}[self.kind]
        if tuple(self.values.shape) != (batch, wanted):
            raise TrainingError(
                f"A teacher gave scores of shape {tuple(self.values.shape)} and kind {self.kind} "
                f"for {batch} queries with {columns} documents each: ({batch}, {wanted}) is wanted."
            )
