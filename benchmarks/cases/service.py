"""Cases of `query.py` about a search service: its first searches, and many at a time.

Documents are random words (`online.py`); the model is the starter.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import random
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import urllib3
from online import WORDS, bodies, texts

from splade_os import AsyncSearchClient, DocumentEncoder, SearchClient
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.engines import connect
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.ingest.index.target import new_meta
from splade_os.statistics import TermStatistics

DOCUMENTS = 20_000
AT_ONCE = 16  # threads, and processes
BLOCKS = 3  # of each side, in turns
Row = dict[str, Any]


@contextmanager
def some_index(url: str, documents: int = DOCUMENTS) -> Iterator[str]:
    """An index of random words."""
    index, encoder = (
        f"bench-service-{uuid.uuid4().hex[:6]}",
        DocumentEncoder.load("starter", backend="none"),
    )
    engine = connect(url)
    meta = new_meta(engine, encoder.unmeasured, ("text",))
    engine.create_index(index, meta)
    for body in bodies(encoder, meta, texts(documents, seed=5)):
        assert all(outcome.ok for outcome in engine.bulk(index, body))
    engine.refresh(index)
    counts = np.random.default_rng(0).integers(1, documents, len(encoder.vocabulary))
    engine.save_statistics(index, TermStatistics(documents, 40 * documents, counts))
    try:
        yield index
    finally:
        engine.delete_index(index)
        engine.close()


def queries(seed: int, count: int = 200) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=4)) for _ in range(count)]


def first(url: str, row: Callable[..., Row]) -> list[Row]:
    """The first search of a process, and a herd of first searches."""
    with some_index(url, 1000) as index:
        engine = ClusterEngine(url)
        asked, send = [], engine._wire.send
        engine._wire.send = lambda call: (asked.append(call.path), send(call))[1]  # type: ignore[method-assign]
        SearchClient(engine=engine, index=index).search("river engine", 10, "idf")
        engine.close()
        note = "idf; " + ", ".join(asked)
        rows = [row("first search: requests", len(asked), None, "", 5, len(asked) <= 5, note)]
        for name, herd in (("50 threads", threads_at_once), ("200 coroutines", tasks_at_once)):
            rows.append(_herd(name, herd, url, index, row))
    return rows


def _herd(name: str, herd: Any, url: str, index: str, row: Callable[..., Row]) -> Row:
    loads: list[str] = []
    load = IdfQueryEncoder.load.__func__  # type: ignore[attr-defined]

    def counted(cls: Any, *arguments: Any, **options: Any) -> Any:
        loads.append("idf")
        return load(cls, *arguments, **options)

    IdfQueryEncoder.load = classmethod(counted)  # type: ignore[method-assign, assignment]
    try:
        runs = []
        for _ in range(4):  # the first one warms what every process does once
            alone = herd(url, index, 1)[0]
            before = len(loads)
            cold, warm = herd(url, index)
            runs.append((cold - warm, alone, len(loads) - before))
    finally:
        IdfQueryEncoder.load = classmethod(load)  # type: ignore[method-assign, assignment]
    ours, peer, most = (f(x) for f, x in zip((statistics.median, statistics.median, max),
                                             zip(*runs[1:], strict=True), strict=True))  # fmt: skip
    note = f"{most} loads; above the same searches once more; peer: one first search"
    ok = most == 1 and ours <= 1.5 * peer
    return row(f"first search: {name}", ours * 1e3, peer * 1e3, "ms", 1.5, ok, note)


def threads_at_once(url: str, index: str, count: int = 50) -> tuple[float, float]:
    """Seconds of as many searches at once, with nothing known and then once more."""
    with SearchClient(url, index) as client:

        def all_of_them() -> float:
            started = time.perf_counter()
            threads = [
                threading.Thread(target=client.search, args=("river engine", 10, "idf"))
                for _ in range(count)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return time.perf_counter() - started

        return all_of_them(), all_of_them()


def tasks_at_once(url: str, index: str, count: int = 200) -> tuple[float, float]:
    async def work() -> tuple[float, float]:
        async with AsyncSearchClient(url, index) as client:

            async def all_of_them() -> float:
                started = time.perf_counter()
                await asyncio.gather(
                    *(client.search("river engine", 10, "idf") for _ in range(count))
                )
                return time.perf_counter() - started

            return await all_of_them(), await all_of_them()

    return asyncio.run(work())


class Discarded(logging.Handler):
    """Counts connections that a pool had no room for."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "pool is full" in record.getMessage()


