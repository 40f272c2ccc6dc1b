"""What losses need of the data: a run that could not learn is refused before its first step."""

from __future__ import annotations

from collections.abc import Sequence

from splade_os.errors import SettingsError
from splade_os.training.data import Rows
from splade_os.training.recipe import LossPart
from splade_os.training.teacher_scores import ScoresKind

_NEGATIVES = (
    "Name a column of negatives, e.g. --set 'data.documents=[positive, negatives]' (splade-os mine "
    "finds some), or take a loss of kind infonce."
)


def check_losses(
    losses: Sequence[LossPart], rows: Rows, batch: int, teacher: ScoresKind | None
) -> None:
    """Every loss has what it compares.

    Args:
        batch: rows of a batch, of all ranks.
        teacher: kind of what an online teacher says; ``None``: there is no such teacher.

    Raises:
        SettingsError: naming the loss, the columns of the data, and what to change.
    """
    scores = teacher or rows.scores_kind
    for place, part in enumerate(losses):
        loss = f"losses.{place} ({part.kind})"
        if part.kind == "infonce":
            if rows.columns * (batch if part.in_batch else 1) == 1:
                raise SettingsError(
                    f"{loss} tells the relevant document from others, and there are none: "
                    f"{_documents(rows)}, and "
                    + ("a batch is one row." if part.in_batch else "in_batch is false."),
                    hint="Raise training.per_device_train_batch_size."
                    if part.in_batch
                    else "Set in_batch to true, or name a column of negatives in data.documents.",
                )
            continue
        if scores is None:
            raise SettingsError(
                f"{loss} learns from a teacher, and there is none.",
                hint="Name the column of its scores in data.scores, or distillation.teachers.",
            )
        if rows.columns == 1 and not (part.kind == "kl" and scores == "whole" and batch > 1):
            raise SettingsError(
                f"{loss} compares the relevant document with negatives, and there are none: "
                f"{_documents(rows)}.",
                hint=_NEGATIVES
                if part.kind == "margin-mse"
                else _NEGATIVES + " A dense or sparse teacher with distillation.in_batch scores "
                "the documents of the batch's other queries.",
            )


def _documents(rows: Rows) -> str:
    limit = "" if rows.part.negatives is None else f", data.negatives: {rows.part.negatives}"
    return f"each query has one document (data.documents: {', '.join(rows.part.documents)}{limit})"
