"""A model folder that ONNX Runtime runs without torch: the pooling head is inside the graph.

The maximum over the sequence is taken tile by tile of the vocabulary, so that no tensor of
``(B, L, V)`` ever exists. fp32, and int8 (`splade_os.export.int8`).
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
import orjson

from splade_os import __version__
from splade_os.encoding.layout import OPTIONS_FILE, SpladePart, read_layout
from splade_os.encoding.onnx_backend import GRAPHS, MANIFEST, OnnxBackend
from splade_os.encoding.resolve import content_hash, resolve_model
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.encoding.tokenizer.check import check_tokenizer
from splade_os.errors import MissingExtraError, ModelError
from splade_os.export.copying import copy_model
from splade_os.export.int8 import quantise
from splade_os.export.onnx_weights import share_weights
from splade_os.identity import CheckpointKeywords, EncodingOptions
from splade_os.vectors import Ids, SparseBatch

_OPSET = 17
_TOLERANCE = 1e-4  # fp32 against torch; 1e-6 is usual


@dataclass(frozen=True)
class ExportCheck:
    """How a graph compares with torch on the same random texts.

    Attributes:
        precision: ``float32`` or ``int8``.
        max_difference: largest absolute difference of a weight.
        mean_error: mean absolute difference over torch's active weights, relative to their mean.
        bytes: size of the graph.
    """

    precision: str
    max_difference: float
    mean_error: float
    bytes: int


def export_onnx(
    model: str, out: str | Path, **options: Unpack[CheckpointKeywords]
) -> list[ExportCheck]:
    """Copy a model folder and put graphs into it.

    Args:
        model: ``starter``, a folder, or a name on the hub.
        out: new folder; `DocumentEncoder.load` takes it like any other.
        options: ``activation`` and ``pooling`` of a checkpoint that does not say them. The new
            folder says them.

    Raises:
        ModelError: ``out`` exists, or the graph does not compute what torch computes.
        MissingExtraError: torch, onnx or onnxruntime is not installed.
    """
    target = Path(out)
    if target.exists():
        raise ModelError(f"{target} exists already.", hint="Name a new folder with --out.")
    try:
        import onnx as _onnx  # noqa: F401  # torch's exporter and the quantiser need it
        import torch

        from splade_os.encoding.transformer import SpladeTransformer
        from splade_os.export.graph import TILE
    except ImportError:
        raise MissingExtraError("Exporting to ONNX", "torch,onnx-export") from None
    source = resolve_model(model).folder
    layout = read_layout(source)
    chosen = EncodingOptions(**options).over(layout.options)
    part = layout.document.stated(chosen)
    query = layout.query
    if isinstance(query, SpladePart) and query.folder == part.folder:
        query = query.stated(chosen)
        if (query.activation, query.pooling) != (part.activation, part.pooling):
            raise ModelError(
                f"{model}: queries and documents go through one transformer ({part.folder}) and "
                "are pooled otherwise, and its graph holds one pooling.",
                hint="Encode with --backend torch.",
            )
    transformer = SpladeTransformer(part, torch.device("cpu"), torch.float32)
    for each in {part.folder, layout.query.folder}:
        check_tokenizer(each)
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    inside = part.folder.relative_to(source)
    try:
        copy_model(source, unfinished)
        if layout.document.activation is None:
            options_file = unfinished / OPTIONS_FILE
            options_file.write_bytes(orjson.dumps(chosen.model_dump(exclude_none=True)))
        folder = unfinished / inside / "onnx"
        folder.mkdir(exist_ok=True)
        _write_graph(transformer, folder / GRAPHS["float32"])
        transform = transformer.architecture.transform
        quantise(folder / GRAPHS["float32"], folder / GRAPHS["int8"], transform)
        shares = share_weights(folder, TILE)
        manifest = {
            "content_hash": content_hash(unfinished / inside),
            "splade_os": __version__,
            "opset": _OPSET,
            "max_length": transformer.max_length,
            "weights": shares,
        }
        (folder / MANIFEST).write_bytes(orjson.dumps(manifest))  # the checks load the graphs
        tokenizer = TextTokenizer(
            part.folder,
            max_length=part.max_length,
            lowercase=part.lowercase,
            special_tokens=True,
        )
        checks = _check(transformer, tokenizer, folder)
        manifest["checks"] = [check.__dict__ for check in checks]
        (folder / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return checks


def _write_graph(transformer: object, file: Path) -> None:
    import torch

    from splade_os.encoding.transformer import SpladeTransformer
    from splade_os.export.graph import graph_of

    assert isinstance(transformer, SpladeTransformer)
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 0, 0]])
    axes = {0: "batch", 1: "length"}
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about shapes that do not change here
        torch.onnx.export(
            graph_of(transformer),
            (ids, (ids > 0).long()),
            str(file),
            input_names=["input_ids", "attention_mask"],
            output_names=["weights"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "weights": {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )


def _check(transformer: object, tokenizer: TextTokenizer, folder: Path) -> list[ExportCheck]:
    """The graphs against torch, on texts of random words of the model's own vocabulary."""
    random = np.random.default_rng(0)
    words = [t for t in tokenizer.vocabulary().tokens if t.isalpha()] or ["a"]
    texts = [" ".join(random.choice(words, n)) for n in (1, 3, 9, 27, 81, 300)]
    tokens: list[Ids] = tokenizer(texts)
    expected: SparseBatch = transformer.encode(tokens, None)  # type: ignore[attr-defined]
    dense = expected.to_dense()
    checks = []
    for precision, name in GRAPHS.items():
        graph = folder / name
        got = OnnxBackend(graph, precision).encode(tokens, None).to_dense()
        difference = np.abs(got - dense)
        mean = float(difference[dense > 0].mean() / dense[dense > 0].mean())
        checks.append(ExportCheck(precision, float(difference.max()), mean, graph.stat().st_size))
    if checks[0].max_difference > _TOLERANCE:
        raise ModelError(
            f"The ONNX graph differs from torch by {checks[0].max_difference:.2g}: not exported."
        )
    return checks
