"""What a model can be made into: graphs, a query encoder of OpenSearch, a better model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numpy as np

from splade_os.encoding.choice import INT8_MEAN_ERROR
from splade_os.encoding.layout import ModelLayout, StaticPart
from splade_os.encoding.onnx_backend import GRAPHS, graph_file
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.encoding.resolve import FoundModel
from splade_os.errors import ModelError
from splade_os.identity import EncodingOptions
from splade_os.model_check.report import CheckRow
from splade_os.model_check.texts import TEXTS
from splade_os.model_check.tokenizers import Add
from splade_os.statistics import TermStatistics


def check_capabilities(
    found: FoundModel,
    layout: ModelLayout,
    options: EncodingOptions,
    add: Add,
    skip: str | None = None,
) -> None:
    """Try everything that writes or trains, in a temporary folder.

    Args:
        skip: why none of it is tried.
    """
    folder = str(found.folder)
    stated = {"activation": options.activation, "pooling": options.pooling}
    attempts: dict[str, Callable[[Path], CheckRow]] = {
        "onnx": lambda out: _onnx(folder, layout, out, stated),
        "torchscript": lambda out: _torchscript(folder, out, stated),
        "opensearch tokenizer": lambda out: _opensearch_tokenizer(folder, layout, out),
        "trainable": lambda out: _trainable(folder, options),
    }
    for name, attempt in attempts.items():
        if skip is not None:
            add(name, lambda name=name: CheckRow(name, "skipped", skip))  # type: ignore[misc]
            continue
        with tempfile.TemporaryDirectory(prefix="splade-os-check-") as temporary:
            out = Path(temporary) / "out"
            add(name, lambda attempt=attempt, out=out: _tried(attempt, out), "refused")  # type: ignore[misc]


def _tried(attempt: Callable[[Path], CheckRow], out: Path) -> CheckRow:
    """What torch's tracer, transformers or ONNX Runtime raise of a model that they cannot take
    refuses it; what our own lines raise is our fault, and stays what it is."""
    try:
        return attempt(out)
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError) as error:
        if _raised_here(error):
            raise
        first = str(error).strip().splitlines()
        raise ModelError(f"{type(error).__name__}: {first[0] if first else ''}") from error


def _raised_here(error: BaseException) -> bool:
    """Whether the line that raised is one of this package."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return Path(frame.f_code.co_filename).is_relative_to(Path(__file__).parents[1])


def _onnx(folder: str, layout: ModelLayout, out: Path, stated: dict[str, Any]) -> CheckRow:
    from splade_os.export.onnx import export_onnx

    present = [p for p in GRAPHS if graph_file(layout.document.folder, p)]
    checks = {check.precision: check for check in export_onnx(folder, out, **stated)}
    says = f"exported and equal to torch ({checks['float32'].max_difference:.1g})"
    error = checks["int8"].mean_error
    chosen = "chosen by itself" if error <= INT8_MEAN_ERROR else "only where it is asked for"
    says += f"; int8 mean error of a weight {error:.1%}, {chosen}"
    if present:
        says += f"; the folder has {', '.join(present)}"
    return CheckRow("onnx", "ok", says)


def _torchscript(folder: str, out: Path, stated: dict[str, Any]) -> CheckRow:
    from splade_os.export.torchscript import export_torchscript

    difference = export_torchscript(folder, out, **stated)
    return CheckRow("torchscript", "ok", f"exported and equal to torch ({difference:.1g})")


def _opensearch_tokenizer(folder: str, layout: ModelLayout, out: Path) -> CheckRow:
    from splade_os.export.opensearch_tokenizer import export_opensearch_tokenizer

    name = "opensearch tokenizer"
    if isinstance(layout.query, StaticPart):
        export_opensearch_tokenizer(folder, out)
        return CheckRow(name, "ok", "exported with the model's own table, and equal")
    width = len(IdfQueryEncoder.unweighted(folder).vocabulary)
    some = TermStatistics(1000, 100_000, np.arange(width, dtype=np.int64) % 1000)
    export_opensearch_tokenizer(folder, out, statistics=some)
    return CheckRow(name, "ok", "exported with the table of an index (--index), and equal")


def _trainable(folder: str, options: EncodingOptions) -> CheckRow:
    """One step of gradients."""
    import torch

    from splade_os.training.loading import load_model
    from splade_os.training.model import TextEncoder
    from splade_os.training.recipe import ModelPart

    part = ModelPart(base=folder, activation=options.activation, pooling=options.pooling)
    model = load_model(part)
    features = TextEncoder.of(model).documents([text for text in TEXTS if text][:4])
    model.encode_documents(features).float().sum().backward()
    gradients = [p.grad for p in model.document.parameters() if p.grad is not None]
    if not gradients or not all(bool(torch.isfinite(g).all()) for g in gradients):
        raise ModelError("The gradients of a step are not finite, or there are none.")
    return CheckRow("trainable", "ok", f"gradients of {len(gradients)} tensors, all finite")
