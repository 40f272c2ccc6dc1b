"""Our output equals sentence-transformers' own, for every shape and era of a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SparseEncoder

from splade_os.encoding import DocumentEncoder, load_query_encoder
from splade_os.vectors import SparseBatch
from tests.tiny_models import TEXTS, change

# folder → folder that today's sentence-transformers can load with the same weights
ORACLES = {
    "bert": "bert",
    "distilbert": "distilbert",
    "router": "router",
    "bert-50": "bert-50",
    "distilbert-50": "distilbert-50",
    "router-50": "router-50",
    "router-pre": "router",
    "router-asym": "router",
    "router-json": "router",
}


def dense(rows: object) -> np.ndarray:
    return rows.to_dense().cpu().numpy()  # type: ignore[attr-defined]


def assert_same(ours: SparseBatch, theirs: np.ndarray) -> None:
    mine = ours.to_dense()
    assert mine.shape == theirs.shape
    assert np.abs(mine - theirs).max() <= 1e-5
    assert np.array_equal(mine > 0, theirs > 0)
    assert (mine > 0).any()


@pytest.mark.parametrize("name", ORACLES)
def test_documents(tiny: Path, name: str) -> None:
    theirs = dense(SparseEncoder(str(tiny / ORACLES[name]), device="cpu").encode_document(TEXTS))
    encoder = DocumentEncoder.load(str(tiny / name), device="cpu")
    assert_same(encoder.encode(TEXTS), theirs)
    assert 5 < (theirs > 0).sum(1).mean() < 120  # sparse, and not empty


@pytest.mark.parametrize("name", ORACLES)
def test_queries(tiny: Path, name: str) -> None:
    theirs = dense(SparseEncoder(str(tiny / ORACLES[name]), device="cpu").encode_query(TEXTS))
    mode = "idf" if name.startswith("router") else "encoder"
    assert_same(load_query_encoder(str(tiny / name), mode).encode(TEXTS), theirs)


@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_heads(tiny: Path, tmp_path: Path, pooling: str, activation: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny / "bert", folder)
    change(
        folder / "1_SpladePooling" / "config.json",
        pooling_strategy=pooling,
        activation_function=activation,
    )
    theirs = dense(SparseEncoder(str(folder), device="cpu").encode_document(TEXTS))
    ours = DocumentEncoder.load(str(folder), device="cpu").encode(TEXTS).to_dense()
    assert np.array_equal(ours > 0, theirs > 0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_settings_of_the_folder(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny / "bert", folder)
    change(
        folder / "config_sentence_transformers.json",
        prompts={"query": "search ", "document": "text "},
        max_active_dims=12,
    )
    oracle = SparseEncoder(str(folder), device="cpu")
    encoder = DocumentEncoder.load(str(folder), device="cpu")
    assert_same(encoder.encode(TEXTS), dense(oracle.encode_document(TEXTS)))
    assert encoder.encode(TEXTS).active_dims().max() == 12
    queries = load_query_encoder(str(folder), "encoder")
    assert_same(queries.encode(TEXTS), dense(oracle.encode_query(TEXTS)))


def test_batches_do_not_matter(tiny: Path) -> None:
    texts = [f"{'sparse ' * (i % 23)}document {i}" for i in range(64)]
    whole = DocumentEncoder.load(str(tiny / "bert"), device="cpu").encode(texts)
    small = DocumentEncoder.load(str(tiny / "bert"), device="cpu", batch_tokens=64)
    np.testing.assert_allclose(small.encode(texts).to_dense(), whole.to_dense(), atol=1e-5)
    for i in (0, 22, 63):
        alone = small.encode([texts[i]])
        np.testing.assert_allclose(alone.to_dense()[0], whole.to_dense()[i], atol=1e-5)
    assert len(small.encode([])) == 0


def test_starter_equals_sentence_transformers() -> None:
    from splade_os.encoding import resolve_model

    texts = [t for t in TEXTS if t] + ["Read the rows of a CSV file. " * 40]
    oracle = SparseEncoder(str(resolve_model("starter").folder), device="cpu")
    ours = DocumentEncoder.load("starter", device="cpu", lexical_weight=0)
    assert_same(ours.encode(texts), dense(oracle.encode_document(texts)))
    assert_same(load_query_encoder("starter").encode(texts), dense(oracle.encode_query(texts)))
