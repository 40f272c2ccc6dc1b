"""Who the client says that it is: what is sent, what is refused, and that no secret is shown."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
import os
import pty
import re
import socket
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from click.testing import CliRunner, Result

from splade_os import AsyncSearchClient, SearchClient, connect
from splade_os.cli import cli
from splade_os.errors import (
    AuthenticationError,
    EngineUnavailableError,
    SettingsError,
)
from splade_os.settings import load_settings

SECRET = "s3cret-of-nobody"
BASIC = "Basic " + base64.b64encode(f"u:{SECRET}".encode()).decode()
AWS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "a session's token")
CLOUD_ID = "shop:" + base64.b64encode(b"eu.cloud.test:9243$f00d$beef").decode()


@dataclass
class Seen:
    method: str
    path: str
    headers: Any
    body: bytes


@dataclass
class Recorder:
    """A server that writes down what arrives; with a ``target`` that one answers, else 401."""

    target: str | None
    seen: list[Seen] = field(default_factory=list)

    def __enter__(self) -> Recorder:
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else 40 ms a request

            def log_message(self, format: str, *arguments: object) -> None:
                pass

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                recorder.seen.append(Seen(self.command, self.path, self.headers, body))
                status, answer, kind = 401, b"{}", "application/json"
                if recorder.target:
                    there = http.client.HTTPConnection(urlsplit(recorder.target).netloc)
                    sent = {"content-type": self.headers.get("content-type") or kind}
                    there.request(self.command, self.path, body or None, sent)
                    reply = there.getresponse()
                    status, answer = reply.status, reply.read()
                    kind = reply.headers.get("content-type") or kind
                    there.close()
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer)

        for method in ("GET", "POST", "PUT", "DELETE", "HEAD"):
            setattr(Handler, f"do_{method}", Handler.handle_any)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def refusing() -> Iterator[Recorder]:
    with Recorder(None) as recorder:
        yield recorder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({"username": "u", "password": SECRET}, BASIC),
        ({"api_key": "aWQ6a2V5"}, "ApiKey aWQ6a2V5"),
        ({"api_key": "id:key"}, "ApiKey aWQ6a2V5"),
        ({"bearer_token": SECRET}, f"Bearer {SECRET}"),
    ],
)  # fmt: skip
def test_header(
    refusing: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str],
    header: str,
) -> None:  # fmt: skip
    """Given to the library, as flags, in a file, in the environment: always the same header."""
    secret = next(name for name in options if name != "username")
    with pytest.raises(AuthenticationError):
        connect(refusing.url, **options).info()

    async def work() -> None:
        async with AsyncSearchClient(refusing.url, "x", **options) as client:
            with pytest.raises(AuthenticationError):
                await client.search("cat")

    asyncio.run(work())
    file = tmp_path / "secret"
    file.write_text(options[secret] + "\n")
    flags = {**options, secret: f"@{file}"}
    with pytest.raises(AuthenticationError):
        SearchClient(refusing.url, "x", **flags).search("cat")
    command = ("index", "show", "--url", refusing.url, "--index", "x")
    spelled = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    told = [run(*command, *spelled)]
    for name, value in options.items():
        monkeypatch.setenv(f"SPLADE_OS_{name.upper()}", value)
    told.append(run(*command))
    for result in told:
        assert isinstance(result.exception, AuthenticationError)
        assert options[secret] not in result.output
        assert options[secret] not in "".join(traceback.format_exception(result.exception))
    assert len(refusing.seen) >= 5
    assert {seen.headers["authorization"] for seen in refusing.seen} == {header}


def test_password_in_a_url(refusing: Recorder) -> None:
    """It is used, and it is not shown."""
    url = refusing.url.replace("//", f"//user:{SECRET}%21@")
    engine = connect(url)
    assert engine.url == refusing.url
    with pytest.raises(AuthenticationError) as caught:
        engine.info()
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    expected = base64.b64encode(f"user:{SECRET}!".encode()).decode()
    assert refusing.seen[-1].headers["authorization"] == f"Basic {expected}"
    with pytest.raises(SettingsError, match="twice"):
        connect(url, username="other", password="x")
    with pytest.raises(SettingsError) as wrong:
        connect(f"htp://user:{SECRET}@host")
    assert SECRET not in str(wrong.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"username": "u", "password": SECRET, "api_key": SECRET}, "user name and API key"),
        ({"bearer_token": SECRET, "aws_region": "eu-west-1"}, "bearer token and AWS region"),
        ({"password": SECRET}, "no user name"),
        ({"username": "u"}, "no password"),
        ({"aws_service": "es"}, "no region"),
        ({"password": f"@{SECRET}"}, "password.*cannot be read.*No such file"),
        ({"client_cert": "x.pem"}, "no https URL"),
        ({"cloud_id": CLOUD_ID}, "Both a URL and a cloud id"),
    ],
)
def test_contradictions(options: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError, match=text) as caught:
        settings = load_settings(url="http://localhost:1", **options)
        connect(settings.url, **settings.connection())
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert caught.value.hint


def test_secrets_are_masked() -> None:
    settings = load_settings(username="u", password=SECRET, api_key="@@x", bearer_token=SECRET)
    assert SECRET not in repr(settings) and SECRET not in repr(settings.connection())
    assert settings.api_key is not None and settings.api_key.get_secret_value() == "@x"
    with pytest.raises(TypeError, match="pasword"):
        SearchClient("http://localhost:1", "x", pasword=SECRET)


def test_cloud_id() -> None:
    engine = connect(cloud_id=CLOUD_ID)
    assert engine.url == "https://f00d.eu.cloud.test:9243"
    assert load_settings(cloud_id=CLOUD_ID).url == engine.url
    for wrong in ("shop", "shop:###", "shop:" + base64.b64encode(b"eu.cloud.test").decode()):
        with pytest.raises(SettingsError, match="not the cloud id"):
            load_settings(cloud_id=wrong)


def test_password_is_asked_for(refusing: Recorder) -> None:
    """On a terminal, without showing what is typed."""
    ours, theirs = pty.openpty()
    command = (sys.executable, "-m", "splade_os", "index", "show", "--index", "x")
    process = subprocess.Popen(
        [*command, "--url", refusing.url, "--username", "nina"],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while b"Password of nina" not in shown:
        shown += os.read(ours, 1000)
    os.write(ours, SECRET.encode() + b"\n")
    with pytest.raises(OSError):  # the other end was closed
        while True:
            shown += os.read(ours, 1000)
    os.close(ours)
    assert process.wait(60) == 1 and b"refused the credentials" in shown
    assert SECRET.encode() not in shown
    expected = base64.b64encode(b"nina:" + SECRET.encode()).decode()
    assert [seen.headers["authorization"] for seen in refusing.seen] == [f"Basic {expected}"]


def signature(seen: Seen, service: str) -> str:
    """What botocore itself makes of a request as it arrived."""
    signed = re.search(r"SignedHeaders=([^,]+)", seen.headers["authorization"])
    assert signed is not None
    names = signed[1].split(";")
    assert {"host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"} <= set(names)
    request = AWSRequest(
        seen.method,
        f"http://{seen.headers['host']}{seen.path}",
        {name: seen.headers[name] for name in names if name != "x-amz-date"},
        seen.body,
    )
    request.context["timestamp"] = seen.headers["x-amz-date"]
    request.headers["X-Amz-Date"] = seen.headers["x-amz-date"]
    signer = SigV4Auth(AWS, service, "eu-west-1")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return str(signer.signature(text, request))


@pytest.mark.parametrize("service", ["es", "aoss"])
def test_aws_signature(
    opensearch_url: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    """Every request of an ingest and of searches, against botocore's own signature of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", AWS.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", str(AWS.token))
    lines = [json.dumps({"id": f"d{i}/ü +", "text": "red sun and moon"}) for i in range(20)]
    (tmp_path / "docs.jsonl").write_text("\n".join(lines))
    index = f"test-aws-{service}"
    with Recorder(opensearch_url) as recorder:
        aws = {"aws_region": "eu-west-1", "aws_service": service}
        flags = ("--url", recorder.url, "--aws-region", "eu-west-1", "--aws-service", service)
        try:
            done = run("ingest", "docs.jsonl", *flags, "--index", index,
                       "--model", str(tiny / "router"))  # fmt: skip
            assert done.exit_code == 0, done.output
            engine = connect(recorder.url, **aws)
            assert len(list(engine.scan(index, ["id"]))) == 20
            assert engine.documents(index, ["d1/ü +"], None)

            async def work() -> None:
                async with AsyncSearchClient(recorder.url, index, **aws) as client:
                    assert len(await client.search("red sun", 20, "bm25")) == 20
                    await client.search("red sun", filter={"exists": {"field": "text"}})

            asyncio.run(work())
        finally:
            connect(opensearch_url).delete_index(index)
    assert len(recorder.seen) > 10
    for seen in recorder.seen:
        header = seen.headers["authorization"]
        assert header.startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
        assert f"/eu-west-1/{service}/aws4_request" in header
        assert header.endswith(f"Signature={signature(seen, service)}"), seen.path


