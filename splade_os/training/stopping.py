"""When a run ends before its last step."""

from __future__ import annotations

from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_callback import ExportableState


def early_stopping(patience: int) -> TrainerCallback:
    """Stop after ``patience`` evaluations without a better ``metric_for_best_model``."""
    return EarlyStoppingCallback(early_stopping_patience=patience)


class BelowStart(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Stop when a collection's nDCG@10 falls below what it was before training.

    Args:
        margin: by how much it may.
    """

    def __init__(self, margin: float, start: dict[str, float] | None = None) -> None:
        self.margin, self.start = margin, start
        self.reason: str | None = None

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any
    ) -> None:
        """Called by the Trainer."""
        found = {k: v for k, v in metrics.items() if k.endswith("_ndcg@10")}
        if self.start is None:
            self.start = found
            return
        for name, value in found.items():
            before = self.start.get(name, value)
            if value < before - self.margin:
                self.reason = f"step {state.global_step}: {name} {value:.4f}, at start {before:.4f}"
                state.log_history.append({"stopped": self.reason, "step": state.global_step})
                control.should_training_stop = True

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"args": {"margin": self.margin, "start": self.start}, "attributes": {}}
