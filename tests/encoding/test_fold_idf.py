"""The IDF table folded into document weights, against sentence-transformers' own parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from sentence_transformers import SparseEncoder

from splade_os import DocumentEncoder
from splade_os.errors import ModelError
from tests import tiny_models


def test_stored_weight_is_idf_times_document_weight(tiny: Path) -> None:
    model = tiny / "router"
    table = load_file(model / "query_0_SparseStaticEmbedding" / "model.safetensors")["weight"]
    documents = SparseEncoder(str(model), device="cpu").encode_document(tiny_models.TEXTS)
    expected = documents.to_dense().numpy() * np.maximum(table.reshape(-1), 0)
    encoder = DocumentEncoder.load(str(model), device="cpu", dtype="float32", fold_idf=True)
    batch = encoder.encode(tiny_models.TEXTS)
    np.testing.assert_allclose(batch.to_dense(), expected, atol=1e-5)
    assert (batch.values > 0).all() and batch.nnz == np.count_nonzero(expected)


def test_index_remembers_it(tiny: Path) -> None:
    model = str(tiny / "router")
    plain = DocumentEncoder.load(model, device="cpu").identity
    folded = DocumentEncoder.load(model, device="cpu", fold_idf=True).identity
    assert "fold idf" in (folded.difference(plain) or "")
    again = DocumentEncoder.load(model, device="cpu", **folded.options().model_dump()).identity
    assert again == folded and not plain.options().fold_idf


def test_needs_a_table(tiny: Path) -> None:
    with pytest.raises(ModelError, match="no IDF table to fold") as caught:
        DocumentEncoder.load(str(tiny / "bert"), device="cpu", fold_idf=True)
    assert "--fold-idf" in str(caught.value)
