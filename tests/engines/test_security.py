"""TLS and credentials, on an Elasticsearch node with its security on."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from splade_os import AsyncSearchClient, SearchClient, connect
from splade_os.errors import AuthenticationError, EngineError, EngineUnavailableError
from splade_os.local import node
from splade_os.local.artifacts import find_release
from splade_os.local.cluster import _free_ports
from splade_os.local.distribution import prepare
from splade_os.local.progress import silent
from splade_os.local.state import cluster_dir
from tests.search.test_search import fill

USER, PASSWORD = "elastic", "correct horse battery"


@dataclass(frozen=True)
class Secured:
    url: str
    ca: str
    other_ca: str

    @property
    def options(self) -> dict[str, Any]:
        return {"username": USER, "password": PASSWORD, "ca_certs": self.ca}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    ca, other = trustme.CA(), trustme.CA()
    server = ca.issue_cert("localhost", "127.0.0.1")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    other.cert_pem.write_to_path(str(folder / "other.pem"))
    name = f"pytest-{os.getpid()}-secured"
    (port,) = _free_ports(1)
    plan = node.NodePlan(
        "node-1",
        cluster_dir(name) / "node-1",
        prepare("elasticsearch", find_release("elasticsearch"), silent),
        "640m",
        port,
        [port],
        name,
        "elasticsearch",
        settings={
            "xpack.security.enabled": "true",
            "xpack.security.http.ssl.enabled": "true",
            "xpack.security.http.ssl.key": "tls/key.pem",
            "xpack.security.http.ssl.certificate": "tls/cert.pem",
        },
        secrets={"bootstrap.password": PASSWORD},
        files={
            "tls/key.pem": server.private_key_pem.bytes(),
            "tls/cert.pem": server.cert_chain_pems[0].bytes(),
        },
    )
    started = node.start(plan)
    try:
        place = Secured(
            f"https://localhost:{port}", str(folder / "ca.pem"), str(folder / "other.pem")
        )
        _wait(place, started)
        yield place
    finally:
        node.stop(started)
        import shutil

        shutil.rmtree(cluster_dir(name), ignore_errors=True)


def _wait(place: Secured, started: Any) -> None:
    context = ssl.create_default_context(cafile=place.ca)
    for _ in range(240):
        assert node.is_alive(started), node.tail(started, 20)
        try:
            urllib.request.urlopen(place.url, context=context, timeout=2)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(node.tail(started, 20))


def test_the_right_credentials(secured: Secured, tiny: Path) -> None:
    from elasticsearch import Elasticsearch

    engine = connect(secured.url, **secured.options)
    fill(engine, "secured", tiny / "router", 20)
    text = "cat and dog in the red sun"
    expected = [hit.id for hit in SearchClient(engine=engine, index="secured").search(text)]
    assert expected
    client = SearchClient(secured.url, "secured", **secured.options)
    assert [hit.id for hit in client.search(text)] == expected

    async def work() -> None:
        async with AsyncSearchClient(secured.url, "secured", **secured.options) as other:
            assert [hit.id for hit in await other.search(text)] == expected

    asyncio.run(work())
    theirs = Elasticsearch(secured.url, basic_auth=(USER, PASSWORD), ca_certs=secured.ca)
    client = SearchClient(index="secured", client=theirs)
    assert [hit.id for hit in client.search(text)] == expected
    theirs.close()
    insecure = connect(secured.url, username=USER, password=PASSWORD, verify_certs=False)
    assert insecure.count("secured") == 20


def test_wrong_credentials(secured: Secured) -> None:
    for options in ({"username": USER, "password": "wrong"}, {"api_key": "bm90OmFrZXk="}, {}):
        engine = connect(secured.url, ca_certs=secured.ca, **options)
        for call in (engine.info, lambda engine=engine: engine.index_meta("x")):  # type: ignore[misc]
            with pytest.raises(AuthenticationError, match="SPLADE_OS_PASSWORD") as caught:
                call()
            assert caught.value.status in (401, 403)
            assert "wrong" not in str(caught.value)

    async def work() -> None:
        options = {**secured.options, "password": "wrong"}
        async with AsyncSearchClient(secured.url, "x", **options) as client:
            with pytest.raises(AuthenticationError):
                await client.search("cat")

    asyncio.run(work())


def test_certificate_that_is_not_trusted(secured: Secured) -> None:
    for ca in (None, secured.other_ca):
        with pytest.raises(EngineUnavailableError, match="--ca-certs"):
            connect(secured.url, username=USER, password=PASSWORD, ca_certs=ca).info()

    async def work() -> None:
        options = {**secured.options, "ca_certs": secured.other_ca}
        async with AsyncSearchClient(secured.url, "x", **options) as client:
            with pytest.raises(EngineUnavailableError, match="--ca-certs"):
                await client.search("cat")

    asyncio.run(work())


def test_plain_http_to_a_tls_port(secured: Secured) -> None:
    with pytest.raises(EngineError) as caught:
        connect(secured.url.replace("https", "http"), username=USER, password=PASSWORD).info()
    assert "https" in str(caught.value)


def test_api_key_is_sent_as_elasticsearch_wants_it() -> None:
    """By the header: the nodes that can be had here do not issue keys."""
    seen: list[str | None] = []

    class Recorder(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["authorization"])
            self.send_error(401)

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(AuthenticationError):
            connect(f"http://127.0.0.1:{server.server_port}", api_key="aWQ6a2V5").info()
    finally:
        server.shutdown()
        server.server_close()
    assert seen == ["ApiKey aWQ6a2V5"]
