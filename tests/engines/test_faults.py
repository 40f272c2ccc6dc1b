"""What goes wrong on the way to a real node, by a proxy in front of it that misbehaves."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from splade_os import AsyncSearchClient, SearchClient
from splade_os.engines import connect
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import (
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    IndexFormatError,
    SettingsError,
)
from tests.search.test_search import fill

TEXT = "cat and dog in the red sun"
Fault = Callable[[BaseHTTPRequestHandler], None]


class Proxy:
    """Forwards requests to a node; ``faults`` are taken first, one for each request. ``bytes_in``
    and ``bytes_out``: size and encoding of every body."""

    def __init__(self, target: str) -> None:
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self.bytes_in: list[tuple[int, str | None]] = []
        self.bytes_out: list[tuple[int, str | None]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else 40 ms a request

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                proxy.seen.append(f"{self.command} {self.path.split('?')[0]}")
                if proxy.faults:
                    proxy.faults.pop(0)(self)
                    return
                proxy.bytes_in.append((len(body), self.headers["content-encoding"]))
                headers = {
                    name: self.headers[name]
                    for name in ("content-type", "content-encoding", "accept-encoding")
                    if self.headers[name]
                }
                request = urllib.request.Request(
                    target + self.path, body or None, headers, method=self.command
                )
                try:
                    answer = urllib.request.urlopen(request)
                except urllib.error.HTTPError as error:
                    answer = error
                with answer:
                    kind, encoding = (
                        answer.headers[f"content-{name}"] for name in ("type", "encoding")
                    )
                    data = answer.read()
                    proxy.bytes_out.append((len(data), encoding))
                    reply(self, answer.status, data, kind, encoding)

            do_GET = do_POST = do_PUT = do_DELETE = forward  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def reply(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    kind: str = "application/json",
    encoding: str | None = None,
) -> None:
    handler.send_response(status)
    handler.send_header("content-type", kind)
    if encoding:
        handler.send_header("content-encoding", encoding)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def status(code: int) -> Fault:
    return lambda handler: reply(handler, code, b'{"error":{"type":"busy","reason":"later"}}')


def silence(seconds: float) -> Fault:
    def fault(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return fault


def cut(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"took"')
    handler.close_connection = True


def garbage(handler: BaseHTTPRequestHandler) -> None:
    reply(handler, 200, b"<html>a proxy's page</html>", "text/html")


@pytest.fixture(scope="module", params=["opensearch", "elasticsearch"])
def node_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(scope="module")
def filled(node_url: str, tiny: Path) -> Iterator[str]:
    engine = connect(node_url)
    fill(engine, "faults", tiny / "router", 30)
    yield "faults"
    engine.delete_index("faults")


@pytest.fixture
def proxy(node_url: str) -> Iterator[Proxy]:
    running = Proxy(node_url)
    yield running
    running.close()


@pytest.mark.parametrize("fault", [status(429), status(502), status(503), cut])
def test_what_is_put_off_is_sent_again(proxy: Proxy, filled: str, fault: Fault) -> None:
    client = SearchClient(proxy.url, filled)
    expected = [hit.id for hit in client.search(TEXT)]
    proxy.faults = [fault, fault]
    assert [hit.id for hit in client.search(TEXT)] == expected and not proxy.faults

    async def work() -> None:
        async with AsyncSearchClient(proxy.url, filled) as other:
            await other.search(TEXT)
            proxy.faults = [fault, fault]
            assert [hit.id for hit in await other.search(TEXT)] == expected and not proxy.faults

    asyncio.run(work())


def test_what_stays_put_off_is_an_error(proxy: Proxy, filled: str) -> None:
    engine = connect(proxy.url)
    engine.index_meta(filled)
    proxy.faults = [status(503)] * 9
    with pytest.raises(EngineError, match="503") as caught:
        engine.bulk(filled, b'{"delete":{"_id":"nobody"}}\n', attempts=2)
    assert caught.value.transient and len(proxy.faults) == 7


@pytest.mark.parametrize("code", [400, 404, 500])
def test_what_is_refused_is_not(proxy: Proxy, filled: str, code: int) -> None:
    client = SearchClient(proxy.url, filled)
    client.search(TEXT)
    proxy.seen.clear()
    proxy.faults = [status(code)]
    with pytest.raises(EngineError, match="later"):
        client.search(TEXT)
    assert len(proxy.seen) == 1


def test_a_slow_search_is_not_sent_twice(proxy: Proxy, filled: str) -> None:
    client = SearchClient(proxy.url, filled, timeout=0.5)
    client.search(TEXT)
    proxy.seen.clear()
    proxy.faults = [silence(2)]
    start = time.monotonic()
    with pytest.raises(EngineTimeoutError, match="in time"):
        client.search(TEXT)
    assert len(proxy.seen) == 1 and time.monotonic() - start < 1.9
    assert client.search(TEXT)


def test_what_is_no_search_engine(proxy: Proxy, filled: str) -> None:
    client = SearchClient(proxy.url, filled)
    client.search(TEXT)
    proxy.faults = [garbage]
    with pytest.raises(EngineError, match="is it a search engine"):
        client.search(TEXT)
    proxy.faults = [lambda handler: reply(handler, 200, b'{"version":{"number":"x"}}')] * 2
    with pytest.raises(EngineError):
        ClusterEngine(proxy.url).info()


def test_a_server_that_goes_away(node_url: str, filled: str) -> None:
    proxy = Proxy(node_url)
    client = SearchClient(proxy.url, filled)
    assert client.search(TEXT)
    proxy.close()
    start = time.monotonic()
    with pytest.raises(EngineUnavailableError, match="Nothing answers"):
        SearchClient(proxy.url, filled).search(TEXT)
    assert time.monotonic() - start < 5


def test_another_node_answers_for_a_dead_one(node_url: str, filled: str) -> None:
    nodes = [Proxy(node_url), Proxy(node_url)]
    urls = ",".join(["http://127.0.0.1:1", *(node.url for node in nodes)])
    expected = [hit.id for hit in SearchClient(node_url, filled).search(TEXT)]
    client = SearchClient(urls, filled)
    for _ in range(9):
        assert [hit.id for hit in client.search(TEXT)] == expected
    assert all(any("_search" in seen for seen in node.seen) for node in nodes)  # in turn
    (outcome,) = client.engine.bulk(filled, b'{"delete":{"_id":"nobody"}}\n', attempts=1)
    assert outcome.status == 404
    nodes[0].faults = [cut] * 99  # one more goes, in the midst of an answer
    for _ in range(4):
        assert [hit.id for hit in client.search(TEXT)] == expected

    async def work() -> None:
        async with AsyncSearchClient(urls, filled) as other:
            found = await asyncio.gather(*(other.search(TEXT) for _ in range(9)))
            assert [[hit.id for hit in results] for results in found] == [expected] * 9

    asyncio.run(work())
    for node in nodes:
        node.close()
    start = time.monotonic()
    with pytest.raises(EngineUnavailableError, match=r"http://127.0.0.1:1, http://127.0.0.1:2: "):
        connect("http://127.0.0.1:1, http://127.0.0.1:2/").info()
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "urls",
    [
        "http://one:9200,two:9200",
        "http://one:9200,https://two:9200",
        "http://u:p@one:9200,http://v:p@two:9200",
    ],
)
def test_urls_of_different_clusters(urls: str) -> None:
    with pytest.raises(SettingsError, match="one"):
        connect(urls)


def test_incomplete_answers_are_errors(proxy: Proxy, filled: str) -> None:
    client = SearchClient(proxy.url, filled)
    client.search(TEXT)
    failed = b'{"took":1,"timed_out":false,"_shards":{"total":2,"successful":1,"failed":1,'
    failed += b'"failures":[{"reason":{"reason":"disk"}}]},"hits":{"hits":[]}}'
    proxy.faults = [lambda handler: reply(handler, 200, failed)]
    with pytest.raises(EngineError, match=r"1 of 2 shards .*disk"):
        client.search(TEXT)
    late = b'{"took":1,"timed_out":true,"_shards":{"total":1,"failed":0},"hits":{"hits":[]}}'
    proxy.faults = [lambda handler: reply(handler, 200, late)]
    with pytest.raises(EngineTimeoutError, match="--search-timeout"):
        client.search(TEXT, timeout=1)


def test_closed_and_damaged_indices(node_url: str, tiny: Path) -> None:
    engine: Any = connect(node_url)
    fill(engine, "closed", tiny / "router", 5)
    try:
        engine.request("POST", "/closed/_close")
        with pytest.raises(EngineError, match="_open"):
            SearchClient(engine=engine, index="closed").search(TEXT)
    finally:
        engine.delete_index("closed")
    meta = {"splade_os": {"format": 1, "field": "splade"}}
    engine.request("PUT", "/damaged", {"mappings": {"_meta": meta}})
    try:
        with pytest.raises(IndexFormatError, match="damaged or of a newer version"):
            SearchClient(engine=engine, index="damaged").search(TEXT)
    finally:
        engine.request("DELETE", "/damaged")


def test_compressed(proxy: Proxy, tiny: Path) -> None:
    """gzip both ways, sync and async: the same answers, and large bodies are much smaller."""
    plain, packed = connect(proxy.url), connect(proxy.url, compress=True)
    sent = {}
    for name, engine in (("plain", plain), ("packed", packed)):
        proxy.bytes_in.clear()
        fill(engine, f"compress-{name}", tiny / "router", 200)
        sent[name] = max(proxy.bytes_in, key=lambda request: request[0])
    try:
        assert sent["plain"][1] is None and sent["packed"][1] == "gzip"
        assert sent["packed"][0] < 0.5 * sent["plain"][0]
        expected = SearchClient(engine=plain, index="compress-plain").search(TEXT, 100)
        found = SearchClient(engine=packed, index="compress-packed").search(TEXT, 100)
        assert [(h.id, h.score) for h in found] == [(h.id, h.score) for h in expected]
        assert proxy.bytes_out[-1][1] == "gzip"

        async def work() -> list[str]:
            options = {"compress": True}
            async with AsyncSearchClient(proxy.url, "compress-packed", **options) as client:
                return [hit.id for hit in await client.search(TEXT, 100)]

        assert asyncio.run(work()) == [hit.id for hit in expected]
        assert proxy.bytes_out[-1][1] == "gzip"
        proxy.faults = [status(503)]  # what was put off is sent as it was
        assert len(SearchClient(engine=packed, index="compress-packed").search(TEXT, 100))
    finally:
        for name in sent:
            plain.delete_index(f"compress-{name}")
