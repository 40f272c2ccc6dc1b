"""`AsyncSearchClient` does what `SearchClient` does; both take clients of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from splade_os import AsyncSearchClient, Cursor, Results, SearchClient
from splade_os.engines import Engine
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import (
    EngineUnavailableError,
    IndexNotFoundError,
    ModelMismatchError,
    SettingsError,
)
from tests.search.test_search import fill

TEXT = "cat and dog in the red sun"


@pytest.fixture
def url(engine: Engine, index: str, tiny: Path) -> Iterator[str]:
    if not isinstance(engine, ClusterEngine):
        pytest.skip("SQLite has no asynchronous engine")
    fill(engine, index, tiny / "router", 30)
    yield engine.url


def plain(results: Any) -> Any:
    return [(h.id, h.rank, pytest.approx(h.score), h.source, h.matched_words) for h in results]


def test_same_as_the_synchronous_one(url: str, index: str) -> None:
    client = SearchClient(url, index)

    async def work() -> None:
        async with AsyncSearchClient(url, index) as other:
            assert await other.meta() == client.meta
            for mode in ("idf", "encoder", "bm25", "hybrid"):
                expected = client.search(TEXT, 5, mode, explain=True)  # type: ignore[arg-type]
                got = await other.search(TEXT, 5, mode, explain=True)  # type: ignore[arg-type]
                assert plain(got) == plain(expected) and len(got)
                assert await other.build(TEXT, 5, mode) == client.build(TEXT, 5, mode)  # type: ignore[arg-type]
            many = await other.search_many([TEXT, "", TEXT], 3)
            assert [len(r) for r in many if isinstance(r, Results)] == [3, 0, 3]
            both = await asyncio.gather(*(other.search(TEXT, 5) for _ in range(20)))
            assert all(plain(one) == plain(client.search(TEXT, 5)) for one in both)
            scanned = [hit async for hit in other.scan(TEXT, page=7)]
            assert plain(scanned) == plain(client.scan(TEXT, page=7))
            page = await other.search(TEXT, 2, after=Cursor())
            assert page.following is not None
            await other.engine.close_cursor(page.following)

    asyncio.run(work())


def test_errors(url: str, index: str, tiny: Path) -> None:
    async def work() -> None:
        async with AsyncSearchClient(url, "nowhere") as client:
            with pytest.raises(IndexNotFoundError, match="nowhere"):
                await client.search(TEXT)
        async with AsyncSearchClient("http://localhost:1", index) as client:
            with pytest.raises(EngineUnavailableError, match="localhost:1"):
                await client.search(TEXT)
        async with AsyncSearchClient(url, index, model=str(tiny / "bert")) as client:
            with pytest.raises(ModelMismatchError):
                await client.search(TEXT)
        with pytest.raises(SettingsError, match="SearchClient"):
            AsyncSearchClient("sqlite:///x.db", index)
        with pytest.raises(SettingsError, match="Which index"):
            AsyncSearchClient(url)

    asyncio.run(work())


def test_clients_of_ones_own(url: str, index: str, engine: Engine) -> None:
    from elasticsearch import AsyncElasticsearch, Elasticsearch
    from opensearchpy import AsyncOpenSearch, OpenSearch

    info = engine.info()
    expected = plain(SearchClient(url, index).search(TEXT))
    clients: list[Any] = [OpenSearch(url)]
    others: list[Any] = [AsyncOpenSearch(url)]
    if info.distribution == "elasticsearch":  # its client of version 9 is refused by servers of 8
        clients.append(Elasticsearch(url))
        others.append(AsyncElasticsearch(url))

    def search(client: Any) -> Any:
        return plain(SearchClient(index=index, client=client).search(TEXT))

    async def work() -> None:
        for other in others:
            results = await AsyncSearchClient(index=index, client=other).search(TEXT)
            assert plain(results) == expected
            await other.close()

    for client in clients:
        if isinstance(client, Elasticsearch) and info.version.startswith("8."):
            with pytest.raises(Exception, match="elasticsearch<9"):
                search(client)
            others.pop()
        else:
            assert search(client) == expected
        client.close()
    asyncio.run(work())
    with pytest.raises(TypeError, match="no client of"):
        SearchClient(index=index, client=object())
    with pytest.raises(TypeError, match="use SearchClient"):
        AsyncSearchClient(index=index, client=OpenSearch(url))
