"""ONNX graphs compute what torch computes, and run without it."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file

from splade_os import DocumentEncoder
from splade_os.encoding import load_query_encoder
from splade_os.errors import ModelError, SettingsError
from splade_os.export.onnx import export_onnx
from tests.tiny_models import TEXTS, change

CODE = """
import sys
from splade_os import DocumentEncoder
encoder = DocumentEncoder.load(sys.argv[1])
assert encoder.backend == "onnx"
assert encoder.encode(["the search engine"]).nnz
assert not {"torch", "transformers"} & set(sys.modules)
"""


@pytest.mark.parametrize("name", ["bert", "distilbert-50", "router"])
def test_same_output(tiny: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "onnx"
    level = logging.getLogger().level
    float32, int8 = export_onnx(str(tiny / name), out)
    assert logging.getLogger().level == level  # ONNX Runtime's quantiser is only hushed
    assert float32.max_difference <= 1e-5 and int8.mean_error < 0.2
    # every weight is there once, for torch and for ONNX Runtime
    (graph,) = out.rglob("model.onnx")
    for weights in load_file(graph.parents[1] / "model.safetensors").values():
        if weights.size >= 256:
            assert weights.tobytes() not in graph.read_bytes()
    initializers = onnx.load(
        str(graph.with_name("model_int8.onnx")), load_external_data=False
    ).graph.initializer
    matrices = [i for i in initializers if len(i.dims) == 2 and np.prod(i.dims) >= 256]
    assert {i.data_type for i in matrices} == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT8}
    assert all(i.data_location == onnx.TensorProto.EXTERNAL for i in matrices)
    torch = DocumentEncoder.load(str(tiny / name), device="cpu")
    exported = DocumentEncoder.load(str(out), device="cpu")
    assert (torch.backend, exported.backend) == ("torch", "onnx")
    assert exported.identity.difference(torch.identity) is None  # one index for both
    ours, theirs = exported.encode(TEXTS).to_dense(), torch.encode(TEXTS).to_dense()
    assert np.abs(ours - theirs).max() <= 1e-5
    assert np.array_equal(ours > 0, theirs > 0)
    limited = DocumentEncoder.load(str(out), max_active_dims=9).encode(TEXTS)
    expected = DocumentEncoder.load(str(tiny / name), device="cpu", max_active_dims=9)
    np.testing.assert_allclose(limited.to_dense(), expected.encode(TEXTS).to_dense(), atol=1e-5)
    small = DocumentEncoder.load(str(out), dtype="int8")
    assert small.precision == "int8" and small.encode(TEXTS).nnz
    queries = load_query_encoder(str(out), "encoder").encode(["the search engine"])
    assert queries.nnz
    subprocess.run([sys.executable, "-c", CODE, str(out)], check=True)


@pytest.mark.parametrize(("pooling", "activation"), [("sum", "relu"), ("max", "log1p_relu")])
def test_heads(tiny: Path, tmp_path: Path, pooling: str, activation: str) -> None:
    import shutil

    folder = Path(shutil.copytree(tiny / "bert", tmp_path / "model"))
    change(
        folder / "1_SpladePooling" / "config.json",
        pooling_strategy=pooling,
        activation_function=activation,
    )
    export_onnx(str(folder), tmp_path / "onnx")
    ours = DocumentEncoder.load(str(tmp_path / "onnx")).encode(TEXTS).to_dense()
    theirs = DocumentEncoder.load(str(folder), device="cpu").encode(TEXTS).to_dense()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_wrong_use(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="exists already"):
        export_onnx(str(tiny / "bert"), tmp_path)
    with pytest.raises(ModelError, match="no ONNX graph"):
        DocumentEncoder.load(str(tiny / "bert"), backend="onnx")
    with pytest.raises(SettingsError, match="int8"):
        DocumentEncoder.load(str(tiny / "bert"), dtype="int8")
