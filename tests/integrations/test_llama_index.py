"""LlamaIndex's retriever, vector store and sparse embedding; its own filters are the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from splade_os import (
    AsyncSearchClient,
    DocumentEncoder,
    Index,
    SearchClient,
    load_query_encoder,
)
from splade_os.engines import Engine
from splade_os.errors import SettingsError
from tests.integrations.conftest import framework

framework("llama_index.core")
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex  # noqa: E402
from llama_index.core.schema import (  # noqa: E402
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.types import (  # noqa: E402
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn  # noqa: E402

from splade_os.integrations.llama_index import (  # noqa: E402
    SpladeRetriever,
    SpladeSparseEmbedding,
    SpladeVectorStore,
)


def node(id: str, text: str, source: str, **metadata: Any) -> TextNode:
    made = TextNode(id_=id, text=text, metadata=metadata)
    made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=source)
    return made


NODES = [
    node("1", "red shoes", "a", price=10, shop="the north", tags=["x", "y"]),
    node("2", "blue shoes", "a", price=12.5, shop="the south", tags=["y"]),
    node("3", "a boat", "b", price=900, shop="the south"),
]


@pytest.fixture
def store(engine: Engine, index: str) -> Iterator[SpladeVectorStore]:
    made = SpladeVectorStore(index=index, engine=engine)
    yield made
    made.close()


def test_vector_store(store: SpladeVectorStore) -> None:
    asked = VectorStoreQuery(query_str="red shoes", similarity_top_k=2)
    assert store.query(asked).ids == [] and store.get_nodes() == []  # there is no index yet
    assert store.add(NODES) == ["1", "2", "3"]
    found = store.query(asked)
    assert found.ids == ["1", "2"] and found.similarities[0] > found.similarities[1] > 0
    assert found.nodes == NODES[:2]
    asked.filters = MetadataFilters(filters=[MetadataFilter(key="shop", value="the south")])
    for mode in ("default", "sparse", "hybrid", "text_search"):
        asked.mode = VectorStoreQueryMode(mode)
        assert store.query(asked).ids == ["2"], mode
    asked = VectorStoreQuery(query_str="boat shoes", doc_ids=["b"], similarity_top_k=5)
    assert store.query(asked).ids == ["3"]
    asked = VectorStoreQuery(query_str="boat shoes", node_ids=["2"], similarity_top_k=5)
    assert asyncio.run(store.aquery(asked)).ids == ["2"]
    store.delete("a")
    assert [each.node_id for each in store.get_nodes()] == ["3"]
    asyncio.run(store.async_add(NODES))
    store.delete_nodes(["1", "none"])
    assert {each.node_id for each in store.get_nodes(["1", "2"])} == {"2"}
    store.clear()
    assert store.get_nodes() == []


def test_alpha(store: SpladeVectorStore) -> None:
    """1 is the sparse half, 0 BM25: their scores are those of these modes."""
    store.add(NODES)
    for alpha, mode in ((1.0, "sparse"), (0.0, "text_search")):
        asked = VectorStoreQuery(query_str="red shoes", similarity_top_k=3, alpha=alpha)
        asked.mode = VectorStoreQueryMode.HYBRID
        hybrid = store.query(asked)
        asked.mode = VectorStoreQueryMode(mode)
        alone = store.query(asked)
        scores = dict(zip(hybrid.ids, hybrid.similarities, strict=True))
        for id, score in zip(alone.ids, alone.similarities, strict=True):
            assert scores[id] == pytest.approx(score, rel=1e-5)


def _filters() -> list[MetadataFilters]:
    single = [
        MetadataFilter(key="price", value=10),
        MetadataFilter(key="price", value=10, operator=FilterOperator.NE),
        MetadataFilter(key="price", value=12, operator=FilterOperator.GT),
        MetadataFilter(key="price", value=12.5, operator=FilterOperator.LTE),
        MetadataFilter(key="shop", value="the"),
        MetadataFilter(key="shop", value=["the north", "x"], operator=FilterOperator.IN),
        MetadataFilter(key="shop", value=["the north"], operator=FilterOperator.NIN),
        MetadataFilter(key="tags", value="y", operator=FilterOperator.CONTAINS),
        MetadataFilter(key="tags", value=["x", "z"], operator=FilterOperator.ANY),
        MetadataFilter(key="tags", value=["x", "y"], operator=FilterOperator.ALL),
        MetadataFilter(key="tags", value=None, operator=FilterOperator.IS_EMPTY),
    ]
    pair = [single[0], single[5]]
    return [MetadataFilters(filters=[each]) for each in single] + [
        MetadataFilters(filters=pair, condition=condition) for condition in FilterCondition
    ]


def test_filters(store: SpladeVectorStore) -> None:
    store.add(NODES)
    metadata = {each.node_id: each.metadata for each in NODES}
    for filters in _filters():
        passes = build_metadata_filter_fn(metadata.__getitem__, filters)
        expected = {id for id in metadata if passes(id)}
        assert {each.node_id for each in store.get_nodes(filters=filters)} == expected, filters
    inner, outer = _filters()[1], MetadataFilter(key="shop", value="the south")
    nested = MetadataFilters(filters=[inner, outer], condition=FilterCondition.AND)
    assert {each.node_id for each in store.get_nodes(filters=nested)} == {"2", "3"}


def test_mistakes(store: SpladeVectorStore) -> None:
    part = MetadataFilter(key="shop", value="nor", operator=FilterOperator.TEXT_MATCH)
    with pytest.raises(SettingsError, match="cannot filter 'shop' by 'text_match'"):
        store.get_nodes(filters=MetadataFilters(filters=[part]))
    with pytest.raises(SettingsError, match="no text"):
        store.query(VectorStoreQuery(query_embedding=[0.1]))
    with pytest.raises(SettingsError, match="mode 'mmr'"):
        store.query(VectorStoreQuery(query_str="x", mode=VectorStoreQueryMode.MMR))
    with pytest.raises(SettingsError, match="Neither ids nor filters"):
        store.delete_nodes()
    with pytest.raises(SettingsError, match="nothing to search"):
        SpladeRetriever()


def test_as_an_index_of_llama_index(store: SpladeVectorStore) -> None:
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex(NODES, storage_context=context, embed_model=MockEmbedding(2))
    for mode in ("default", "sparse", "hybrid"):
        retriever = index.as_retriever(vector_store_query_mode=mode, similarity_top_k=1)
        (found,) = retriever.retrieve("red footwear")
        assert found.node.node_id == "1" and found.score > 0
    index.delete_ref_doc("a")
    assert [each.node_id for each in store.get_nodes()] == ["3"]


def test_retriever(engine: Engine, engine_url: str, index: str) -> None:
    """Of an index that LlamaIndex did not write."""
    with Index(index=index, engine=engine, text_fields=["title", "body"]) as documents:
        documents.upsert({"_id": "1", "title": "red", "body": "shoes", "price": 10})
        documents.upsert({"_id": "2", "title": "a boat", "body": "", "price": 900})
        documents.refresh()
    client = SearchClient(index=index, engine=engine)
    (found,) = SpladeRetriever(client, similarity_top_k=1).retrieve("red footwear")
    assert (found.node.node_id, found.node.text) == ("1", "red shoes")
    assert found.node.metadata == {"price": 10}
    assert found.score == client.search("red footwear", 1)[0].score
    dear = SpladeRetriever(client, search_kwargs={"filter": {"range": {"price": {"gt": 100}}}})
    assert [each.node.node_id for each in asyncio.run(dear.aretrieve("shoe boat"))] == ["2"]
    if engine_url.startswith("http"):

        async def ask() -> Any:
            async with AsyncSearchClient(engine_url, index) as other:
                retriever = SpladeRetriever(async_client=other, similarity_top_k=1)
                with pytest.raises(SettingsError, match="asynchronous client alone"):
                    retriever.retrieve("x")
                return await retriever.aretrieve("red footwear")

        assert asyncio.run(ask()) == [found]


def test_sparse_embedding() -> None:
    embedding = SpladeSparseEmbedding()
    (text,) = embedding.get_text_embedding_batch(["red shoes"])
    ids, weights = DocumentEncoder.load("starter").encode(["red shoes"]).row(0)
    assert text == pytest.approx(dict(zip(ids.tolist(), weights.tolist(), strict=True)))
    ids, weights = load_query_encoder("starter", "encoder").encode(["red shoes"]).row(0)
    asked = dict(zip(ids.tolist(), weights.tolist(), strict=True))
    assert embedding.get_query_embedding("red shoes") == pytest.approx(asked)
    alone = SpladeSparseEmbedding(query_mode="idf").get_query_embedding("red shoes")
    assert len(alone) == 2 and asyncio.run(embedding.aget_text_embedding("red shoes")) == text
