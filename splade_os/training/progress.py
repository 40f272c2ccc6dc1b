"""What a run says while it goes: a line on stderr for every log and evaluation."""

from __future__ import annotations

import sys
import time
from typing import Any

from transformers import TrainerCallback

_NOT_PARTS = {
    "loss", "grad_norm", "learning_rate", "epoch", "step", "query_dims", "document_dims",
    "dead_queries", "dead_documents", "likeness", "flops", "query_lambda", "document_lambda",
}  # fmt: skip


class Progress(TrainerCallback):  # type: ignore[misc]
    """Instead of transformers' progress bar, which writes to stdout."""

    def __init__(self) -> None:
        self._begun: tuple[float, int] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer."""
        self._begun = (time.monotonic(), state.global_step)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Called by the Trainer."""
        if not state.is_world_process_zero or not logs:
            return
        if "loss" in logs:
            self._say(state, f"{_losses(logs)}  {_vectors(logs)}{self._left(state)}")
        elif any(key.startswith("eval_") for key in logs):
            found = {
                key.removeprefix("eval_").removesuffix("_ndcg@10"): value
                for key, value in logs.items()
                if key.endswith("_ndcg@10")
            }
            text = "  ".join(f"{name} {value:.4f}" for name, value in found.items())
            self._say(state, f"nDCG@10  {text}")

    def _left(self, state: Any) -> str:
        assert self._begun is not None
        began, first = self._begun
        done = state.global_step - first
        if not done:
            return ""
        seconds = (time.monotonic() - began) / done * (state.max_steps - state.global_step)
        return f"  {seconds / 60:.0f} min left" if seconds >= 90 else f"  {seconds:.0f} s left"

    def _say(self, state: Any, text: str) -> None:
        width = len(str(state.max_steps))
        print(f"step {state.global_step:>{width}}/{state.max_steps}  {text}", file=sys.stderr)


def _losses(logs: dict[str, Any]) -> str:
    parts = " + ".join(
        f"{name} {float(value):.3g}" for name, value in logs.items() if name not in _NOT_PARTS
    )
    return f"loss {float(logs['loss']):.4g} ({parts})" if parts else f"loss {logs['loss']:.4g}"


def _vectors(logs: dict[str, Any]) -> str:
    text = f"dimensions {logs['query_dims']:.0f} | {logs['document_dims']:.0f}"
    dead = max(logs["dead_queries"], logs["dead_documents"])
    return f"{text}  FLOPS {logs['flops']:.2f}" + (f"  {dead:.0%} empty" if dead else "")