def service(url: str, seconds: float, row: Callable[..., Row]) -> list[Row]:
    """Searches of 16 threads, then of 16 processes, against the same bodies by raw urllib3."""
    with some_index(url) as index:
        block = seconds / (2 * BLOCKS)
        return [
            _judged("threads", *_threads(url, index, block), row),
            _judged("processes", *_processes(url, index, block), row),
        ]


def _judged(
    kind: str, ours: list[float], peer: list[float], faults: list[str], row: Callable[..., Row]
) -> Row:
    p50, p99 = np.percentile(ours, [50, 99]) * 1e3
    ratio = len(ours) / len(peer)
    note = (
        f"searches done, idf; peer: the same bodies by raw urllib3, in turns; p50 {p50:.1f} ms, "
        f"p99 {p99:.1f} ms (goal 3x: {p99 / p50:.1f}x); {len(faults)} errors, discarded connections"
    )
    ok = ratio >= 0.8 and p99 <= 3 * p50 and not faults
    return row(
        f"{AT_ONCE} {kind}",
        len(ours),
        len(peer),
        "",
        0.8,
        ok,
        "; ".join([note, *faults[:1]]),
        ratio,
    )


def _both(url: str, index: str, client: SearchClient, pool: Any, seed: int) -> tuple[Any, Any]:
    """A search of ours, and the same without us."""
    asked = queries(seed)
    prepared = [client.build(text, 10, "idf")[0] for text in asked]
    path, headers = f"{url}/{index}/_search", {"content-type": "application/json"}

    def raw(number: int) -> None:
        assert pool.request("POST", path, body=prepared[number], headers=headers).status == 200

    return lambda number: client.search(asked[number], 10, "idf"), raw


def _loop(
    work: Callable[[int], Any], seconds: float, times: list[float], faults: list[str]
) -> None:
    end, number = time.perf_counter() + seconds, 0
    while (start := time.perf_counter()) < end:
        try:
            work(number % 200)
        except Exception as error:  # that is counted
            faults.append(f"{type(error).__name__}: {error}")
        times.append(time.perf_counter() - start)
        number += 1


def _threads(url: str, index: str, block: float) -> tuple[list[float], list[float], list[str]]:
    discarded = Discarded()
    logging.getLogger("urllib3.connectionpool").addHandler(discarded)
    pool = urllib3.PoolManager(maxsize=AT_ONCE)
    faults: list[str] = []
    sides: tuple[list[float], list[float]] = ([], [])
    with SearchClient(url, index) as client:
        works = [_both(url, index, client, pool, n) for n in range(AT_ONCE)]
        for side in (0, 1) * BLOCKS:
            threads = [
                threading.Thread(target=_loop, args=(work[side], block, sides[side], faults))
                for work in works
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    logging.getLogger("urllib3.connectionpool").removeHandler(discarded)
    return *sides, faults + ["discarded"] * discarded.count


def _processes(url: str, index: str, block: float) -> tuple[list[float], list[float], list[str]]:
    context = multiprocessing.get_context("spawn")
    results, gate = context.Queue(), context.Barrier(AT_ONCE)
    processes = [
        context.Process(target=_process, args=(url, index, block, n, gate, results))
        for n in range(AT_ONCE)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    ours, peer, faults = ([x for each in part for x in each] for part in zip(*found, strict=True))
    return ours, peer, faults


def _process(url: str, index: str, block: float, seed: int, gate: Any, results: Any) -> None:
    faults: list[str] = []
    sides: tuple[list[float], list[float]] = ([], [])
    with SearchClient(url, index) as client:
        works = _both(url, index, client, urllib3.PoolManager(maxsize=1), seed)
        for work in works:
            work(0)
        for side in (0, 1) * BLOCKS:
            gate.wait(120)
            _loop(works[side], block, sides[side], faults)
    results.put((*sides, faults))
