"""Haystack's components, alone and in pipelines that are saved and loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from splade_os import DocumentEncoder, Index
from splade_os.engines import Engine
from splade_os.errors import InputError, SettingsError
from splade_os.online.results import DocumentError
from tests.integrations.conftest import framework

framework("haystack")
from haystack import Document, Pipeline  # noqa: E402
from haystack.components.writers import DocumentWriter  # noqa: E402
from haystack.dataclasses import ByteStream, SparseEmbedding  # noqa: E402
from haystack.errors import FilterError  # noqa: E402
from haystack.utils import Secret  # noqa: E402

from splade_os.integrations.haystack import (  # noqa: E402
    SpladeDocumentEmbedder,
    SpladeDocumentStore,
    SpladeRetriever,
    SpladeTextEmbedder,
)

SHOES = [
    Document(id="1", content="red shoes", meta={"price": 10, "shop": "the north"}),
    Document(id="2", content="blue shoes", meta={"price": 12.5, "shop": "the south"}),
    Document(id="3", content="a boat", meta={"price": 900, "shop": "the south"}),
]


@pytest.fixture
def store(engine_url: str, engine: Engine, index: str) -> Iterator[SpladeDocumentStore]:
    made = SpladeDocumentStore(engine_url, index)
    yield made
    made.passages.close()


def test_embedders() -> None:
    (shoe,) = SpladeDocumentEmbedder(meta_fields_to_embed=["shop"]).run(SHOES[:1])["documents"]
    ids, weights = DocumentEncoder.load("starter").encode(["the north\nred shoes"]).row(0)
    assert shoe.sparse_embedding.indices == ids.tolist()
    assert np.allclose(shoe.sparse_embedding.values, weights) and SHOES[0].sparse_embedding is None
    asked = SpladeTextEmbedder(query_mode="idf").run("red shoes")["sparse_embedding"]
    assert len(asked.indices) == 2
    with pytest.raises(TypeError, match="SpladeDocumentEmbedder"):
        SpladeTextEmbedder().run(SHOES)
    with pytest.raises(TypeError, match="list of Haystack's documents"):
        SpladeDocumentEmbedder().run("red shoes")
    with pytest.raises(SettingsError, match="'encoder' or 'idf'"):
        SpladeTextEmbedder(query_mode="dense")


def test_pipeline_with_embedders(
    store: SpladeDocumentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The given vectors are written as they are."""
    module = "splade_os.integrations.haystack"
    monkeypatch.setenv("HAYSTACK_DESERIALIZATION_ALLOWLIST", module)  # for Pipeline.loads
    indexing = Pipeline()
    indexing.add_component("embedder", SpladeDocumentEmbedder())
    indexing.add_component("writer", DocumentWriter(store))
    indexing.connect("embedder.documents", "writer.documents")
    loaded = Pipeline.loads(indexing.dumps())
    assert loaded.run({"embedder": {"documents": SHOES}})["writer"]["documents_written"] == 3
    searching = Pipeline()
    searching.add_component("embedder", SpladeTextEmbedder())
    searching.add_component("retriever", SpladeRetriever(store, top_k=2))
    searching.connect("embedder.sparse_embedding", "retriever.query_sparse_embedding")
    found = Pipeline.loads(searching.dumps()).run({"embedder": {"text": "red shoes"}})
    documents = found["retriever"]["documents"]
    assert [document.id for document in documents] == ["1", "2"]
    by_text = store.search("red shoes", top_k=2, mode="encoder")
    assert documents[0].score == pytest.approx(by_text[0].score, rel=1e-2)
    moon = Document(id="9", content="x", sparse_embedding=SparseEmbedding([4231], [2.0]))
    store.write_documents([moon])
    (hit,) = store.search(SparseEmbedding([4231], [1.5]))
    assert (hit.id, hit.score) == ("9", 3.0)
    with pytest.raises(InputError, match="has the id 99999"):
        store.search(SparseEmbedding([99999], [1.0]))


