"""A case of `query.py`: SQLite with 100,000 documents, filters, threads."""

from __future__ import annotations

import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from online import WORDS, bodies, texts

from splade_os import DocumentEncoder, SearchClient
from splade_os.engines import connect
from splade_os.ingest.index.target import new_meta

DOCUMENTS = 100_000
THREADS = 8
TIMED = {"idf": 30, "bm25": 8}
Row = dict[str, Any]
FILTERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "term, 33 % pass": lambda n: {"term": {"brand": "acme"}},
    "range, 50 % pass, another each time": lambda n: {"range": {"price": {"gte": 470 + n}}},
    "range, 10 % pass, another each time": lambda n: {"range": {"price": {"gte": 885 + n}}},
    "range, 1 % pass, another each time": lambda n: {
        "range": {"price": {"gte": 990, "lt": 1e4 + n}}
    },
    "range, 1 % pass, the same": lambda n: {"range": {"price": {"gte": 990}}},
    "not, 67 % pass": lambda n: {"bool": {"must_not": [{"term": {"brand": "acme"}}]}},
    "100 ids": lambda n: {"ids": {"values": [f"d{i + n}" for i in range(100)]}},
    "nothing passes": lambda n: {"term": {"brand": f"none {n}"}},
}


def embedded(row: Callable[..., Row]) -> list[Row]:
    """Each filter beside the same query without it, in turns."""
    encoder = DocumentEncoder.load("starter", backend="none")
    with tempfile.TemporaryDirectory() as folder:
        engine = connect(f"sqlite:///{Path(folder) / 'bench.db'}")
        meta = new_meta(engine, encoder.unmeasured, ("text",))
        engine.create_index("x", meta)
        start = time.perf_counter()
        for body in bodies(encoder, meta, texts(DOCUMENTS, seed=5)):
            assert all(outcome.ok for outcome in engine.bulk("x", body))
        rate = DOCUMENTS / (time.perf_counter() - start)
        client = SearchClient(engine=engine, index="x", idf="model")
        rows = [each for mode in TIMED for each in _mode(client, mode, rate, row)]
        engine.close()
    return rows


def _mode(client: SearchClient, mode: Any, rate: float, row: Callable[..., Row]) -> list[Row]:
    draw = random.Random(6)
    asked = [" ".join(draw.choices(WORDS, k=4)) for _ in range(TIMED[mode])]
    times: dict[str, list[float]] = {"": [], **{name: [] for name in FILTERS}}
    for n, text in enumerate(asked):
        for name, found in times.items():
            clause = FILTERS[name](n) if name else None
            start = time.perf_counter()
            client.search(text, 10, mode, filter=clause)
            found.append(time.perf_counter() - start)
    plain, *filtered = (statistics.median(found[2:]) * 1e3 for found in times.values())
    note = (
        f"{DOCUMENTS:,} documents, 4 words in half of them each; written at {rate:.0f} documents/s"
    )
    rows = [row(f"SQLite: {mode}", plain, None, "ms", None, None, note)]
    for name, took in zip(FILTERS, filtered, strict=True):
        fast = took <= 1.5 * plain
        rows.append(row(f"SQLite: {mode}, {name}", took, plain, "ms", 1.5, fast, "peer: no filter"))
    return [*rows, _many(client, mode, asked[:8], row)]


def _many(client: SearchClient, mode: Any, asked: list[str], row: Callable[..., Row]) -> Row:
    """Threads of one client, each with all queries."""

    def work() -> None:
        for text in asked:
            client.search(text, 10, mode)

    work()
    start = time.perf_counter()
    work()
    alone = time.perf_counter() - start
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = (time.perf_counter() - start) / THREADS
    note = "of all queries, a thread's share; peer: one thread alone"
    return row(f"SQLite: {mode}, {THREADS} threads", together * 1e3, alone * 1e3, "ms", 1.5,
               together <= 1.5 * alone, note)  # fmt: skip
