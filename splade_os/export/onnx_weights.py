"""Takes the weights out of ONNX graphs: they lie in the model's safetensors already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splade_os.encoding.onnx_backend import GRAPHS
from splade_os.encoding.onnx_weights import Array, Share, read_tensors
from splade_os.errors import ModelError

_SMALL = 256  # tensors of fewer numbers stay in the graph
_Key = tuple[str, tuple[int, ...], bytes]


def share_weights(graphs: Path, tile: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Rewrite the graphs of a model without the weights that lie beside them.

    Args:
        graphs: folder of the graphs, rewritten in place; its parent holds the safetensors that
            they were made from.
        tile: rows of the decoder in one product of a graph.

    Returns:
        Precision → initializer → `Share`, for the manifest.
    """
    try:
        tensors = read_tensors(graphs.parent)
    except ModelError:  # bfloat16, which numpy does not know: the graphs keep their weights
        return {}
    known = {
        _key(share.of(tensors)): asdict(share)
        for name, tensor in tensors.items()
        for share in _shares(name, tensor, tile)
    }
    return {p: _without_weights(graphs / name, known) for p, name in GRAPHS.items()}


def _without_weights(file: Path, known: Mapping[_Key, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rewrite one graph; initializer → where it is known from."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(file))
    shares = {}
    for initializer in model.graph.initializer:
        share = known.get(_key(numpy_helper.to_array(initializer)))
        if share is None:
            continue  # it stays in the graph
        shares[initializer.name] = share
        initializer.ClearField("raw_data")
        initializer.ClearField("float_data")
        initializer.ClearField("int32_data")
        initializer.data_location = onnx.TensorProto.EXTERNAL
        # never opened: the weights are handed over when the graph is loaded
        initializer.external_data.add(key="location", value="weights")
    onnx.save(model, str(file))
    return shares


def _shares(name: str, tensor: Array, tile: int) -> Iterator[Share]:
    """How an initializer may come from a tensor."""
    if tensor.size < _SMALL:
        return
    yield Share(name)
    if tensor.ndim != 2:
        return
    yield Share(name, transposed=True)
    yield Share(name, transposed=True, int8=True)
    for start in range(0, len(tensor), tile) if len(tensor) > tile else ():
        stop = min(start + tile, len(tensor))
        yield Share(name, start, stop, transposed=True)
        yield Share(name, start, stop, transposed=True, int8=True)


def _key(array: npt.NDArray[Any]) -> _Key:
    return array.dtype.name, array.shape, sha256(np.ascontiguousarray(array).data).digest()
