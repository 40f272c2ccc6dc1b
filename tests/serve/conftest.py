"""A service in this process, asked over real HTTP, on SQLite and the newest server of each kind."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests

from splade_os import DocumentEncoder, ingest_documents
from splade_os.engines import Engine, connect
from splade_os.errors import IndexNotFoundError
from splade_os.ingest.documents.records import Record
from splade_os.serve.options import ServeOptions
from splade_os.serve.server import Service, serving
from splade_os.settings import load_settings
from tests.conftest import MATRIX, url_of

EVIL = "<script>alert(1)</script> \u202eevil\u0007 javascript:alert(2)"
DOCUMENTS: tuple[dict[str, Any], ...] = (
    {"title": "Red shoe", "text": "A light shoe for running", "brand": "acme", "price": 10},
    {"title": "Blue boat", "text": "It sails on the sea", "brand": "bolt", "price": 900},
    {"title": "Running in the rain", "text": "Shoes get wet", "brand": "acme", "price": 12},
    {
        "title": "A history of footwear",
        "text": "From sandals to boots",
        "brand": "core",
        "price": 30,
    },
    {"title": "Wooden table", "text": "For the kitchen, made of oak", "brand": "bolt", "price": 99},
    {"title": EVIL, "text": "An <em>evil</em> shoe " + EVIL, "brand": "acme", "price": 1},
    *(
        {"title": f"Thing {i}", "text": f"A thing of number {i}", "brand": "many", "price": i}
        for i in range(20)
    ),
)


def documents() -> Iterator[Record]:
    for number, each in enumerate(DOCUMENTS, 1):
        yield Record(
            number, f"test:{number}", f"d{number}", f"{each['title']} {each['text']}", each
        )


@cache
def starter() -> DocumentEncoder:
    """Loaded once."""
    return DocumentEncoder.load("starter", device="cpu")


def fill(engine: Engine, index: str) -> None:
    """The documents, encoded by the starter."""
    ingest_documents(
        documents(), engine=engine, index=index, encoder=starter(), dead_letters=Path("never.jsonl")
    )


@pytest.fixture(scope="session", params=["sqlite", *MATRIX])
def engine_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of each engine in turn."""
    return url_of(request.param, request, tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="session")
def filled(engine_url: str) -> Iterator[str]:
    """An index with the documents, which no test changes."""
    name = f"test-serve-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    engine = connect(engine_url)
    fill(engine, name)
    yield name
    with contextlib.suppress(IndexNotFoundError):
        engine.delete_index(name)
    engine.close()


Start = Callable[..., Service]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts services: ``start(url, index, ...)``; they are stopped afterwards."""
    with contextlib.ExitStack() as stack:

        def started(url: str, *indices: str, **options: Any) -> Service:
            auth = options.pop("auth", {})
            settings = load_settings(url=url, **auth)
            return stack.enter_context(serving(settings, ServeOptions(indices, port=0, **options)))

        yield started


@pytest.fixture(scope="session")
def service(engine_url: str, filled: str) -> Iterator[str]:
    """The URL of a service of the index."""
    with serving(load_settings(url=engine_url), ServeOptions((filled,), port=0)) as running:
        yield running.url


def post(url: str, path: str, body: Any, **more: Any) -> requests.Response:
    """A request of the API."""
    return requests.post(f"{url}/v1/{path}", json=body, timeout=60, **more)
