"""An int8 graph: weights quantised per channel, activations while they run, per token.

A few tokens ([CLS], [SEP]) have states many times larger than the others. One scale for all of a
batch would leave the others few steps, and would change with the texts that a text is encoded
beside. So each token's row is divided by a scale of its own before a product, and multiplied by it
afterwards. (Per-token scales: ZeroQuant, Yao et al. 2022, https://arxiv.org/abs/2206.01861,
section 4.1.) What is left lies in 0 .. 255 whatever the batch holds, around a zero point that is a
constant of the graph: a text has the same vector in every batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from splade_os.encoding.onnx_weights import column_scales, int8_columns

_DOMAIN = "com.microsoft"  # ONNX Runtime's own operators
_TWO_SIDED, _ONE_SIDED = 128, 40
"""Zero points: how many of the 255 steps lie below zero. GELU and ReLU leave little there, and the
steps that this gives to the other side take a tenth off the starter's error."""
_ACTIVATIONS = {"Erf", "Relu", "Tanh"}
_ELEMENTWISE = {"Add", "Div", "Mul", "Pow"}


def quantise(file: Path, out: Path, transforms: Collection[str]) -> None:
    """Write the int8 graph of an fp32 graph (`splade_os.export.graph`) that has its weights inside.

    Embeddings stay fp32, and so does the transform in front of the decoder: it costs little and
    loses most, because its outputs pass a LayerNorm, which takes the shared part away and leaves
    the error.

    Args:
        transforms: names of the modules that are the transform (`Architecture.transform`).
    """
    import onnx

    model = onnx.load(str(file))
    model.opset_import.append(onnx.helper.make_opsetid(_DOMAIN, 1))
    # the exporter names a node by the path of its module
    _quantise_products(model.graph, [f"/{name.replace('.', '/')}/" for name in transforms])
    onnx.save(model, str(out))


def _quantise_products(graph: Any, transforms: Collection[str]) -> None:
    """Replace every product of rows and a matrix of weights, but those of the transform."""
    from onnx import numpy_helper

    matrices = {i.name: i for i in graph.initializer if len(i.dims) == 2}
    makers = {name: node for node in graph.node for name in node.output}
    nodes: list[Any] = []
    zeros: dict[str, int] = {}  # of rows; query, key and value share theirs
    arrays: dict[str, Any] = {"unit": np.float32(1), "tiny": np.float32(1e-8)}
    for zero in (_TWO_SIDED, _ONE_SIDED):
        arrays[f"zero_{zero}"] = np.uint8(zero)  # processors multiply unsigned by signed
        arrays[f"below_{zero}"] = np.float32(-1 / zero)
        arrays[f"above_{zero}"] = np.float32(1 / (255 - zero))
    for node in graph.node:
        product = node.op_type == "MatMul" and node.input[1] in matrices
        if not product or any(part in node.name for part in transforms):
            nodes.append(node)
            continue
        rows, weights = node.input
        if rows not in zeros:
            zeros[rows] = _ONE_SIDED if _is_activated(rows, makers) else _TWO_SIDED
            nodes += _levelled(rows, zeros[rows])
        if f"{weights}_int8" not in arrays:  # layers may share theirs
            array = numpy_helper.to_array(matrices[weights])
            arrays[f"{weights}_int8"] = int8_columns(array)
            arrays[f"{weights}_scales"] = column_scales(array)
        nodes += _product(node, zeros[rows])
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in arrays.items()
        if name in used
    )


def _is_activated(rows: str, makers: Mapping[str, Any]) -> bool:
    """Whether rows are what an activation made of a product, and nothing else (no gate)."""
    found, open_ = False, [rows]
    while open_:
        maker = makers.get(open_.pop())
        if maker is None or maker.op_type in ("Constant", "MatMul"):  # None: an initializer
            continue
        if maker.op_type not in _ACTIVATIONS | _ELEMENTWISE:
            return False
        found |= maker.op_type in _ACTIVATIONS
        open_ += maker.input
    return found


def _levelled(rows: str, zero: int) -> Iterator[Any]:
    """Rows ``(..., H)`` → ``rows/int8 (..., H)``, and their scales ``rows/scale (..., 1)``."""
    from onnx import helper

    names = ("largest", "above", "smallest", "below", "scale", "level", "int8")
    largest, above, smallest, below, scale, level, quantised = (f"{rows}/{n}" for n in names)
    yield helper.make_node("ReduceMax", [rows], [largest], axes=[-1])
    yield helper.make_node("Mul", [largest, f"above_{zero}"], [above])
    yield helper.make_node("ReduceMin", [rows], [smallest], axes=[-1])
    yield helper.make_node("Mul", [smallest, f"below_{zero}"], [below])
    yield helper.make_node("Max", [above, below, "tiny"], [scale])  # tiny: for a row of zeros
    yield helper.make_node("Div", [rows, scale], [level])
    yield helper.make_node("QuantizeLinear", [level, "unit", f"zero_{zero}"], [quantised])


def _product(node: Any, zero: int) -> Iterator[Any]:
    from onnx import helper

    (rows, weights), (product,) = node.input, node.output
    yield helper.make_node(
        "MatMulIntegerToFloat",
        [f"{rows}/int8", f"{weights}_int8", "unit", f"{weights}_scales", f"zero_{zero}"],
        [f"{product}/level"],
        node.name,
        domain=_DOMAIN,
    )
    yield helper.make_node("Mul", [f"{product}/level", f"{rows}/scale"], [product])
