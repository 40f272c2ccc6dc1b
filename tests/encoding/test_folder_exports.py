"""Folders that are no plain safetensors model: exported to ONNX, and taken as a base."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from splade_os import DocumentEncoder
from splade_os.export.onnx import export_onnx
from splade_os.training.loading import load_model
from splade_os.training.recipe import ModelPart
from tests.encoding import folders
from tests.encoding.test_slow_tokenizers import MECAB, japanese_model
from tests.tiny_models import TEXTS


def pickled(tiny: Path, folder: Path) -> Path:
    shutil.copytree(tiny / "bert", folder)
    tensors = folder / "model.safetensors"
    torch.save(load_file(tensors), folder / "pytorch_model.bin")
    tensors.unlink()
    return folder


FOLDERS: dict[str, Callable[[Path, Path], Path]] = {
    "adapter": folders.adapter,
    "pickled": pickled,
    "japanese": lambda tiny, folder: japanese_model(folder, **MECAB["basic"]),
}


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
