"""When a run ends before its last step, and which of its models is kept."""

from __future__ import annotations

from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_callback import ExportableState


def early_stopping(patience: int) -> TrainerCallback:
    """Stop after ``patience`` evaluations without a better ``metric_for_best_model``."""
    return EarlyStoppingCallback(early_stopping_patience=patience)


class BelowStart(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Stop when a collection's nDCG@10 falls below what it was before training.

    Every evaluation that is better on average than those before is saved, and that checkpoint is
    not rotated away.

    Args:
        margin: by how much a collection may fall.
        start: metrics before training.
        best: the best mean so far.
    """

    def __init__(
        self, margin: float, start: dict[str, float] | None = None, best: float = 0.0
    ) -> None:
        self.margin, self.start, self.best = margin, start, best

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any
    ) -> None:
        """Called by the Trainer."""
        found = {k: v for k, v in metrics.items() if k.endswith("_ndcg@10")}
        mean = sum(found.values()) / len(found)
        if self.start is None:
            self.start, self.best = found, mean
            return
        fallen = [n for n, v in found.items() if v < self.start.get(n, v) - self.margin]
        if fallen:
            name = fallen[0]
            reason = f"{name} is {found[name]:.4f}, was {self.start[name]:.4f} at the start"
            state.log_history.append({"stopped": reason, "step": state.global_step})
            control.should_training_stop = True
        elif mean > self.best:
            self.best = mean
            state.best_global_step, state.best_metric = state.global_step, mean
            control.should_save = True

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        made = {"margin": self.margin, "start": self.start, "best": self.best}
        return {"args": made, "attributes": {}}
