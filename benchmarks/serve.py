"""What the HTTP service costs above the node behind it.

    python benchmarks/serve.py [--url URL] [--documents 20000] [--only overhead,batches,crowd,paint]

Documents are random words; the model is the starter. Without --url a node of its own is started.
The service is a process of its own. Peers: the node itself, which gets the body that the service
would send it, from the same client over the same kind of connection, in turns; and the service's
own encoder asked one query after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from online import WORDS, texts
from query import report, row

from splade_os import Index, SearchClient
from splade_os.engines import connect
from splade_os.local import down, up

ROUNDS, AT_ONCE, CONNECTIONS = 5, 16, 1_000
K = 10
_MOST_GROWTH = 30.0  # MB


class Connection:
    """One kept-alive connection, as thin as Python has it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        lines = answer.lower().split(b"\r\n")
        length = next(int(x.partition(b":")[2]) for x in lines if x.startswith(b"content-length:"))
        return int(lines[0].split()[1]), await reader.readexactly(length)

    async def close(self) -> None:
        """End it at once."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@contextmanager
def service(url: str, index: str) -> Iterator[tuple[str, int]]:
    """URL and process id of `splade-os serve`."""
    command = [sys.executable, "-m", "splade_os", "serve", "--url", url, "--index", index]
    process = subprocess.Popen(
        [*command, "--port", "0", "--log-format", "json", "--max-concurrent", "64"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = json.loads(process.stderr.readline())["message"]
    reading = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
    try:
        yield said.rpartition(" at ")[2], process.pid
    finally:
        process.terminate()
        process.wait()
        reading.wait()


def megabytes(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def timed(connection: Connection, path: str, bodies: Sequence[bytes]) -> list[float]:
    """Seconds of each request, one after the other."""
    found = []
    for body in bodies:
        start = time.perf_counter()
        status, _ = await connection.post(path, body)
        found.append(time.perf_counter() - start)
        assert status == 200, status
    return found


async def rate(url: str, path: str, bodies: Sequence[bytes], at_once: int) -> float:
    """Requests a second."""
    left = iter(bodies)

    async def work() -> None:
        connection = Connection(url)
        for body in left:
            status, _ = await connection.post(path, body)
            assert status == 200, status
        await connection.close()

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return len(bodies) / (time.perf_counter() - start)


def queries(count: int) -> list[str]:
    return [f"{WORDS[n % 50]} {WORDS[(n * 7) % 49]} {WORDS[(n * 3) % 47]}" for n in range(count)]


async def overhead(node: str, url: str, index: str) -> dict[str, Any]:
    """The same idf searches through the service, and straight to the node."""
    asked = queries(300)
    with SearchClient(node, index) as client:
        sent = [client.build(text, K, "idf")[0] for text in asked]
    ours = [orjson.dumps({"text": text, "k": K, "mode": "idf"}) for text in asked]
    straight, through = Connection(node), Connection(url)
    path = f"/{index}/_search"
    for connection, where, bodies in ((straight, path, sent), (through, "/v1/search", ours)):
        await timed(connection, where, bodies)  # warm
    one: list[float] = []
    other: list[float] = []
    rates: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        one += await timed(straight, path, sent)
        other += await timed(through, "/v1/search", ours)
        rates.append(
            (
                await rate(node, path, sent * 3, AT_ONCE),
                await rate(url, "/v1/search", ours * 3, AT_ONCE),
            )
        )
    added = 1000 * (statistics.median(other) - statistics.median(one))
    share = statistics.median(ours_ / nodes for nodes, ours_ in rates)
    return {
        "node_p50_ms": 1000 * statistics.median(one),
        "service_p50_ms": 1000 * statistics.median(other),
        "node_per_s": statistics.median(nodes for nodes, _ in rates),
        "service_per_s": statistics.median(ours_ for _, ours_ in rates),
        "added_ms": added,
        "share_of_rate": share,
        "goal_added_2_ms": added <= 2,
        "goal_rate_0.7": share >= 0.7,
    }


async def batches(url: str) -> dict[str, Any]:
    """Encoder queries, sixteen at once and one after the other."""
    bodies = [
        orjson.dumps({"texts": [text], "side": "query", "mode": "encoder"}) for text in queries(320)
    ]
    await rate(url, "/v1/encode", bodies[:64], AT_ONCE)
    pairs = []
    for _ in range(ROUNDS):
        alone = await rate(url, "/v1/encode", bodies, 1)
        pairs.append((alone, await rate(url, "/v1/encode", bodies, AT_ONCE)))
    gain = statistics.median(many / alone for alone, many in pairs)
    return {
        "alone_per_s": statistics.median(alone for alone, _ in pairs),
        "batched_per_s": statistics.median(many for _, many in pairs),
        "gain": gain,
        "goal_gain_2": gain >= 2,
    }


async def crowd(url: str, pid: int) -> dict[str, Any]:
    """A thousand connections, slow clients and clients that go away: memory, and status codes."""
    body = orjson.dumps({"text": "river engine", "k": K, "mode": "idf"})
    codes: dict[int, int] = {}
    gate = asyncio.Semaphore(CONNECTIONS)

    async def once(kind: int) -> None:
        connection = Connection(url)
        async with gate:
            try:
                if kind == 0:  # goes away in the midst of its request
                    asking = asyncio.ensure_future(connection.post("/v1/search", body))
                    await asyncio.sleep(0.005)
                    asking.cancel()
                    await asyncio.gather(asking, return_exceptions=True)
                    return
                if kind == 1:  # sends a byte at a time, and gives up
                    parts = urlsplit(url)
                    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
                    head = (
                        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n"
                    )
                    writer.write(head)
                    for _ in range(5):
                        writer.write(b" ")
                        await asyncio.sleep(0.05)
                    writer.close()
                    return
                status, _ = await connection.post("/v1/search", body)
                codes[status] = codes.get(status, 0) + 1
            except (ConnectionError, asyncio.IncompleteReadError):
                codes[0] = codes.get(0, 0) + 1
            finally:
                await connection.close()

    async def wave() -> None:
        await asyncio.gather(*(once(number % 5) for number in range(CONNECTIONS)))

    for _ in range(3):  # what the first ones allocate stays
        await wave()
    before = megabytes(pid)
    for _ in range(10):
        await wave()
    growth = megabytes(pid) - before
    status, _ = await Connection(url).post("/v1/search", body)
    return {
        "connections": CONNECTIONS,
        "codes": {str(code): count for code, count in sorted(codes.items())},
        "megabytes": before,
        "growth_mb": growth,
        "goal_flat": growth <= _MOST_GROWTH,
        "goal_codes": set(codes) <= {200, 429} and status == 200,
    }


def paint(url: str) -> dict[str, Any]:
    """The page of three columns in Chromium, on a desktop: first paint, and bytes."""
    try:
        from tests.serve.browser import open_browser

        browser = open_browser()
    except BaseException as error:  # pytest's Skipped is no Exception
        return {"skipped": str(error)}
    first, size = [], 0
    try:
        for text in ["", *queries(20)]:
            browser.get(f"{url}/?{urlencode({'q': text})}")
            found = browser.execute_script(
                "const e = n => performance.getEntriesByType(n);"
                "return [e('paint').find(p => p.name === 'first-contentful-paint')?.startTime,"
                "e('navigation').concat(e('resource')).reduce((s, r) => s + r.decodedBodySize, 0)]"
            )
            if text and found[0] is not None:
                first.append(found[0])
                size = max(size, found[1])
    finally:
        browser.quit()
    median = statistics.median(first)
    return {
        "first_paint_ms": median,
        "page_kb": size / 1000,
        "goal_paint_300_ms": median < 300,
        "goal_150_kb": size < 150_000,
    }


def fill(url: str, count: int) -> str:
    """A new index."""
    index = f"bench-serve-{uuid.uuid4().hex[:6]}"
    with Index(url, index, text_fields=["text"]) as documents:
        documents.upsert(texts(count))
        documents.refresh()
    return index


def rows_of(result: dict[str, Any], documents: int) -> list[dict[str, Any]]:
    """What was measured, as all benchmarks print it."""
    rows = []
    what = f"{documents:,} documents"
    if found := result.get("overhead"):
        ours, node = found["service_p50_ms"], found["node_p50_ms"]
        rows += [
            row("idf search, p50 above the node", ours, node, "ms", 2, found["added_ms"] <= 2,
                f"{what}; goal: at most so much more than the peer, the same body sent straight"),
            row("idf searches a second, 16 connections", found["service_per_s"],
                found["node_per_s"], "1/s", 0.7, found["share_of_rate"] >= 0.7,
                f"{what}; peer: the same body sent straight"),
        ]  # fmt: skip
    if found := result.get("batches"):
        rows.append(
            row("encoder queries a second, 16 at once", found["batched_per_s"],
                found["alone_per_s"], "1/s", 2, found["gain"] >= 2, "peer: one by one")
        )  # fmt: skip
    if found := result.get("crowd"):
        good = found["goal_flat"] and found["goal_codes"]
        rows.append(
            row("1,000 connections: memory growth", found["growth_mb"], None, "MB",
                _MOST_GROWTH, good, f"status codes {found['codes']}")
        )  # fmt: skip
    if (found := result.get("paint")) and "skipped" not in found:
        rows += [
            row("first paint", found["first_paint_ms"], None, "ms", 300,
                found["goal_paint_300_ms"], "Chromium, the local node"),
            row("page", found["page_kb"], None, "kB", 150, found["goal_150_kb"], ""),
        ]  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url")
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--only", default="overhead,batches,crowd,paint")
    given = parser.parse_args()
    node = given.url or up(name="bench-serve", port=0).url
    index, result = "", dict[str, Any]()
    try:
        index = fill(node, given.documents)
        with service(node, index) as (url, pid):
            cases: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
                "overhead": lambda: overhead(node, url, index),
                "batches": lambda: batches(url),
                "crowd": lambda: crowd(url, pid),
                "paint": lambda: asyncio.to_thread(paint, url),
            }
            for name in given.only.split(","):
                result[name] = asyncio.run(cases[name]())  # type: ignore[arg-type]
                for key, value in result[name].items():
                    shown = f"{value:.3g}" if isinstance(value, float) else value
                    print(f"{name:>10}  {key:<16} {shown}", file=sys.stderr)
        engine = connect(node)
        info = engine.info()
        engine.close()
        report("serve", info, rows_of(result, given.documents))
    finally:
        if index:
            engine = connect(node)
            engine.delete_index(index)
            engine.close()
        if given.url is None:
            down("bench-serve", delete_data=True)


if __name__ == "__main__":
    main()
