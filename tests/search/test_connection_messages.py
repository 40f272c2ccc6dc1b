"""What a client says where nothing answers, and where what it was given is something else."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from splade_os import AsyncIndex, AsyncSearchClient, Index, SearchClient
from splade_os.errors import EngineUnavailableError, SettingsError


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def failure(url: str, *, asynchronous: bool) -> str:
    async def run() -> None:
        async with AsyncSearchClient(url, "x", timeout=3) as client:
            await client.search("a")

    with pytest.raises(EngineUnavailableError) as told:
        if asynchronous:
            asyncio.run(run())
        else:
            with SearchClient(url, "x", timeout=3) as client:
                client.search("a")
    return f"{told.value} {told.value.hint}"


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "nowhere.invalid"])
def test_a_refused_connection_is_no_tls_problem(
    scheme: str, host: str, asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splade_os.engines.rest.retry.stop_after_attempt", _once)
    said = failure(f"{scheme}://{host}:{closed_port()}", asynchronous=asynchronous)
    assert "TLS" not in said and "--insecure" not in said and "ssl:" not in said and host in said


def _once(attempts: int) -> Any:
    from tenacity import stop_after_attempt

    return stop_after_attempt(1)


@pytest.mark.parametrize("make", [SearchClient, AsyncSearchClient, Index, AsyncIndex])
def test_an_index_in_the_place_of_the_url(make: Any) -> None:
    with pytest.raises(SettingsError) as told:
        make("products")
    assert "'products' stands where the URL comes" in str(told.value)
    assert "('http://localhost:9200', 'products')" in str(told.value.hint)
    with pytest.raises(SettingsError, match="Which index"):
        make("http://localhost:9200")


def test_ping(opensearch_url: str, elasticsearch_url: str, tmp_path: Path) -> None:
    dead = f"http://127.0.0.1:{closed_port()}"

    async def ping(url: str) -> bool:
        async with AsyncSearchClient(url, "x") as client:
            return await client.ping()

    for url in (opensearch_url, elasticsearch_url):
        with SearchClient(url, "x") as client:
            assert client.ping() is True
        assert asyncio.run(ping(url)) is True
    with SearchClient(dead, "x") as client:
        assert client.ping() is False
    assert asyncio.run(ping(dead)) is False
    with SearchClient(f"sqlite:///{tmp_path}/a.db", "x") as client:
        assert client.ping() is True
