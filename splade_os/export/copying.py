"""Copies model folders without what is no part of the model."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson

from splade_os.encoding.checkpoint import native_config
from splade_os.encoding.layout import SpladePart, read_layout
from splade_os.encoding.weights import ADAPTER, ADAPTER_WEIGHTS, weights_folder

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
    """Copy a model folder to a new one; its weights become safetensors, whole and merged.

    The files get the mode that the umask gives, whatever the mode of the source.

    Raises:
        ModelError, MissingExtraError: the weights cannot be read.
    """
    layout = read_layout(source)
    ignored = shutil.ignore_patterns(*NO_PART)
    shutil.copytree(source, target, ignore=ignored, copy_function=shutil.copyfile)
    for table in layout.tables:
        if not table.weights.is_relative_to(source):  # converted
            folder = target / table.folder.relative_to(source)
            shutil.copyfile(table.weights, folder / table.weights.name)
    for part in (layout.document, layout.query):
        if isinstance(part, SpladePart) and weights_folder(part.folder) != part.folder:
            copy_transformer(part.folder, target / part.folder.relative_to(source))


def copy_transformer(source: Path, target: Path) -> None:
    """Configuration and weights of a transformer into a folder that may have its tokenizer.

    Raises:
        ModelError, MissingExtraError: the weights cannot be read.
    """
    made = weights_folder(source)
    for file in target.glob("model*.safetensors*"):
        file.unlink()
    for file in made.glob("model*.safetensors*"):
        shutil.copyfile(file, target / file.name)
    config = orjson.dumps(native_config(source), option=orjson.OPT_INDENT_2)
    (target / "config.json").write_bytes(config + b"\n")
    for name in (ADAPTER, ADAPTER_WEIGHTS):
        (target / name).unlink(missing_ok=True)
