"""A search client in a service: forks, many first searches at once, cancelled tasks, aliases that
change, pages."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from splade_os import AsyncSearchClient, Results, SearchClient
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.engines import Engine, TwoPhase, connect
from splade_os.engines.driver import drive
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import EngineError
from splade_os.search import steps
from splade_os.search.options import QueryPruning
from tests.search.test_search import fill

TEXT = "cat and dog in the red sun"


def fork(work: Callable[[], Any]) -> Callable[[], Any]:
    """Starts ``work`` in a forked process; what is returned waits for what came of it."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            result: Any = work()
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        os.write(write, pickle.dumps(result))
        os._exit(0)
    os.close(write)

    def result_of() -> Any:
        with os.fdopen(read, "rb") as pipe:
            data = pipe.read()
        os.waitpid(child, 0)
        return pickle.loads(data)

    return result_of


def in_child(work: Callable[[], Any]) -> Any:
    """What ``work`` returns, or raises, in a forked process."""
    return fork(work)()


def test_client_after_a_fork(engine_url: str, engine: Engine, index: str, tiny: Path) -> None:
    """Parent and children ask at the same time, each for documents of its own."""
    fill(engine, index, tiny / "router", 40)
    with SearchClient(engine_url, index) as client:
        ids = [hit.id for hit in client.scan(TEXT)]

        def ask(number: int) -> list[str]:
            own = {"ids": {"values": [ids[number]]}}
            return [h.id for _ in range(30) for h in client.search(TEXT, 1, filter=own)]

        children = [fork(partial(ask, number)) for number in range(1, 5)]
        assert ask(0) == [ids[0]] * 30
        for number, child in enumerate(children, 1):
            assert child() == [ids[number]] * 30
        assert ask(0) == [ids[0]] * 30


