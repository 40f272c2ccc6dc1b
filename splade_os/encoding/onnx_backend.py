"""ONNX Runtime: a graph with the pooling head inside it. Needs neither torch nor transformers.

`splade_os.export.onnx` writes the graphs; each lies in ``onnx/`` beside the transformer's
configuration, with a manifest that names the weights it was made from. The graphs have none of
their own (`onnx_weights`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from splade_os.encoding.backend import NonFiniteError
from splade_os.encoding.batching import pad
from splade_os.encoding.onnx_weights import initializers
from splade_os.encoding.processor import NATIVE_INT8, processor_flags
from splade_os.errors import MissingExtraError, ModelError
from splade_os.vectors import Ids, SparseBatch, Weights

GRAPHS = {"float32": "model.onnx", "int8": "model_int8.onnx"}
MANIFEST = "manifest.json"


def graph_file(folder: Path, precision: str) -> Path | None:
    """The graph of a transformer folder, if it has one of that precision."""
    name = GRAPHS.get(precision)
    file = folder / "onnx" / name if name else None
    return file if file is not None and file.is_file() else None


def read_manifest(graph: Path) -> dict[str, Any]:
    """What the export wrote about its graphs.

    Raises:
        ModelError: it is missing or damaged.
    """
    file = graph.with_name(MANIFEST)
    try:
        return dict(orjson.loads(file.read_bytes()))
    except (OSError, orjson.JSONDecodeError) as error:
        raise ModelError(
            f"{file} cannot be read: {error}", hint="Export the model again."
        ) from None


class OnnxBackend:
    """Runs a graph ``input_ids, attention_mask (B, L) → weights (B, V)`` on the CPU.

    Args:
        file: the graph.
        precision: of the graph, for people.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: the graph cannot be loaded.
    """

    device = "cpu"
    batch_tokens = 1024
    batch_bytes: int | None = None
    buckets: tuple[int, ...] = ()
    ahead = 1

    def __init__(self, file: Path, precision: str) -> None:
        try:
            import onnxruntime as ort
        except ImportError:
            raise MissingExtraError("Encoding with ONNX Runtime", "onnx") from None
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if not NATIVE_INT8 & processor_flags():
            # AVX2 without VNNI adds products of int8 up in 16 bits, which overflow. Where VNNI is
            # there the slower way would be taken as well.
            options.add_session_config_entry("session.x64quantprecision", "1")
        threads = os.environ.get("OMP_NUM_THREADS", "")
        if threads.isdigit():
            options.intra_op_num_threads = int(threads)
        manifest = read_manifest(file)
        self.max_length: int | None = manifest.get("max_length")
        shares = manifest.get("weights", {}).get(precision, {})
        # weights that lie beside the graph; they live as long as the session
        self._weights = {
            name: ort.OrtValue.ortvalue_from_numpy(array)
            for name, array in initializers(file.parent.parent, shares).items()
        }
        if self._weights:
            options.add_external_initializers(list(self._weights), list(self._weights.values()))
        try:
            self._session: Any = ort.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises its own classes, all of them bare
            raise ModelError(
                f"{file} cannot be loaded: {error}", hint="Export the model again."
            ) from error
        self.precision = precision
        self.vocabulary_size = int(self._session.get_outputs()[0].shape[1])

    def encode(self, tokens: Sequence[Ids], max_active_dims: int | None) -> SparseBatch:
        padded, mask = pad(tokens, max(len(ids) for ids in tokens))
        feed = {"input_ids": padded, "attention_mask": mask.astype(np.int64)}
        (weights,) = self._session.run(["weights"], feed)  # (B, V)
        return sparsify(weights, max_active_dims)

    def launch(
        self, tokens: Sequence[Ids], max_active_dims: int | None
    ) -> Callable[[], SparseBatch]:
        """See `Backend.launch`."""
        return partial(self.encode, tokens, max_active_dims)


def sparsify(weights: Weights, max_active_dims: int | None) -> SparseBatch:
    """Dense weights ``(B, V)`` → rows of what is above zero, the heaviest only.

    Raises:
        NonFiniteError: naming the first row with NaN or infinity.
    """
    finite = np.isfinite(weights).all(1)
    if not finite.all():
        raise NonFiniteError(int(np.flatnonzero(~finite)[0]))
    if max_active_dims is not None and max_active_dims < weights.shape[1]:
        top = np.argpartition(-weights, max_active_dims - 1, axis=1)[:, :max_active_dims]
        kept = np.zeros_like(weights)
        np.put_along_axis(kept, top, np.take_along_axis(weights, top, 1), 1)
        weights = kept
    rows, columns = np.nonzero(weights > 0)
    counts = np.bincount(rows, minlength=len(weights))
    indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return SparseBatch(indptr, columns.astype(np.int32), weights[rows, columns], weights.shape[1])