def test_aws_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with pytest.raises(SettingsError, match="no AWS credentials"):
        connect("https://localhost:1", aws_region="eu-west-1")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SettingsError, match="nobody"):
        connect("https://localhost:1", aws_region="eu-west-1")


def test_aws_service_by_host(monkeypatch: pytest.MonkeyPatch) -> None:
    from splade_os.engines.connection.options import client_options

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", AWS.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS.secret_key)
    for host, service in (("x.eu-west-1.es", "es"), ("x.eu-west-1.aoss", "aoss")):
        options = client_options(f"https://{host}.amazonaws.com", aws_region="eu-west-1")
        assert options["http_auth"].service == service


def test_a_certificate_that_is_only_shown(tmp_path: Path) -> None:
    """A stranger who adds the CA's certificate to his own is not let through by its
    fingerprint."""
    ca, stranger = trustme.CA(), trustme.CA()
    own = stranger.issue_cert("localhost")
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    files[0].write_bytes(own.cert_chain_pems[0].bytes() + ca.cert_pem.bytes())
    files[1].write_bytes(own.private_key_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    arrived: list[bytes] = []
    with socket.create_server(("localhost", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    accepted, _ = listening.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(accepted, server_side=True) as secured:
                        arrived.append(secured.recv(1000))
                except OSError:
                    pass

        threading.Thread(target=serve, daemon=True).start()
        der = ssl.PEM_cert_to_DER_cert(ca.cert_pem.bytes().decode())
        port = listening.getsockname()[1]
        engine = connect(
            f"https://localhost:{port}", fingerprint=hashlib.sha256(der).hexdigest(),
            username="u", password=SECRET,
        )  # fmt: skip
        with pytest.raises(EngineUnavailableError):
            engine.info()
    assert SECRET.encode() not in b"".join(arrived)
    assert b"authorization" not in b"".join(arrived).lower()
