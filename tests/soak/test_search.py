"""Searches of every kind between writes, deletions, alias switches, forks and cancelled tasks: no
hit is ever another than that of arithmetic over what was written."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splade_os import AsyncSearchClient, Results, SearchClient
from splade_os.engines import Engine, connect
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import EngineError, IndexNotFoundError
from splade_os.features import truncate
from splade_os.ingest.index.target import ensure_index
from splade_os.local import down, up
from splade_os.local.state import load_state
from tests.search.test_search import WORDS, loaded
from tests.search.test_service import in_child

Documents = dict[str, dict[str, Any]]
RARE = [word for word in WORDS if word not in ("engine", "document")]  # what no analyzer merges


@dataclass
class Service:
    """Two indices, an alias that stands for one of them, and what each holds."""

    engine: Engine
    alias: str
    random: random.Random
    field: str
    holds: dict[str, Documents] = field(default_factory=dict)
    live: str = ""

    @property
    def documents(self) -> Documents:
        return self.holds[self.live]

    def write(self, index: str, count: int) -> None:
        lines = []
        for _ in range(count):
            identifier = f"d{self.random.randrange(80)}"
            words = self.random.sample(RARE, self.random.randint(1, 6))
            vector = {word: round(self.random.uniform(0.1, 3), 4) for word in words}
            source = {"text": " ".join(words), "n": self.random.randrange(10)}
            lines += [{"index": {"_id": identifier}}, {**source, self.field: vector}]
            self.holds[index][identifier] = {**source, "vector": vector}
        self.send(index, lines)

    def delete(self, index: str) -> None:
        gone = self.random.sample(sorted(self.holds[index]), min(3, len(self.holds[index])))
        self.send(index, [{"delete": {"_id": identifier}} for identifier in gone])
        for identifier in gone:
            del self.holds[index][identifier]

    def send(self, index: str, lines: list[dict[str, Any]]) -> None:
        if lines:
            body = "".join(json.dumps(line) + "\n" for line in lines).encode()
            assert all(outcome.ok for outcome in self.engine.bulk(index, body))
            self.engine.refresh(index)

    def switch(self) -> None:
        self.live = self.random.choice(sorted(self.holds))
        self.engine.point_alias(self.alias, self.live)

    def expected(self, query: dict[str, float], n: int | None = None) -> dict[str, float]:
        """Id → score of every document that a weighted term query finds."""
        found = {}
        for identifier, document in self.documents.items():
            weights = document["vector"]
            shared = [word for word in query if word in weights]
            if not shared or (n is not None and document["n"] < n):
                continue
            stored = truncate(np.array([weights[word] for word in shared], np.float32))
            asked = np.array([query[word] for word in shared], np.float32)
            found[identifier] = float(stored.astype(np.float64) @ asked.astype(np.float64))
        return found

    def query(self) -> dict[str, float]:
        words = self.random.sample(RARE, self.random.randint(1, 5))
        return {word: round(self.random.uniform(0.1, 3), 3) for word in words}


def same(hits: Any, expected: dict[str, float], k: int | None = None, offset: int = 0) -> None:
    """Whether hits are a page of a ranking; equal scores come in any order."""
    got = [(hit.id, hit.score) for hit in hits]
    ranking = sorted(expected.values(), reverse=True)[offset : None if k is None else offset + k]
    assert len({identifier for identifier, _ in got}) == len(got), "a hit comes twice"
    np.testing.assert_allclose([score for _, score in got], ranking, rtol=1e-4)
    for identifier, score in got:
        assert expected[identifier] == pytest.approx(score, rel=1e-4)


@pytest.fixture
def service(engine: Engine, index: str, tiny: Path, seed: int) -> Iterator[Service]:
    service = made(engine, index, tiny, seed)
    yield service
    for name in service.holds:
        with contextlib.suppress(IndexNotFoundError):
            engine.delete_index(name)


def made(engine: Engine, alias: str, tiny: Path, seed: int) -> Service:
    """Two indices with some documents, and an alias of one of them."""
    identity = loaded(tiny / "router").identity
    names = [f"{alias}-{letter}" for letter in "ab"]
    metas = [ensure_index(engine, name, identity, ("text",)) for name in names]
    service = Service(engine, alias, random.Random(seed), metas[0].field)
    service.holds = {name: {} for name in names}
    for name in names:
        service.write(name, 30)
    service.switch()
    return service


def test_no_wrong_hit(engine_url: str, service: Service, rounds: Iterator[int], seed: int) -> None:
    with SearchClient(engine_url, service.alias, idf="model") as client:
        for number in rounds:
            operate(client, service, number, seed)


def test_no_wrong_hit_when_nodes_die(tiny: Path, rounds: Iterator[int], seed: int) -> None:
    """A node of its own is killed and started again between the operations, under clients that
    know nothing of it; `make soak` alone, since a start takes ten seconds."""
    if "SPLADE_OS_SOAK_SECONDS" not in os.environ:
        pytest.skip("make soak kills nodes")
    name = f"soak-{os.getpid()}"
    try:
        state = up(name=name, via="jvm", port=0, heap="512m")
        with contextlib.closing(connect(state.url)) as engine:
            service = made(engine, f"soak-{os.getpid()}", tiny, seed)
            with SearchClient(state.url, service.alias, idf="model") as client:
                for number in rounds:
                    if number % 60 == 30:
                        (node,) = load_state(name).nodes  # type: ignore[union-attr]
                        os.kill(node.pid or 0, signal.SIGKILL)
                        with pytest.raises(EngineError):
                            client.search(service.query(), 5, "raw")
                        up(name=name, via="jvm", port=node.port, heap="512m")
                        searchable(engine, service)
                    operate(client, service, number, seed)
    finally:
        down(name, delete_data=True)


def searchable(engine: Engine, service: Service) -> None:
    """Wait until the shards of a node that was started again are there."""
    end = time.monotonic() + 60
    while True:
        try:
            for index in service.holds:
                engine.count(index)
            return
        except EngineError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def operate(client: SearchClient, service: Service, number: int, seed: int) -> None:
    operation = service.random.choice(OPERATIONS)
    try:
        operation(client, service)
    except BaseException as error:
        error.add_note(f"operation {number}, {operation.__name__}, seed {seed}")
        raise


def write(client: SearchClient, service: Service) -> None:
    service.write(service.random.choice(sorted(service.holds)), service.random.randint(1, 8))


def delete(client: SearchClient, service: Service) -> None:
    service.delete(service.random.choice(sorted(service.holds)))


def switch(client: SearchClient, service: Service) -> None:
    service.switch()


def page(client: SearchClient, service: Service) -> None:
    query, k, offset = service.query(), service.random.randint(1, 15), service.random.randint(0, 20)
    expected = service.expected(query)
    found = client.search(query, k, "raw", offset=offset, total=True)
    same(found, expected, k, offset)
    assert found.total == len(expected)


def filtered(client: SearchClient, service: Service) -> None:
    query, n = service.query(), service.random.randrange(10)
    found = client.search(query, 100, "raw", filter={"range": {"n": {"gte": n}}})
    same(found, service.expected(query, n))
    if found:
        least = service.random.choice([hit.score for hit in found])
        some = client.search(query, 100, "raw", min_score=least * 0.999)
        same(some, {i: s for i, s in service.expected(query).items() if s >= least * 0.999})


def many(client: SearchClient, service: Service) -> None:
    queries = [service.query() for _ in range(5)]
    for query, found in zip(queries, client.search_many(queries, 100, "raw"), strict=True):
        assert isinstance(found, Results), found
        same(found, service.expected(query))


def by_text(client: SearchClient, service: Service) -> None:
    """The modes that take words; BM25 finds what holds one of them, and a sum what either finds."""
    words = service.random.sample(RARE, 3)
    text = " ".join(words)
    idf = client.search(text, 100, "idf")
    same(idf, service.expected(dict(idf.query)))
    encoder = client.search(text, 100, "encoder", query_pruning=None)
    assert len(encoder) <= 100
    bm25 = client.search(text, 100, "bm25")
    holding = {i for i, d in service.documents.items() if set(words) & set(str(d["text"]).split())}
    assert {hit.id for hit in bm25} == holding
    both = dict.fromkeys({hit.id for hit in bm25} | {hit.id for hit in idf}, 0.0)
    for found, weight in ((idf, 1.0), (bm25, 1.0)):
        for hit in found:
            both[hit.id] += weight * hit.score
    same(client.search(text, 100, "hybrid"), both)


def scan(client: SearchClient, service: Service) -> None:
    """One view of the index, whatever is written meanwhile."""
    query = service.query()
    expected, hits = service.expected(query), []
    for number, hit in enumerate(client.scan(query, "raw", page=4)):
        if number == 2:
            service.random.choice([write, delete, switch])(client, service)
        hits.append(hit)
    same(hits, expected)


def abandoned_scan(client: SearchClient, service: Service) -> None:
    for _ in client.scan(service.query(), "raw", page=2):
        break


def forked(client: SearchClient, service: Service) -> None:
    query = service.query()

    def ask() -> list[tuple[str, float]]:
        return [(hit.id, hit.score) for hit in client.search(query, 100, "raw")]

    theirs = in_child(ask)
    assert isinstance(theirs, list), theirs
    assert sorted(theirs) == sorted(ask())
    same(client.search(query, 100, "raw"), service.expected(query))


def cancelled(client: SearchClient, service: Service) -> None:
    """Tasks that are cancelled at any moment leave a client that is right."""
    if not isinstance(service.engine, ClusterEngine):
        return
    query, url = service.query(), service.engine.url

    async def work() -> Results:
        async with AsyncSearchClient(url, service.alias) as other:

            async def all_of_it() -> int:
                return len([hit async for hit in other.scan(query, "raw", page=3)])

            for _ in range(3):
                task = asyncio.create_task(all_of_it())
                await asyncio.sleep(service.random.uniform(0, 0.02))
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            return await other.search(query, 100, "raw")

    same(asyncio.run(work()), service.expected(query))


def cut_off(client: SearchClient, service: Service) -> None:
    """Ctrl-C at any moment leaves a client that is right."""
    query = service.query()
    # not by SIGALRM, with which the time of a test is bounded
    timer = threading.Timer(
        service.random.uniform(1e-4, 0.02), signal.raise_signal, [signal.SIGINT]
    )
    with contextlib.suppress(KeyboardInterrupt):
        try:
            timer.start()
            for _ in client.scan(query, "raw", page=3):
                pass
        finally:
            timer.cancel()
            timer.join()
    same(client.search(query, 100, "raw"), service.expected(query))


def refused(client: SearchClient, service: Service) -> None:
    """An error leaves nothing behind."""
    with pytest.raises(EngineError):
        client.search(service.query(), 5, "raw", filter={"no such clause": {}})
    page(client, service)


OPERATIONS = (
    write, delete, switch, page, page, filtered, many, by_text, scan, abandoned_scan, forked,
    cancelled, cut_off, refused,
)  # fmt: skip
