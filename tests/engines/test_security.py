"""TLS and credentials, on an Elasticsearch node with its security on."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
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
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from splade_os import AsyncSearchClient, SearchClient, connect
from splade_os.engines.rest.cluster import AsyncClusterEngine, ClusterEngine
from splade_os.errors import (
    AuthenticationError,
    EngineError,
    EngineUnavailableError,
    SettingsError,
)
from splade_os.local import node
from splade_os.local.artifacts import find_release
from splade_os.local.cluster import _free_ports
from splade_os.local.distribution import prepare
from splade_os.local.progress import silent
from splade_os.local.state import cluster_dir
from tests.search.test_search import fill

USER, PASSWORD = "elastic", "correct horse battery"


LOADER = "loader"
"""A user whom the node knows by client certificate and by JWT."""
JWT_SECRET = "a secret of at least 32 bytes, for HMAC"
REALMS = "xpack.security.authc.realms"


@dataclass(frozen=True)
class Secured:
    url: str
    folder: Path

    @property
    def ca(self) -> str:
        return str(self.folder / "ca.pem")

    @property
    def other_ca(self) -> str:
        return str(self.folder / "other.pem")

    def fingerprint(self, name: str) -> str:
        """As openssl prints it."""
        der = ssl.PEM_cert_to_DER_cert((self.folder / f"{name}.pem").read_text())
        return hashlib.sha256(der).digest().hex(":").upper()

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
    server.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    for name, issuer in (("loader", ca), ("stranger", other)):
        client = issuer.issue_cert("loader.test", common_name=LOADER)
        client.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
        client.private_key_pem.write_to_path(str(folder / f"{name}-key.pem"))
        client.cert_chain_pems[0].write_to_path(str(folder / f"{name}-cert.pem"))
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
            "xpack.security.http.ssl.certificate_authorities": "tls/ca.pem",
            "xpack.security.http.ssl.client_authentication": "optional",
            "xpack.license.self_generated.type": "trial",  # for the two realms below
            f"{REALMS}.file.known.order": "0",
            f"{REALMS}.pki.certificates.order": "1",
            f"{REALMS}.pki.certificates.certificate_authorities": "tls/ca.pem",
            f"{REALMS}.pki.certificates.authorization_realms": "known",
            f"{REALMS}.jwt.tokens.order": "2",
            f"{REALMS}.jwt.tokens.token_type": "id_token",
            f"{REALMS}.jwt.tokens.client_authentication.type": "none",
            f"{REALMS}.jwt.tokens.allowed_issuer": "https://issuer.test",
            f"{REALMS}.jwt.tokens.allowed_audiences": "splade-os",
            f"{REALMS}.jwt.tokens.allowed_signature_algorithms": "HS256",
            f"{REALMS}.jwt.tokens.claims.principal": "sub",
            f"{REALMS}.jwt.tokens.authorization_realms": "known",
        },
        secrets={
            "bootstrap.password": PASSWORD,
            f"{REALMS}.jwt.tokens.hmac_key": JWT_SECRET,
        },
        files={
            "tls/key.pem": server.private_key_pem.bytes(),
            # with the CA's, as Elasticsearch sets itself up
            "tls/cert.pem": server.cert_chain_pems[0].bytes() + ca.cert_pem.bytes(),
            "tls/ca.pem": ca.cert_pem.bytes(),
            "users": f"{LOADER}:{{plain}}nobody knows it\n".encode(),
            "users_roles": f"superuser:{LOADER}\n".encode(),
        },
    )
    started = node.start(plan)
    try:
        place = Secured(f"https://localhost:{port}", folder)
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


def jwt(secret: str = JWT_SECRET, **claims: Any) -> str:
    """A JSON Web Token (RFC 7519), signed by HMAC."""
    now = int(time.time())
    known = {
        "iss": "https://issuer.test", "aud": "splade-os", "sub": LOADER, "iat": now,
        "exp": now + 600, **claims,
    }  # fmt: skip

    def packed(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    parts = [packed(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, known)]
    signature = hmac.digest(secret.encode(), b".".join(parts), "sha256")
    return b".".join([*parts, packed(signature)]).decode()


def who(url: str, **options: Any) -> str:
    """As whom the node knows both kinds of client, and by which realm."""
    engine = connect(url, **options)
    assert isinstance(engine, ClusterEngine)
    known = engine.request("GET", "/_security/_authenticate")

    async def work() -> None:
        other = AsyncClusterEngine(url, **options)
        try:
            assert (await other.info()).distribution == "elasticsearch"
        finally:
            await other.close()

    asyncio.run(work())
    return f"{known['username']} by {known['authentication_realm']['type']}"


def test_bearer_token(secured: Secured) -> None:
    assert who(secured.url, bearer_token=jwt(), ca_certs=secured.ca) == "loader by jwt"
    for wrong in (jwt("another secret of at least 32 bytes!!"), jwt(exp=1), "nonsense"):
        with pytest.raises(AuthenticationError) as caught:
            who(secured.url, bearer_token=wrong, ca_certs=secured.ca)
        assert wrong not in str(caught.value)


def test_client_certificate(secured: Secured, tmp_path: Path) -> None:
    place = secured.folder
    both: dict[str, Any] = {"client_cert": place / "loader.pem"}
    apart = {"client_cert": place / "loader-cert.pem", "client_key": place / "loader-key.pem"}
    key = load_pem_private_key((place / "loader-key.pem").read_bytes(), None)
    lock = BestAvailableEncryption(PASSWORD.encode())
    locked = tmp_path / "locked.pem"
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
    encrypted = {**apart, "client_key": locked, "client_key_password": PASSWORD}
    for options in (both, apart, encrypted):
        assert who(secured.url, ca_certs=secured.ca, **options) == "loader by pki"
    for wrong, text in (
        ({**encrypted, "client_key_password": None}, "SPLADE_OS_CLIENT_KEY_PASSWORD"),
        ({**encrypted, "client_key_password": "wrong"}, "password of the key"),
        ({**apart, "client_key": place / "stranger-key.pem"}, "belong together"),
        ({"client_key": place / "loader-key.pem"}, "no client certificate"),
        ({"client_cert": place / "loader-cert.pem"}, "cannot be used"),
        ({"client_cert": place / "missing.pem"}, "no such file"),
    ):
        with pytest.raises(SettingsError, match=text):
            connect(secured.url, ca_certs=secured.ca, **wrong)
    with pytest.raises((EngineUnavailableError, AuthenticationError)):
        who(secured.url, ca_certs=secured.ca, client_cert=place / "stranger.pem")


def test_fingerprint(secured: Secured) -> None:
    login = {"username": USER, "password": PASSWORD}
    for name in ("server", "ca"):
        seen = secured.fingerprint(name)
        for spelled in (seen, seen.replace(":", "").lower()):
            assert who(secured.url, fingerprint=spelled, **login) == "elastic by reserved"
    with pytest.raises(EngineUnavailableError, match="no certificate that it shows") as caught:
        connect(secured.url, fingerprint=secured.fingerprint("other"), **login)
    assert secured.fingerprint("server").replace(":", "").lower() in str(caught.value)
    for wrong, text in (
        ({"fingerprint": "12:34"}, "64 hexadecimal digits"),
        ({"fingerprint": secured.fingerprint("ca"), "ca_certs": secured.ca}, "by itself"),
        ({"fingerprint": secured.fingerprint("ca"), "verify_certs": False}, "by itself"),
    ):
        with pytest.raises(SettingsError, match=text):
            connect(secured.url, **wrong)
    with pytest.raises(SettingsError, match="no https URL"):
        connect("http://localhost:9200", fingerprint=secured.fingerprint("ca"))
    options = {"client_cert": secured.folder / "loader.pem"}
    assert who(secured.url, fingerprint=secured.fingerprint("ca"), **options) == "loader by pki"
