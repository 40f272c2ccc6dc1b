"""An int8 graph by ONNX Runtime's dynamic quantisation, weights per channel.

Dynamic quantisation gives a whole batch of activations one scale. In the feed-forward layers a few
tokens ([CLS], [SEP]) are many times larger than the others, which then have few steps left: on the
starter that was most of the error. So there each token's row is divided by its largest
value before it is quantised, and multiplied by it after the product. (Per-token scales: ZeroQuant,
Yao et al. 2022, https://arxiv.org/abs/2206.01861, section 4.1.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

# BERT; DistilBERT; RoBERTa; ModernBERT
_TRANSFORMS = ("predictions/transform", "vocab_transform", "lm_head/dense", "/head/dense")
_TINY = 1e-6  # for a row of zeros


def quantise(file: Path, out: Path) -> None:
    """Write the int8 graph of an fp32 graph (`splade_os.export.graph`) that has its weights inside.

    Embeddings stay fp32, and so does the transform in front of the decoder: it costs little and
    loses most, because its outputs pass a LayerNorm, which takes the shared part away and leaves
    the error.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(file))
    _level_rows(model.graph)
    transforms = [
        node.name for node in model.graph.node if any(part in node.name for part in _TRANSFORMS)
    ]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends a pre-process that changes nothing
    try:
        quantize_dynamic(
            model,
            str(out),
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=transforms,
        )
    finally:
        root.setLevel(level)


def _level_rows(graph: Any) -> None:
    """Scale the rows that enter the feed-forward products to one largest absolute value."""
    from onnx import numpy_helper

    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    graph.initializer.append(numpy_helper.from_array(np.float32(_TINY), "rows_tiny"))
    nodes = [
        new
        for node in graph.node
        for new in (_levelled(node) if _is_feed_forward(node, shapes) else (node,))
    ]
    del graph.node[:]
    graph.node.extend(nodes)


def _is_feed_forward(node: Any, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Products of the body between two widths; those of attention are square."""
    if node.op_type != "MatMul" or not node.name.startswith("/body/"):
        return False
    shape = shapes.get(node.input[1], ())
    return len(shape) == 2 and shape[0] != shape[1]


def _levelled(node: Any) -> Iterator[Any]:
    from onnx import helper

    (rows, weights), (product,) = node.input, node.output
    name = f"{node.name}/rows_"
    absolute, largest, scale, level, scaled = (
        name + part for part in ("absolute", "largest", "scale", "level", "product")
    )
    yield helper.make_node("Abs", [rows], [absolute])
    yield helper.make_node("ReduceMax", [absolute], [largest], axes=[-1])
    yield helper.make_node("Max", [largest, "rows_tiny"], [scale])
    yield helper.make_node("Div", [rows, scale], [level])
    yield helper.make_node("MatMul", [level, weights], [scaled], node.name)
    yield helper.make_node("Mul", [scaled, scale], [product])