def test_client_of_ones_own_after_a_fork(engine: Engine, index: str, tiny: Path) -> None:
    """Its connections are not ours to make anew."""
    if not isinstance(engine, ClusterEngine):
        pytest.skip("SQLite takes no client")
    from opensearchpy import OpenSearch

    fill(engine, index, tiny / "router", 10)
    theirs = OpenSearch(engine.url)
    client = SearchClient(client=theirs, index=index)
    assert len(client.search(TEXT, 3)) == 3
    said = in_child(lambda: client.search(TEXT, 3))
    assert said.startswith("EngineError") and "after the fork" in said
    assert len(client.search(TEXT, 3)) == 3


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A name for each load of a table."""
    found: list[str] = []
    load = IdfQueryEncoder.load

    def counted(*given: Any, **named: Any) -> IdfQueryEncoder:
        found.append(str(given[0]))
        return load(*given, **named)

    monkeypatch.setattr(steps.IdfQueryEncoder, "load", counted)
    yield found


def test_one_load_for_many_first_searches(
    engine: Engine, index: str, tiny: Path, loads: list[str]
) -> None:
    fill(engine, index, tiny / "router", 20)
    client = SearchClient(engine=engine, index=index)
    with ThreadPoolExecutor(30) as pool:
        found = list(pool.map(lambda _: [h.id for h in client.search(TEXT, 5)], range(30)))
    assert len(loads) == 1
    assert found == [found[0]] * 30 and len(found[0]) == 5

    if isinstance(engine, ClusterEngine):

        async def many() -> list[Results]:
            async with AsyncSearchClient(engine.url, index) as other:
                return await asyncio.gather(*(other.search(TEXT, 5) for _ in range(100)))

        assert [[h.id for h in results] for results in asyncio.run(many())] == [found[0]] * 100
        assert len(loads) == 2


def test_a_first_search_that_fails(engine: Engine, index: str, tiny: Path) -> None:
    """All that waited hear of it, and the next one tries again."""
    client = SearchClient(engine=engine, index=index)
    with ThreadPoolExecutor(8) as pool:
        for attempt in [pool.submit(client.search, TEXT) for _ in range(16)]:
            assert "IndexNotFoundError" in type(attempt.exception()).__name__
    fill(engine, index, tiny / "router", 10)
    assert len(client.search(TEXT, 3)) == 3


def open_cursors(engine: ClusterEngine) -> int:
    """Points in time, and scrolls, that are open on the node."""
    stats = engine.request("GET", "/_nodes/stats/indices/search")
    total = 0
    for node in stats["nodes"].values():
        search = node["indices"]["search"]
        total += search.get("point_in_time_current", search.get("open_contexts", 0))
    return total


def test_cancelled_scans_release_their_points_in_time(
    engine: Engine, index: str, tiny: Path
) -> None:
    if not isinstance(engine, ClusterEngine):
        pytest.skip("SQLite holds nothing open")
    fill(engine, index, tiny / "router", 60)
    whole = len(list(SearchClient(engine=engine, index=index).scan(TEXT)))
    before = open_cursors(engine)
    seeded = random.Random(5)

    async def work() -> None:
        async with AsyncSearchClient(engine.url, index) as client:
            await client.search(TEXT)

            async def scan() -> int:
                return len([hit async for hit in client.scan(TEXT, page=5)])

            for _ in range(40):
                task = asyncio.create_task(scan())
                await asyncio.sleep(seeded.uniform(0, 0.02))
                task.cancel()
                with pytest.raises((asyncio.CancelledError, AssertionError)):
                    await task
                    raise AssertionError  # it had ended already
            assert await scan() == whole  # and the client goes on

    asyncio.run(work())
    assert open_cursors(engine) <= before


def test_interrupted_scan_releases_its_point_in_time(
    engine: Engine, index: str, tiny: Path
) -> None:
    """Ctrl-C between the pages, and in the midst of a search."""
    if not isinstance(engine, ClusterEngine):
        pytest.skip("SQLite holds nothing open")
    fill(engine, index, tiny / "router", 60)
    client = SearchClient(engine=engine, index=index)
    whole = len(list(client.scan(TEXT)))
    before = open_cursors(engine)
    for delay in (0.002, 0.01, 0.03, 0.06):
        with pytest.raises(KeyboardInterrupt):
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
            while True:
                assert len(list(client.scan(TEXT, page=5))) == whole
    # one may be lost where Ctrl-C comes between two lines of ours, and runs out by itself
    assert open_cursors(engine) <= before + 1
    assert len(list(client.scan(TEXT, page=5))) == whole


def test_ctrl_c_in_the_last_step_is_not_lost() -> None:
    """What must not be cut off ends, and then Ctrl-C is what it always is."""
    done: list[str] = []

    def steps() -> Generator[str, None, str]:
        yield "release"
        return "released"

    def slowly(step: str) -> None:
        time.sleep(0.3)
        done.append(step)

    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        drive(steps(), slowly, lambda step: True)
    assert done == ["release"]


def test_alias_that_finds_nothing(
    engine: Engine, index: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alias that is pointed elsewhere, and an index that is made anew, are noticed although the
    old query finds nothing there."""
    monkeypatch.setattr(steps, "_LOOK_SOON", 0.0)
    names = [f"{index}-1", f"{index}-2"]
    nothing = {"ids": {"values": ["nobody"]}}
    try:
        fill(engine, names[0], tiny / "router", 20)
        fill(engine, names[1], tiny / "bert", 30)
        engine.point_alias(index, names[0])
        client = SearchClient(engine=engine, index=index)
        assert client.search(TEXT, 5).weights_from == "index (20 documents)"
        engine.point_alias(index, names[1])
        assert client.search(TEXT, 5, filter=nothing).weights_from == "index (30 documents)"
        assert client.meta == engine.index_meta(names[1])
        engine.delete_index(names[1])
        fill(engine, names[1], tiny / "bert", 40)
        engine.point_alias(index, names[1])
        assert client.search(TEXT, 5, filter=nothing).weights_from == "index (40 documents)"
    finally:
        for name in names:
            engine.delete_index(name)


