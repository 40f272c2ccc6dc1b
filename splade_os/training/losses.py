"""Ranking losses on vectors. Each gives value and gradient of sentence-transformers' own.

``queries`` are ``(B, V)``; ``documents`` ``(K, B, V)``, column by column, the relevant one first;
scores are dot products.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from splade_os.training.recipe import LossPart
from splade_os.training.teacher_scores import TeacherScores


def pair_scores(queries: Tensor, documents: Tensor) -> Tensor:
    """Scores of each query with its own documents ``(B, K)``."""
    return torch.stack([(queries * column).sum(1) for column in documents], 1)


def batch_scores(queries: Tensor, documents: Tensor) -> Tensor:
    """Scores of each query with all documents of the batch ``(B, K · B)``, column by column."""
    return queries @ documents.flatten(0, 1).T


def info_nce(
    queries: Tensor, documents: Tensor, *, scale: float = 1.0, in_batch: bool = True
) -> Tensor:
    """Cross-entropy of the relevant document against all of the batch (or its own negatives).

    With ``in_batch`` it is sentence-transformers' SparseMultipleNegativesRankingLoss.
    """
    if in_batch:
        scores = batch_scores(queries, documents) * scale
        return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))
    scores = pair_scores(queries, documents) * scale
    return F.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.long))


def margin_mse(queries: Tensor, documents: Tensor, teacher: TeacherScores) -> Tensor:
    """Mean squared difference of margins, positive minus negative (arXiv 2010.02666;
    SparseMarginMSELoss)."""
    student = pair_scores(queries, documents)
    scores = teacher.of_own(len(documents))
    return F.mse_loss(student[:, :1] - student[:, 1:], scores[:, :1] - scores[:, 1:])


def kl_divergence(
    queries: Tensor,
    documents: Tensor,
    teacher: TeacherScores,
    *,
    temperature: float = 2.0,
    scale: float = 1.0,
) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)) (SparseDistillKLDivLoss).

    Args:
        scale: factor on the student's scores.
        teacher: the softmax is over what it scored: the whole batch, or own documents.
    """
    if teacher.kind == "whole":
        scores, target = batch_scores(queries, documents), teacher.of_batch(len(documents))
    else:
        scores, target = pair_scores(queries, documents), teacher.of_own(len(documents))
    student = torch.log_softmax(scale * scores / temperature, 1)
    target = torch.softmax(target / temperature, 1)
    return F.kl_div(student, target, reduction="batchmean") * temperature**2


def ranking_losses(
    parts: Sequence[LossPart], queries: Tensor, documents: Tensor, teacher: TeacherScores | None
) -> dict[str, Tensor]:
    """Each loss times its weight, by name; their sum is the ranking loss.

    Args:
        teacher: for margin-mse and kl.
    """
    values: dict[str, Tensor] = {}
    for part in parts:
        if part.kind == "infonce":
            value = info_nce(queries, documents, scale=part.scale, in_batch=part.in_batch)
        elif part.kind == "margin-mse":
            assert teacher is not None
            value = margin_mse(queries, documents, teacher)
        else:
            assert teacher is not None
            value = kl_divergence(
                queries, documents, teacher, temperature=part.temperature, scale=part.scale
            )
        name = part.kind.replace("-", "_")
        values[name] = values.get(name, 0) + part.weight * value
    return values