def test_retriever(store: SpladeDocumentStore) -> None:
    assert SpladeRetriever(store).run("red")["documents"] == []  # there is no index yet
    store.write_documents(SHOES)
    south = {"field": "meta.shop", "operator": "==", "value": "the south"}
    dear = {"field": "meta.price", "operator": ">", "value": 12}
    both = {"operator": "AND", "conditions": [south, dear]}
    one = {"operator": "AND", "conditions": [both, {"field": "id", "operator": "!=", "value": "3"}]}
    for mode in ("idf", "encoder", "bm25", "hybrid"):
        retriever = SpladeRetriever(store, filters=dear, mode=mode, filter_policy="merge")
        found = retriever.run("shoes boat", filters=one)["documents"]
        assert [document.id for document in found] == ["2"]
        assert found[0].score > 0 and found[0].meta == SHOES[1].meta
    again = SpladeRetriever.from_dict(retriever.to_dict())
    asked = asyncio.run(again.run_async(query="shoes boat", filters=one))
    assert asked["documents"] == found
    assert len(again.run("red shoes boat", top_k=1)["documents"]) == 1
    for wrong in ({}, {"query": "x", "query_sparse_embedding": SparseEmbedding([1], [1.0])}):
        with pytest.raises(SettingsError, match="or else its sparse embedding"):
            again.run(**wrong)
    with pytest.raises(SettingsError, match="no mode 'dense'"):
        SpladeRetriever(store, mode="dense")
    with pytest.raises(SettingsError, match="searches a SpladeDocumentStore"):
        SpladeRetriever("docs")


def test_what_is_kept_and_not_searched(store: SpladeDocumentStore) -> None:
    blob = ByteStream(b"\x00\xff", meta={"a": 1}, mime_type="image/png")
    odd = Document(id="1", content="red", embedding=[0.5, 1.0], blob=blob, meta={"a": {"b": [1]}})
    store.write_documents([odd, Document(id="2", meta={"only": "metadata"})])
    assert sorted(store.filter_documents(), key=lambda d: d.id)[0] == odd
    where = {"field": "meta.only", "operator": "==", "value": "metadata"}
    (other,) = store.filter_documents(where)
    assert (other.id, other.content) == ("2", None)


def test_one_that_cannot_be_written_stops_no_other(store: SpladeDocumentStore) -> None:
    given = SparseEmbedding([4231], [2.0])
    documents = [Document(id="x" * 600, content="a"), *SHOES[:1]]
    documents += [Document(id="9", content="b", sparse_embedding=given)]
    with pytest.raises(DocumentError, match=r"1 of 3 documents .* longer than 512 bytes"):
        store.write_documents(documents)
    assert {document.id for document in store.filter_documents()} == {"1", "9"}


def test_an_index_of_others(store: SpladeDocumentStore, engine_url: str, index: str) -> None:
    """Its fields are metadata, and filtered by their names."""
    with Index(engine_url, index, text_fields=["title", "body"]) as documents:
        documents.upsert({"_id": "1", "title": "red", "body": "shoes", "shop": "the north"})
        documents.refresh()
    (found,) = store.search("red", mode="idf")
    assert (found.content, found.meta) == ("red shoes", {"shop": "the north"})
    if engine_url.startswith("http"):
        for value, count in (("the north", 1), ("north", 0)):
            where = {"field": "meta.shop", "operator": "==", "value": value}
            assert len(store.filter_documents(where)) == count
        with pytest.raises(SettingsError, match="text field 'title'"):
            store.filter_documents({"field": "meta.title", "operator": "==", "value": "red"})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"field": "meta.a", "operator": "~", "value": 1}, "no operator '~'"),
        ({"operator": "XOR", "conditions": []}, "no operator 'XOR'"),
        ({"field": "meta.a", "operator": "==", "value": [1]}, "take 'in'"),
        ({"field": "meta.a", "operator": ">", "value": True}, "numbers and dates"),
        ({"field": "id", "operator": ">", "value": "1"}, "Ids are compared by"),
        ({"operator": "AND", "conditions": ["x"]}, "is a dict"),
    ],
)
def test_wrong_filters(wrong: dict[str, Any], said: str, store: SpladeDocumentStore) -> None:
    with pytest.raises(FilterError, match=said):
        store.filter_documents(wrong)


def test_secrets_are_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")
    secret = Secret.from_env_var("SHOP_PASSWORD")
    store = SpladeDocumentStore("https://x:9200", "docs", username="me", password=secret)
    saved = store.to_dict()
    assert "hunter2" not in str(saved) and "SHOP_PASSWORD" in str(saved)
    assert SpladeDocumentStore.from_dict(saved).to_dict() == saved
    with pytest.raises(ValueError, match="Cannot serialize"):
        SpladeDocumentStore("https://x:9200", password=Secret.from_token("hunter2")).to_dict()
