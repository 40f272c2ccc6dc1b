"""Sparse embeddings of LangChain: the vectors of our encoders."""

from __future__ import annotations

import pytest

from splade_os import DocumentEncoder
from tests.integrations.conftest import framework

framework("langchain_qdrant")
from langchain_qdrant import SparseEmbeddings  # noqa: E402

from splade_os.integrations.langchain_qdrant import SpladeSparseEmbeddings  # noqa: E402


def test_embeddings() -> None:
    embeddings = SpladeSparseEmbeddings(query_mode="idf")
    assert isinstance(embeddings, SparseEmbeddings)
    (mine,) = embeddings.embed_documents(["red shoes"])
    ids, weights = DocumentEncoder.load("starter").encode(["red shoes"]).row(0)
    assert mine.indices == ids.tolist() and mine.values == pytest.approx(weights.tolist())
    assert len(embeddings.embed_query("red shoes").indices) == 2
