"""Folders that are no plain safetensors model: exported to ONNX, and taken as a base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder

from splade_os import DocumentEncoder
from splade_os.encoding import read_layout
from splade_os.encoding.resolve import model_hash
from splade_os.errors import ModelError
from splade_os.export.onnx import export_onnx
from splade_os.export.torchscript import export_torchscript
from splade_os.training.loading import load_model
from splade_os.training.recipe import ModelPart
from tests.encoding import folders
from tests.encoding.test_slow_tokenizers import MECAB, japanese_model
from tests.tiny_models import TEXTS

FOLDERS: dict[str, Callable[[Path, Path], Path]] = {
    "adapter": folders.adapter,
    "pickled": folders.pickled,
    "japanese": lambda tiny, folder: japanese_model(folder, **MECAB["basic"]),
}


@pytest.mark.parametrize("name", ["normalised", "lexical_on_both", "lexical_of_its_own"])
def test_what_stands_behind_the_pooling(tiny: Path, tmp_path: Path, name: str) -> None:
    """A graph ends at the pooling; what comes then is done behind it, and is part of the hash."""
    folder = getattr(folders, name)(tiny, tmp_path / "model")
    document = read_layout(folder).document
    plain = replace(document, steps=())
    assert (model_hash(document) != model_hash(plain)) == bool(document.steps)
    expected = SparseEncoder(str(folder), device="cpu").encode_document(TEXTS).to_dense().numpy()
    export_onnx(str(folder), tmp_path / "onnx")
    graph = DocumentEncoder.load(str(tmp_path / "onnx"), backend="onnx")
    np.testing.assert_allclose(graph.encode(TEXTS).to_dense(), expected, atol=1e-4)
    if name == "lexical_on_both":
        with pytest.raises(ModelError, match="keeps the tokens of a text alone"):
            export_torchscript(str(folder), tmp_path / "script")
        return
    assert export_torchscript(str(folder), tmp_path / "script") < 1e-4


def test_one_graph_for_two_poolings_is_refused(tiny: Path, tmp_path: Path) -> None:
    folder = folders.pooled_otherwise(tiny, tmp_path / "model")
    with pytest.raises(ModelError, match="its graph holds one pooling"):
        export_onnx(str(folder), tmp_path / "onnx")


@pytest.mark.parametrize("kind", FOLDERS)
def test_exported_and_trainable(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("SPLADE_OS_CACHE", str(tmp_path / "cache"))
    folder = FOLDERS[kind](tiny, tmp_path / "model")
    texts = [*TEXTS, "東京大学の研究は日本語の文書検索"]
    expected = DocumentEncoder.load(str(folder), device="cpu", backend="torch").encode(texts)
    checks = export_onnx(str(folder), tmp_path / "onnx")
    graph = DocumentEncoder.load(str(tmp_path / "onnx"), backend="onnx")
    np.testing.assert_allclose(
        graph.encode(texts).to_dense(), expected.to_dense(), rtol=1e-4, atol=1e-4
    )
    small = DocumentEncoder.load(str(tmp_path / "onnx"), backend="onnx", dtype="int8")
    dense, exact = small.encode(texts).to_dense(), expected.to_dense()
    assert 0 < np.abs(dense - exact)[exact > 0].mean() / exact[exact > 0].mean() < 0.2
    assert {check.precision for check in checks} == {"float32", "int8"}
    model = load_model(ModelPart(base=str(folder)))
    weights = model.document.decoder.weight
    assert torch.isfinite(weights).all() and weights.requires_grad
