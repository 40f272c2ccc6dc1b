"""What a service refuses, when it gives up, and what it says then."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from splade_os.engines import connect
from splade_os.errors import SettingsError
from splade_os.serve.options import ServeOptions
from tests.serve.conftest import Start, fill, post


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"text": "x", "k": 0}, "k:"),
        ({"text": "x", "k": 1001}, "at most 1,000"),
        ({"text": "x", "mode": "guess"}, "mode:"),
        ({"text": "x", "colour": 1}, "colour"),
        ({"text": 7}, "text"),
        ({}, "text"),
        ([], "the body"),
        ({"text": "x", "offset": 9999, "k": 10}, "offset"),
        ({"text": "x", "fusion": {"weights": [0, 0]}}, "weights"),
        ({"text": "x", "query_pruning": {"max_ratio": 7}}, "max_ratio"),
        ({"text": "x", "mode": "raw"}, "token"),
        ({"text": {"shoe": -1}, "mode": "raw"}, "weight"),
        ({"text": "x", "filter": {"no_such_clause": {}}}, ""),
        ({"text": "\ud800"}, ""),
    ],
)
def test_bad_input(service: str, body: Any, says: str) -> None:
    answer = requests.post(
        f"{service}/v1/search",
        data=json.dumps(body),
        headers={"Content-Type": "application/json"},
        timeout=60,
    )
    error = answer.json()["error"]
    assert answer.status_code == 400 and says in error["message"], answer.text
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text and "File " not in answer.text


def test_status_codes(service: str) -> None:
    assert post(service, "search", {"text": "x", "index": "other"}).status_code == 404
    plain = requests.post(f"{service}/v1/search", data='{"text": "x"}', timeout=9)
    assert plain.status_code == 415
    damaged = {"data": "{", "headers": {"Content-Type": "application/json"}, "timeout": 9}
    assert requests.post(f"{service}/v1/search", **damaged).status_code == 400  # type: ignore[arg-type]
    deep = {**damaged, "data": '{"text": "x", "filter": ' + "[" * 5000 + "]" * 5000 + "}"}
    assert requests.post(f"{service}/v1/search", **deep).status_code == 400  # type: ignore[arg-type]
    assert requests.get(f"{service}/v1/search", timeout=9).status_code == 405
    assert requests.get(f"{service}/nothing", timeout=9).status_code == 404
    assert post(service, "search_many", {"texts": ["x"] * 101}).status_code == 400
    assert post(service, "documents", {"upsert": [{"title": "x"}]}).status_code == 403
    large = post(service, "search", {"text": "x" * (1 << 20)})
    assert large.status_code == 413 and "1,048,576" in large.json()["error"]["message"]

    def endless() -> Iterator[bytes]:
        for _ in range(3000):
            yield b"x" * 1000

    with pytest.raises(requests.exceptions.RequestException):  # or an answer: 413
        answer = requests.post(f"{service}/v1/search", data=endless(), timeout=30)
        assert answer.status_code == 413
        raise requests.exceptions.RequestException


def test_an_index_that_is_not_there(start: Start, engine_url: str) -> None:
    url = start(engine_url, "nobody-made-this").url
    assert post(url, "search", {"text": "x"}).status_code == 404
    ready = requests.get(f"{url}/health/ready", timeout=30)
    assert ready.status_code == 503 and ready.json()["reason"] == "IndexNotFoundError"
    assert requests.get(f"{url}/health/live", timeout=30).status_code == 200


class Slow:
    """A server that takes connections and says nothing, until it is told to pass them on."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self.open = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(near,), daemon=True).start()

    def _pass(self, near: socket.socket) -> None:
        self.open.wait()
        far = socket.create_connection(self._target)

        def copy(source: socket.socket, sink: socket.socket) -> None:
            try:
                while data := source.recv(65536):
                    self.open.wait()
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        threading.Thread(target=copy, args=(far, near), daemon=True).start()
        copy(near, far)

    def close(self) -> None:
        self.open.set()
        self._listening.close()


@contextmanager
def slow_node(url: str) -> Iterator[Slow]:
    node = Slow(url)
    try:
        yield node
    finally:
        node.close()


@pytest.fixture(scope="module")
def on_opensearch(opensearch_url: str) -> Iterator[str]:
    """An index on OpenSearch."""
    engine, name = connect(opensearch_url), f"test-serve-limits-{os.getpid()}"
    fill(engine, name)
    yield name
    engine.delete_index(name)
    engine.close()


def test_full_then_free_again(start: Start, opensearch_url: str, on_opensearch: str) -> None:
    """Two at once are worked on, the third is told to come again, and it can."""
    with slow_node(opensearch_url) as node:
        url = start(node.url, on_opensearch, max_concurrent=2).url
        codes: list[int] = []

        def ask() -> None:
            codes.append(post(url, "search", {"text": "shoe"}).status_code)

        waiting = [threading.Thread(target=ask) for _ in range(2)]
        for thread in waiting:
            thread.start()
        end = time.monotonic() + 60
        while "splade_os_http_running 2.0" not in requests.get(f"{url}/metrics", timeout=30).text:
            assert time.monotonic() < end
        refused = post(url, "search", {"text": "shoe"})
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert requests.get(f"{url}/health/live", timeout=30).status_code == 200
        node.open.set()
        for thread in waiting:
            thread.join()
        assert codes == [200, 200]
        assert post(url, "search", {"text": "shoe"}).status_code == 200


