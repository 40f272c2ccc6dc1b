"""Takes the weights out of an ONNX graph: they lie in the model's safetensors already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from splade_os.encoding.onnx_weights import Array, Share, read_tensors
from splade_os.errors import ModelError

_SMALL = 256  # initializers of fewer numbers stay in the graph


def share_weights(file: Path, folder: Path, tile: int) -> dict[str, dict[str, Any]]:
    """Rewrite a graph without the weights that `folder` holds.

    Args:
        file: the graph, rewritten in place.
        folder: with the safetensors that the graph was made from.
        tile: rows of the decoder in one product of the graph.

    Returns:
        Initializer → `Share`, for the manifest.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(file))
    try:
        tensors = read_tensors(folder)
    except ModelError:  # bfloat16, which numpy does not know: the graph keeps its weights
        return {}
    known = {
        _key(share.of(tensors)): share
        for name, tensor in tensors.items()
        for share in _shares(name, tensor, tile)
    }
    shares = {}
    for initializer in model.graph.initializer:
        value = numpy_helper.to_array(initializer)
        if value.dtype != np.float32 or value.size < _SMALL:
            continue
        share = known.get(_key(value))
        if share is None:
            continue  # it stays in the graph
        shares[initializer.name] = asdict(share)
        initializer.ClearField("raw_data")
        initializer.ClearField("float_data")
        initializer.data_location = onnx.TensorProto.EXTERNAL
        # never opened: the weights are handed over when the graph is loaded
        initializer.external_data.add(key="location", value="weights")
    onnx.save(model, str(file))
    return shares


def _shares(name: str, tensor: Array, tile: int) -> Iterator[Share]:
    if tensor.size < _SMALL:
        return
    yield Share(name)
    if tensor.ndim == 2:
        yield Share(name, transposed=True)
        for start in range(0, len(tensor), tile) if len(tensor) > tile else ():
            yield Share(name, start, min(start + tile, len(tensor)), transposed=True)


def _key(array: Array) -> tuple[tuple[int, ...], bytes]:
    return array.shape, sha256(np.ascontiguousarray(array).data).digest()
