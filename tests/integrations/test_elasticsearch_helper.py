"""elasticsearch-py's own VectorStore writes and asks; SearchClient finds the same."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import elasticsearch
import pytest
from elasticsearch.helpers.vectorstore import VectorStore

from splade_os import EXACT, SearchClient, connect
from splade_os.errors import IndexNotFoundError, SettingsError
from splade_os.integrations.elasticsearch import SpladeEmbeddings, SpladeStrategy


@pytest.fixture
def store(elasticsearch_url: str) -> Iterator[VectorStore]:
    embeddings = SpladeEmbeddings()
    name = f"test-{uuid.uuid4().hex[:12]}"
    made = VectorStore(
        elasticsearch.Elasticsearch(elasticsearch_url),
        index=name,
        retrieval_strategy=SpladeStrategy(embeddings),
        embedding_service=embeddings,
        text_field="text",
        vector_field="splade_os_vector",
        user_agent="test",
    )
    yield made
    made.close()
    engine = connect(elasticsearch_url)
    with contextlib.suppress(IndexNotFoundError):
        engine.delete_index(name)
    engine.close()


def test_vector_store(store: VectorStore, elasticsearch_url: str) -> None:
    texts = ["red shoes", "blue shoes", "a boat."]
    store.add_texts(texts, ids=["1", "2", "3"], metadatas=[{"n": i} for i in range(3)])
    found = store.search(query="red footwear", k=3)
    with SearchClient(elasticsearch_url, store.index) as client:
        expected = client.search("red footwear", 3, "encoder", query_pruning=EXACT)
        assert [hit["_id"] for hit in found] == [hit.id for hit in expected]
        scores = [hit.score for hit in expected]
        assert [hit["_score"] for hit in found] == pytest.approx(scores)
        assert client.search("boat", 1, "bm25")[0].id == "3"
    only = store.search(query="red footwear", filter=[{"term": {"metadata.n": 1}}])
    assert [hit["_id"] for hit in only] == ["2"]
    assert only[0]["_source"]["metadata"] == {"n": 1}
    assert store.search(query=" ") == []  # no term: not all documents
    with pytest.raises(SettingsError, match="is list"):
        store.search(query_vector=[0.1])
