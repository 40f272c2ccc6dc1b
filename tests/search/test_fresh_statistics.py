"""A client that lives long weighs its queries by the statistics that the index has now."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from splade_os import AsyncSearchClient, SearchClient
from splade_os.engines import Engine
from splade_os.errors import EngineError, SettingsError
from tests.search.test_engine_body import load
from tests.search.test_search import loaded

FEW = [{"text": f"red shoe {'cat' if n == 0 else ''}"} for n in range(10)]
QUERY = "red cat"


def weights(client: SearchClient) -> dict[str, float]:
    return dict(client.search(QUERY).query)


def ingest_elsewhere(engine: Engine, index: str, model: Path, folder: Path) -> None:
    """Another process makes the rare word a frequent one."""
    file = folder / "more.jsonl"
    lines = [json.dumps({"id": f"m{n}", "text": "cat sun"}) + "\n" for n in range(40)]
    file.write_text("".join(lines))
    options = {
        "index": index,
        "url": engine.url,
        "model": model,
        "dead-letters": folder / "d.jsonl",
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "splade_os", "ingest", str(file), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=os.environ)
    assert done.returncode == 0, done.stderr


def until(what: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not (reached := what()) and time.monotonic() < end:
        time.sleep(0.02)
    return reached


def test_statistics_of_another_process(
    engine: Engine, index: str, tiny: Path, tmp_path: Path
) -> None:
    if "elasticsearch" in engine.info().distribution:
        pytest.skip("as on OpenSearch, and a process takes its time")
    load(engine, index, loaded(tiny / "router"), FEW)
    eager = SearchClient(engine=engine, index=index, idf_max_age=0.0)
    never = SearchClient(engine=engine, index=index, idf_max_age=None)
    before = weights(never)
    assert weights(eager) == before
    ingest_elsewhere(engine, index, tiny / "router", tmp_path)
    after = weights(SearchClient(engine=engine, index=index))
    assert after["cat"] < before["cat"]
    assert until(lambda: weights(eager) == after)
    assert weights(never) == before
    never.refresh()
    assert weights(never) == after


def test_nobody_waits_and_nobody_asks_twice(
    engine: Engine, index: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(engine, index, loaded(tiny / "router"), FEW)
    client = SearchClient(engine=engine, index=index, idf_max_age=0.0)
    asked: list[float] = []
    real = engine.statistics_version

    def slow(*given: object) -> object:
        asked.append(time.monotonic())
        time.sleep(1.0)
        return real(*given)  # type: ignore[arg-type]

    before = weights(client)
    monkeypatch.setattr(engine, "statistics_version", slow)
    start = time.monotonic()
    assert all(weights(client) == before for _ in range(5))
    assert time.monotonic() - start < 1.0 and len(asked) <= 1
    assert until(lambda: bool(asked))


def test_what_fails_is_said_and_tried_again(
    engine: Engine,
    index: str,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    load(engine, index, loaded(tiny / "router"), FEW)
    client = SearchClient(engine=engine, index=index, idf_max_age=0.0)
    before = weights(client)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "splade_os.search"):

        def fails(*given: object) -> object:
            raise EngineError("no answer")

        patch.setattr(engine, "statistics_version", fails)
        assert weights(client) == before
        assert until(lambda: "could not be read again: no answer" in caplog.text)
    load(engine, index, loaded(tiny / "router"), [*FEW, *({"text": "cat"} for _ in range(30))])
    assert until(lambda: weights(client)["cat"] < before["cat"])


def test_an_async_client_too(opensearch_url: str, tiny: Path) -> None:
    from uuid import uuid4

    from splade_os import connect

    engine, index = connect(opensearch_url), f"test-{uuid4().hex[:12]}"
    load(engine, index, loaded(tiny / "router"), FEW)

    async def run() -> None:
        async with AsyncSearchClient(opensearch_url, index, idf_max_age=0.0) as client:
            before = dict((await client.search(QUERY)).query)
            more = [*FEW, *({"text": "cat"} for _ in range(30))]
            await asyncio.to_thread(load, engine, index, loaded(tiny / "router"), more)
            for _ in range(200):
                if dict((await client.search(QUERY)).query)["cat"] < before["cat"]:
                    return
                await asyncio.sleep(0.02)
            raise AssertionError("the old statistics")

    try:
        asyncio.run(run())
    finally:
        engine.delete_index(index)


def test_the_log_says_what_a_search_took(
    engine: Engine, index: str, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(engine, index, loaded(tiny / "router"), FEW)
    with caplog.at_level(logging.DEBUG, "splade_os.search"):
        results = SearchClient(engine=engine, index=index).search("red secret-word", mode="hybrid")
    (said,) = [r.getMessage() for r in caplog.records if r.name == "splade_os.search"]
    assert f"{index}: mode hybrid" in said and f"{len(results)} hits" in said
    assert str(results.used) in said and "secret" not in said


def test_an_age_that_makes_no_sense() -> None:
    for age in (-1, float("nan")):
        with pytest.raises(SettingsError, match="idf_max_age"):
            SearchClient("http://localhost:9", "x", idf_max_age=age)