def test_one_id_in_two_indices_of_an_alias(engine: Engine, index: str, tiny: Path) -> None:
    """They are two documents, in a fused ranking as well; their statistics are added up."""
    if not isinstance(engine, ClusterEngine):
        pytest.skip("an alias of SQLite stands for one index")
    names = [f"{index}-1", f"{index}-2"]
    try:
        for name, count in zip(names, (12, 20), strict=True):
            fill(engine, name, tiny / "router", count)
        actions = [{"add": {"index": name, "alias": index}} for name in names]
        engine.request("POST", "/_aliases", {"actions": actions})
        client = SearchClient(engine=engine, index=index)
        results = client.search(TEXT, 32, "hybrid")
        keys = [(hit.index, hit.id) for hit in results]
        assert len(set(keys)) == len(keys) > 12
        assert {i for _, i in keys if (names[0], i) in keys and (names[1], i) in keys}
        for hit in results:
            stored = engine.documents(hit.index, [hit.id], None)[hit.id]
            assert all(stored[name] == value for name, value in hit.source.items())
        assert client.search(TEXT, 1).weights_from == "index (32 documents)"
    finally:
        for name in names:
            engine.delete_index(name)


def test_pages_of_a_two_phase_search(engine: Engine, index: str, tiny: Path) -> None:
    """Each hit once, in the order of the exact ranking; ``total`` and ``min_score`` agree."""
    fill(engine, index, tiny / "router", 200)
    client = SearchClient(engine=engine, index=index)
    seeded = np.random.default_rng(3)
    tokens = list(client.search(TEXT, 1).query)
    query = {token: float(w) for token, w in zip(tokens, seeded.uniform(1, 2, 99), strict=False)}
    exact = client.search(query, 200, "raw", total=True)
    two = QueryPruning(two_phase=TwoPhase(first=1, window=20))
    pages = [
        client.search(query, 10, "raw", offset=offset, query_pruning=two)
        for offset in range(10, len(exact), 10)
    ]
    scores = [hit.score for page in pages for hit in page]
    assert scores == pytest.approx([hit.score for hit in exact][10:], rel=1e-5)
    ids = [hit.id for page in pages for hit in page]
    assert len(set(ids)) == len(ids)
    least = exact[len(exact) // 2].score * (1 - 1e-5)
    above = [hit for hit in exact if hit.score >= least]
    found = client.search(query, 10, "raw", min_score=least, total=True, query_pruning=two)
    assert found.total == len(above)
    body = client.build(query, 10, "raw", offset=10, query_pruning=two)
    assert all(b"rescore" not in each for each in body)
    first = client.build(query, 10, "raw", query_pruning=two)
    assert all("rescore" in orjson.loads(each) for each in first)


def test_long_queries_do_not_hold_the_event_loop(engine: Engine, index: str, tiny: Path) -> None:
    if not isinstance(engine, ClusterEngine):
        pytest.skip("SQLite has no asynchronous engine")
    fill(engine, index, tiny / "router", 10)

    async def work() -> set[str]:
        async with AsyncSearchClient(engine.url, index) as client:
            await client.search(TEXT)
            encoder = client._steps._encoders["idf"]
            seen: set[str] = set()
            encode = encoder.encode

            def watched(*given: Any) -> Any:
                seen.add(threading.current_thread().name)
                return encode(*given)

            encoder.encode = watched  # type: ignore[method-assign]
            await client.search(f"{TEXT} " * 2_000, mode="idf")
            return seen

    assert threading.main_thread().name not in asyncio.run(work())


def test_engine_in_a_child_is_another_connection(tmp_path: Path) -> None:
    """SQLite forbids that a connection is used, or closed, in a forked process."""
    engine = connect(f"sqlite:///{tmp_path}/e.db")
    mine = engine._db  # type: ignore[attr-defined]
    assert in_child(lambda: engine._db is mine) is False  # type: ignore[attr-defined]
    with pytest.raises(EngineError):
        engine.index_meta("nothing")
