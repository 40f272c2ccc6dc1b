"""`examples/fastapi_service`, started as its first lines say, and asked."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from splade_os.engines import connect

pytest.importorskip("fastapi", reason="the example needs fastapi and uvicorn")
SERVICE = Path(__file__).parents[2] / "examples" / "fastapi_service"


@pytest.fixture
def service(opensearch_url: str, index: str, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"SPLADE_OS_URL": opensearch_url, "SPLADE_OS_INDEX": index, "TEXT_FIELDS": "title"}
    command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(SERVICE)]
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=tmp_path,
        env=os.environ | told,
        stderr=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 60
    while True:
        try:
            assert requests.get(f"{url}/health", timeout=5).json() == {"status": "ok"}
            break
        except requests.ConnectionError:
            assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
            time.sleep(0.1)
    yield url
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert "Traceback" not in said, said


@pytest.fixture
def index(opensearch_url: str) -> Iterator[str]:
    name = f"test-example-{os.getpid()}"
    yield name
    engine = connect(opensearch_url)
    if engine.indices(f"{name}*"):
        engine.delete_index(name)
    engine.close()


def test_it_answers(service: str, index: str) -> None:
    shoes = [{"id": "1/a", "title": "Red shoe", "price": 10}, {"id": "2", "title": "Blue boat"}]
    written = requests.put(
        f"{service}/documents", json=[*shoes, {"id": "3", "title": {"x": 1}}], timeout=60
    )
    assert written.status_code == 200, written.text
    assert [each["result"] for each in written.json()] == ["created", "created", "failed"]
    requests.get(f"{service}/health", timeout=5)
    found: list[dict[str, object]] = []
    end = time.monotonic() + 20
    while not found and time.monotonic() < end:  # what was written is seen after a refresh
        answer = requests.get(f"{service}/search", params={"q": "red footwear"}, timeout=20)
        found = answer.json()["hits"]
    assert found[0]["id"] == "1/a" and found[0]["document"] == shoes[0]
    assert (
        requests.get(f"{service}/search", params={"q": "x", "k": 0}, timeout=5).status_code == 422
    )
    assert requests.delete(f"{service}/documents/1/a", timeout=20).json()["result"] == "deleted"
    assert requests.delete(f"{service}/documents/1/a", timeout=20).status_code == 404
    metrics = requests.get(f"{service}/metrics", timeout=5).text
    assert 'documents_written_total{result="created"} 2.0' in metrics
    assert 'search_seconds_count{mode="hybrid"}' in metrics