def test_too_slow(start: Start, opensearch_url: str, on_opensearch: str) -> None:
    with slow_node(opensearch_url) as node:
        url = start(node.url, on_opensearch, timeout=0.5).url
        late = post(url, "search", {"text": "shoe"})
        assert late.status_code == 504 and late.json()["error"]["type"] == "timeout"
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
            client.settimeout(60)
            client.sendall(
                b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
            )
            assert client.recv(100).startswith(b"HTTP/1.1 408 ")


def test_who_goes_away_is_not_worked_for(
    start: Start, opensearch_url: str, on_opensearch: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Their places are free at once, and the log says that they are gone."""
    with slow_node(opensearch_url) as node, caplog.at_level(logging.INFO, "splade_os.serve"):
        url = start(node.url, on_opensearch, max_concurrent=1).url
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
            client.sendall(
                b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n"
                b'Content-Type: application/json\r\n\r\n{"text":"shoe"}'
            )
            end = time.monotonic() + 60
            while "_running 1.0" not in requests.get(f"{url}/metrics", timeout=30).text:
                assert time.monotonic() < end
        while not any(" 499 " in record.getMessage() for record in caplog.records):
            assert time.monotonic() < end
            time.sleep(0.01)
        node.open.set()
        assert post(url, "search", {"text": "shoe"}).status_code == 200


def test_node_down_and_up_again(start: Start, opensearch_url: str, on_opensearch: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = start(f"http://127.0.0.1:{port}", on_opensearch, timeout=20.0).url
    down = post(url, "search", {"text": "shoe"})
    assert down.status_code == 503 and down.json()["error"]["type"] == "EngineUnavailableError"
    assert requests.get(f"{url}/health/ready", timeout=30).status_code == 503
    node = Slow.__new__(Slow)
    node._target = ("127.0.0.1", int(opensearch_url.rpartition(":")[2]))
    node.open = threading.Event()
    node.open.set()
    node._listening = socket.create_server(("127.0.0.1", port))
    threading.Thread(target=node._accept, daemon=True).start()
    try:
        assert post(url, "search", {"text": "shoe"}).status_code == 200
        end = time.monotonic() + 30
        while requests.get(f"{url}/health/ready", timeout=30).status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        node.close()


def test_a_fault_of_ours_shows_nothing(
    start: Start, engine_url: str, filled: str, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A client hears the id of its request; the log has the rest."""

    def broken(*given: Any, **named: Any) -> Any:
        raise RuntimeError("inner secret")

    url = start(engine_url, filled).url
    monkeypatch.setattr("splade_os.serve.searcher.Searcher.search", broken)
    answer = post(url, "search", {"text": "shoe"})
    assert answer.status_code == 500 and "secret" not in answer.text and "File" not in answer.text
    known = answer.json()["error"]["request_id"]
    (record,) = [each for each in caplog.records if known in each.getMessage()]
    assert "inner secret" in record.__dict__["data"]["traceback"]


def test_the_command_ends_in_peace(
    opensearch_url: str, on_opensearch: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Logs are JSON lines with the id of the request and not what was looked for; SIGTERM ends it
    with exit code 0."""
    command = [sys.executable, "-m", "splade_os", "serve", "--url", opensearch_url, "--port", "0"]
    process = subprocess.Popen(
        [*command, "--index", on_opensearch, "--log-format", "json"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    request.addfinalizer(process.kill)
    assert process.stderr is not None
    said = json.loads(process.stderr.readline())["message"]
    url = said.rpartition(" at ")[2]
    answer = post(url, "search", {"text": "secret shoe"}, headers={"X-Request-ID": "mine-1"})
    assert answer.status_code == 200 and answer.headers["x-request-id"] == "mine-1"
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 0, rest
    lines = [json.loads(line) for line in rest.splitlines()]
    (line,) = [each for each in lines if each.get("request_id") == "mine-1"]
    assert (line["path"], line["status"], line["mode"]) == ("/v1/search", 200, "hybrid")
    assert "secret" not in rest


def test_the_demo_ends_with_the_page(
    opensearch_url: str, on_opensearch: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    script = (
        "import sys; from splade_os.cli import demo; demo.INDEX = sys.argv[2];"
        "demo._serve(sys.argv[1], 0, 'red shoe')"
    )
    desktop = {"DISPLAY", "WAYLAND_DISPLAY"}
    process = subprocess.Popen(
        [sys.executable, "-c", script, opensearch_url, on_opensearch],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in desktop},
        stderr=subprocess.PIPE,
        text=True,
    )
    request.addfinalizer(process.kill)
    assert process.stderr is not None
    page = re.search(r"http://\S+", process.stderr.readline())
    assert page is not None
    assert 'data-id="d1"' in requests.get(page[0], timeout=60).text
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"host": "0.0.0.0"}, "token"),
        ({"token": "short"}, "16"),
        ({"indices": ("a", "a")}, "once"),
        ({"indices": ()}, "none"),
        ({"timeout": 0}, "timeout"),
        ({"max_k": 10_001}, "10,000"),
    ],
)
def test_options_that_make_no_sense(given: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        ServeOptions(**{"indices": ("a",), **given})


def test_a_port_that_is_taken(start: Start, engine_url: str, filled: str) -> None:
    port = int(start(engine_url, filled).url.rpartition(":")[2])
    from splade_os.serve.server import Service
    from splade_os.settings import load_settings

    with pytest.raises(SettingsError, match=f"cannot listen at 127.0.0.1:{port}"):
        Service(load_settings(url=engine_url), ServeOptions((filled,), port=port))
