"""What a first search asks of a node, and what it leaves in the log of an application."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from splade_os import AsyncSearchClient, SearchClient
from splade_os.engines import Engine
from splade_os.engines.rest.cluster import ClusterEngine
from tests.faults.gate import Gate
from tests.search.test_search import fill

TEXT = "cat and dog in the red sun"


@pytest.fixture
def asked(engine: Engine, index: str, tiny: Path) -> Iterator[tuple[Gate, list[str]]]:
    """A gate before a node with a filled index, and what went through it."""
    if not isinstance(engine, ClusterEngine):
        pytest.skip("a file takes no requests")
    fill(engine, index, tiny / "router", 20)
    seen: list[str] = []

    def note(method: str, path: str, body: bytes) -> None:
        seen.append(f"{method} {path}")

    with Gate(engine.url, note) as gate:
        yield gate, seen


def test_at_most_five_requests(
    asked: tuple[Gate, list[str]], index: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate, seen = asked
    for mode, most in (("idf", 5), ("bm25", 4), ("hybrid", 5)):
        seen.clear()
        with SearchClient(gate.url, index) as client:
            assert len(client.search(TEXT, 5, mode))  # type: ignore[arg-type]
            assert len(seen) <= most, seen
            seen.clear()
            client.search(TEXT, 5, mode)  # type: ignore[arg-type]
        assert len(seen) == 1

    async def first() -> None:
        async with AsyncSearchClient(gate.url, index) as client:
            assert len(await client.search(TEXT, 5))

    seen.clear()
    asyncio.run(first())
    assert len(seen) <= 5, seen
    said = [r for r in caplog.records if r.levelno >= logging.WARNING and "405" not in r.message]
    assert not said, [r.getMessage() for r in said]  # (405: a test node that lacks GET /)


def test_no_warning_of_what_is_not_there(
    engine: Engine, index: str, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(engine, index, tiny / "router", 5)
    caplog.clear()
    assert engine.alias_targets(index) == []
    assert engine.load_statistics(index) is not None
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_more_threads_than_connections(
    engine: Engine, index: str, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No connection is made for one request and thrown away."""
    if not isinstance(engine, ClusterEngine):
        pytest.skip("a file has no connections")
    fill(engine, index, tiny / "router", 20)
    count, hits = 120, []
    together = threading.Barrier(count)
    with SearchClient(engine.url, index) as client:

        def ask() -> None:
            together.wait(60)
            hits.extend(len(client.search(TEXT, 3)) for _ in range(3))

        threads = [threading.Thread(target=ask) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert hits == [3] * 3 * count
    assert not [r for r in caplog.records if "discarding" in r.getMessage()]
