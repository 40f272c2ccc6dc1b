"""The retriever and the vector store of LangChain, and its own standard tests of both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from splade_os import AsyncSearchClient, Index, SearchClient
from splade_os.engines import Engine
from splade_os.errors import SettingsError
from tests.integrations.conftest import framework

framework("langchain_core")
from langchain_core.documents import Document  # noqa: E402
from langchain_core.embeddings import DeterministicFakeEmbedding  # noqa: E402

from splade_os.integrations.langchain import SpladeRetriever, SpladeVectorStore  # noqa: E402

SHOES = [
    Document(id="1", page_content="red shoes", metadata={"price": 10, "shop": "the north"}),
    Document(id="2", page_content="blue shoes", metadata={"price": 12.5, "shop": "the south"}),
    Document(id="3", page_content="a boat", metadata={"price": 900, "shop": "the south"}),
]


@pytest.fixture
def store(engine: Engine, index: str) -> Iterator[SpladeVectorStore]:
    made = SpladeVectorStore(index=index, engine=engine, mode="encoder")
    yield made
    made.passages.close()


@pytest.fixture
def client(engine: Engine, index: str) -> SearchClient:
    """Of an index that LangChain did not write, with two text fields."""
    with Index(index=index, engine=engine, text_fields=["title", "body"]) as documents:
        documents.upsert(
            {"_id": d.id, "title": d.page_content, "body": f"no. {d.id}", **d.metadata}
            for d in SHOES
        )
        documents.refresh()
    return SearchClient(index=index, engine=engine)


def test_retriever(client: SearchClient) -> None:
    retriever = SpladeRetriever(client=client, k=2)
    found = retriever.invoke("red shoes")
    expected = client.search("red shoes", 2)
    assert [(d.id, d.metadata["_score"]) for d in found] == [(h.id, h.score) for h in expected]
    assert found[0].page_content == "red shoes no. 1"
    assert found[0].metadata.keys() == {"price", "shop", "_score"}
    cheap = {"range": {"price": {"lt": 11}}}
    for mode in ("idf", "encoder", "bm25", "hybrid"):
        assert [d.id for d in retriever.invoke("shoes", mode=mode, filter=cheap)] == ["1"]
    (one,) = SpladeRetriever(client=client, search_kwargs={"filter": cheap}).invoke("shoes")
    assert one.id == "1"
    with pytest.raises(SettingsError, match="no mode 'dense'"):
        retriever.invoke("x", mode="dense")
    with pytest.raises(ValidationError, match="Give a client"):
        SpladeRetriever()


def test_retriever_async(client: SearchClient, engine: Engine, engine_url: str) -> None:
    async def ask() -> list[list[Document]]:
        answers = [await SpladeRetriever(client=client).ainvoke("red shoes", k=2)]
        if engine_url.startswith("http"):
            async with AsyncSearchClient(engine_url, client.index) as other:
                retriever = SpladeRetriever(async_client=other)
                answers.append(await retriever.ainvoke("red shoes", k=2))
                with pytest.raises(SettingsError, match="asynchronous client alone"):
                    retriever.invoke("red shoes")
        return answers

    expected = SpladeRetriever(client=client, k=2).invoke("red shoes")
    for answer in asyncio.run(ask()):
        assert answer == expected


def test_vector_store(store: SpladeVectorStore) -> None:
    assert store.add_documents(SHOES) == ["1", "2", "3"]
    (found,) = store.similarity_search("red shoes", k=1)
    assert found == SHOES[0]
    # numbers are compared as numbers though the first was whole, texts as a whole
    dearer = {"range": {"metadata.price": {"gt": 12, "lt": 13}}}
    assert store.similarity_search("red shoes", filter=dearer) == [SHOES[1]]
    south = {"term": {"metadata.shop": "the south"}}
    assert {d.id for d in store.similarity_search("shoes boat", filter=south)} == {"2", "3"}
    scored = store.similarity_search_with_score("red shoes", k=2)
    assert scored[0][1] > scored[1][1] > 0
    shares = [share for _, share in store.similarity_search_with_relevance_scores("red shoes")]
    assert shares == sorted(shares, reverse=True) and all(0 < share < 1 for share in shares)
    retriever = store.as_retriever(search_kwargs={"k": 1, "mode": "bm25"})
    assert [d.id for d in retriever.invoke("boat")] == ["3"]
    assert store.delete(["3", "none"])
    assert store.get_by_ids(["3", "2", "none", "1"]) == [SHOES[1], SHOES[0]]


def test_vector_store_mistakes(store: SpladeVectorStore, engine: Engine, index: str) -> None:
    with pytest.raises(SettingsError, match="2 texts, and 1 ids"):
        store.add_texts(["a", "b"], ids=["1"])
    with pytest.raises(SettingsError, match="No ids are given"):
        store.delete()
    with pytest.raises(SettingsError, match="not of an embedding"):
        SpladeVectorStore.from_texts(
            ["a"], DeterministicFakeEmbedding(size=2), index=index, engine=engine
        )
    assert store.passages.count() == 0
    made = SpladeVectorStore.from_texts(["red"], ids=["7"], index=index, engine=engine)
    assert made.get_by_ids(["7"])[0].page_content == "red"
    made.passages.close()
