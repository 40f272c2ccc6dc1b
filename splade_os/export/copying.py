"""Copies model folders without what is no part of the model."""

from __future__ import annotations

import shutil
from pathlib import Path

NO_PART = (
    # weights of other frameworks, and graphs that are made anew
    "*.bin", "*.h5", "*.msgpack", "*.onnx", "*.ot", "openvino",
    # what a training run needs to go on, and what it logged
    "checkpoint-*", "*.checkpoints", "trainer_state.json", "states-*", "runs",
    # pickles, whatever they hold
    "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt",
)  # fmt: skip
"""Patterns of names that are left behind."""


def copy_model(source: Path, target: Path) -> None:
    """Copy a model folder to a new one; weights are those in safetensors.

    The files get the mode that the umask gives, whatever the mode of the source.
    """
    ignored = shutil.ignore_patterns(*NO_PART)
    shutil.copytree(source, target, ignore=ignored, copy_function=shutil.copyfile)
