"""Every family, pooling, precision and path: a padded batch = each text alone = transformers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoModelForMaskedLM

from splade_os.encoding.architecture import probe
from splade_os.encoding.cuda import CudaTransformer
from splade_os.encoding.onnx_backend import OnnxBackend
from splade_os.encoding.transformer import SpladeTransformer
from splade_os.errors import ModelError
from splade_os.export.graph import graph_of
from splade_os.export.int8 import quantise
from splade_os.export.onnx import _write_graph
from splade_os.training.model import TransformerSide
from tests.encoding.families import FAMILIES, POSITIONS, VOCABULARY, make, naive, part, texts

# mean error of weights, relative to their mean; the rest of fp32 is 1e-5 in every weight
ROUNDING = {torch.bfloat16: 0.05, torch.float16: 0.01}
PRECISIONS = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {family: make(family, root / family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("path", ["cpu", "gpu"])
@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_matrix(
    families: dict[str, Path],
    gpu: torch.device,
    family: str,
    pooling: str,
    path: str,
    dtype: torch.dtype,
) -> None:
    folder = families[family]
    kind, device = (CudaTransformer, gpu) if path == "gpu" else (SpladeTransformer, "cpu")
    model = kind(part(folder, family, pooling), torch.device(device), dtype)
    tokens = texts(model.architecture.pad_id)
    expected = naive(folder, tokens, pooling)
    assert 0.02 < (expected > 0).mean() < 1
    batch = model.encode(tokens, None).to_dense()
    alone = np.concatenate([model.encode([ids], None).to_dense() for ids in tokens])
    if dtype == torch.float32:
        np.testing.assert_allclose(batch, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(alone, expected, rtol=1e-5, atol=1e-5)
        return
    scale = expected[expected > 0].mean()
    for ours in (batch, alone):
        assert np.abs(ours - expected)[expected > 0].mean() < ROUNDING[dtype] * scale
    assert np.abs(batch - alone)[expected > 0].mean() < ROUNDING[dtype] * scale


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_onnx(families: dict[str, Path], tmp_path: Path, family: str, pooling: str) -> None:
    folder = Path(shutil.copytree(families[family], tmp_path / "model"))
    model = SpladeTransformer(part(folder, family, pooling), torch.device("cpu"), torch.float32)
    tokens = texts(model.architecture.pad_id)
    graph = folder / "onnx" / "model.onnx"
    graph.parent.mkdir()
    _write_graph(model, graph)
    (graph.parent / "manifest.json").write_text("{}")
    ours = OnnxBackend(graph, "float32")
    batch = ours.encode(tokens, None).to_dense()
    alone = np.concatenate([ours.encode([ids], None).to_dense() for ids in tokens])
    expected = naive(folder, tokens, pooling)
    np.testing.assert_allclose(batch, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(alone, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_found(families: dict[str, Path], family: str) -> None:
    """Positions against the model itself: the longest text runs, one token more does not (or the
    model has no table of positions)."""
    model = AutoModelForMaskedLM.from_pretrained(families[family]).eval()
    found = probe(model, family)
    assert found.vocabulary_size == found.input_size == VOCABULARY
    assert found.pad_id == model.config.pad_token_id
    decoder = {id(p) for p in model.get_output_embeddings().parameters()}
    body = {id(p) for p in model.base_model.parameters()}
    own = {id(p) for name in found.transform for p in model.get_submodule(name).parameters()}
    everything = {id(p) for p in model.parameters()}
    assert own - decoder == everything - body - decoder
    length = found.max_length
    assert length is not None and length <= POSITIONS
    ids = torch.full((1, length), 9)
    with torch.no_grad():
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
        if length < POSITIONS:  # positions that begin behind padding
            assert length == POSITIONS - model.config.pad_token_id - 1
            longer = torch.full((1, length + 1), 9)
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=longer, attention_mask=torch.ones_like(longer))


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_leaves_the_transform(families: dict[str, Path], tmp_path: Path, family: str) -> None:
    """Whatever the family calls it."""
    folder = families[family]
    model = SpladeTransformer(part(folder, family), torch.device("cpu"), torch.float32)
    exact, rounded = tmp_path / "model.onnx", tmp_path / "model_int8.onnx"
    _write_graph(model, exact)
    quantise(exact, rounded, model.architecture.transform)
    kinds: dict[bool, set[str]] = {True: set(), False: set()}
    matrices = {w.name for w in onnx.load(str(exact)).graph.initializer}
    names = {n.name for n in onnx.load(str(exact)).graph.node
             if n.op_type == "MatMul" and n.input[1] in matrices}  # fmt: skip
    for node in onnx.load(str(rounded)).graph.node:
        if node.name in names:
            inside = any(
                f"/{name.replace('.', '/')}/" in node.name for name in model.architecture.transform
            )
            kinds[inside].add(node.op_type)
    assert "MatMul" not in kinds[False] and kinds[False]
    assert kinds[True] == ({"MatMul"} if model.architecture.transform else set())


@pytest.mark.parametrize(("family", "own"), [("fnet", {}), ("convbert", {"embedding_size": 32})])
def test_padding_that_takes_part_is_refused(
    tmp_path: Path, family: str, own: dict[str, int]
) -> None:
    folder = make(family, tmp_path, own)
    with pytest.raises(ModelError, match="other vectors when it is padded"):
        SpladeTransformer(part(folder, family), torch.device("cpu"), torch.float32)


WHOLE: dict[str, dict[str, Any]] = {
    "esm": {"pad_token_id": 1, "mask_token_id": 4},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "deberta-v2": {"legacy": False},
}
"""Families whose head is no decoder that can be taken out."""


@pytest.mark.parametrize("family", WHOLE)
@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_heads_that_are_no_decoder_run_whole(
    tmp_path: Path, family: str, pooling: str, dtype: torch.dtype
) -> None:
    folder = make(family, tmp_path, WHOLE[family])
    model = SpladeTransformer(part(folder, family, pooling), torch.device("cpu"), dtype)
    assert not model.architecture.decoder
    tokens = texts(model.architecture.pad_id)
    expected = naive(folder, tokens, pooling)
    batch = model.encode(tokens, None).to_dense()
    if dtype == torch.float32:
        np.testing.assert_allclose(batch, expected, rtol=1e-5, atol=1e-5)
    else:
        active = expected > 0
        assert np.abs(batch - expected)[active].mean() < 0.08 * expected[active].mean()
    with pytest.raises(ModelError, match=f"ends in one decoder over the vocabulary.*{family}"):
        graph_of(model)
    mlm = AutoModelForMaskedLM.from_pretrained(folder)
    with pytest.raises(ModelError, match="Training needs a head that ends in one decoder"):
        TransformerSide(mlm, "relu", pooling)
