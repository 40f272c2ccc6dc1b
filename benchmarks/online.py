"""What an application waits for, above what it would wait for without us.

    python benchmarks/online.py [--url URL] [--documents 100000]

Documents are random words; the model is the starter. Without --url a node of its own is started.
Peers: opensearch-py with bodies of ours (``PUT`` of one document, the same search), `ingest` on the
same texts, and the node for the embedded engine. Times are medians of pairs, taken in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from opensearchpy import OpenSearch

from splade_os import AsyncIndex, DocumentEncoder, Index, SearchClient
from splade_os.engines import DocumentRenderer, Engine, IndexMeta, connect
from splade_os.ingest.documents.records import Item, Record, RecordReader, Rejected
from splade_os.ingest.index.adopt import adopt_index
from splade_os.ingest.index.target import new_meta
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.pipeline import ingest_documents
from splade_os.local import down, up
from splade_os.vectors import SparseBatch

PAIRS = 200
WORDS = (  # noqa: SIM905
    "river engine moon winter paper bridge doctor garden market music window stone coffee letter "
    "school forest ocean ticket camera planet bottle summer village hammer kitchen record island "
    "glass copper silver morning castle machine animal flower mountain hospital library soldier "
    "science history weather business language question picture problem product service support"
).split()
Texts = list[dict[str, Any]]


def texts(count: int, seed: int = 0) -> Texts:
    draw = random.Random(seed)
    return [
        {
            "id": f"d{n}",
            "text": " ".join(draw.choices(WORDS, k=40)),
            "brand": draw.choice(["acme", "bolt", "core"]),
            "price": draw.randrange(1000),
        }
        for n in range(count)
    ]


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def raw_client(url: str) -> OpenSearch:
    return OpenSearch(url, timeout=60)


def one_upsert(url: str) -> dict[str, Any]:
    """Above encoding the text, and a ``PUT`` of the same body."""
    index, raw = f"bench-one-{uuid.uuid4().hex[:6]}", raw_client(url)
    with Index(url, index, text_fields=["text"]) as products:
        documents = texts(2 * PAIRS + 1)
        products.upsert(documents[-1])
        meta = products.target()
        encoder = DocumentEncoder.load("starter", **meta.model.options().model_dump())
        encoder.adopt(meta.model)
        renderer = DocumentRenderer.for_index(encoder.vocabulary, meta)
        ours, peer = [], []
        for mine, theirs in zip(documents[:PAIRS], documents[PAIRS:], strict=False):
            ours.append(seconds(lambda: products.upsert(mine)))  # noqa: B023
            body: list[Any] = []

            def encode() -> None:
                batch = encoder.encode_content([theirs["text"]])  # noqa: B023
                (lines,) = renderer.render_many([(theirs["id"], theirs)], batch)  # noqa: B023
                assert isinstance(lines, bytes)
                body.append(orjson.loads(lines.split(b"\n")[1]))  # noqa: B023

            spent = seconds(encode)
            spent += seconds(lambda: raw.index(index=index, id=theirs["id"], body=body[0]))  # noqa: B023
            peer.append(spent)
        products.engine.delete_index(index)
    return above("upsert of one document", ours, peer, 3.0, "peer: encoding and a raw PUT")


def many_upserts(url: str) -> dict[str, Any]:
    """From 32 tasks, against an ingest of the same texts."""
    documents = texts(1000, seed=1)
    rates: dict[str, list[float]] = {"tasks": [], "ingest": []}
    engine = connect(url)
    encoder = DocumentEncoder.load("starter")
    for _ in range(3):
        index = f"bench-many-{uuid.uuid4().hex[:6]}"

        async def tasks() -> float:
            async with AsyncIndex(url, index, text_fields=["text"]) as products:  # noqa: B023
                await products.upsert(texts(1, seed=2)[0] | {"id": "first"})
                waiting = iter(documents)

                async def work() -> None:
                    for document in waiting:
                        await products.upsert(document)

                start = time.perf_counter()
                await asyncio.gather(*(work() for _ in range(32)))
                return len(documents) / (time.perf_counter() - start)

        rates["tasks"].append(asyncio.run(tasks()))
        engine.delete_index(index)
        took = seconds(lambda: ingested(engine, index, encoder, documents))  # noqa: B023
        rates["ingest"].append(len(documents) / took)
        engine.delete_index(index)
    engine.close()
    ours, peer = (statistics.median(each) for each in rates.values())
    note = "documents a second; peer: ingest of the same texts"
    return row("1,000 upserts, 32 tasks", ours, peer, "docs/s", 0.8, ours >= 0.8 * peer, note)


def ingested(engine: Engine, index: str, encoder: DocumentEncoder, documents: Texts) -> None:
    reader = RecordReader(text_fields=("text",))

    def records() -> Iterator[Record | Rejected]:
        for n, document in enumerate(documents, 1):
            yield reader.check(dict(document), Item(f"{n}", value=document), n)

    with tempfile.TemporaryDirectory() as folder:
        report = ingest_documents(
            records(),
            engine=engine,
            index=index,
            encoder=encoder,
            dead_letters=Path(folder) / "dead.jsonl",
            text_fields=("text",),
            options=IngestOptions(),
        )
    assert report.created == len(documents), report


def adopted_search(url: str) -> dict[str, Any]:
    """With filter, sort and aggregations, in an index that was somebody else's."""
    index, raw = f"bench-shop-{uuid.uuid4().hex[:6]}", raw_client(url)
    fields = {"brand": {"type": "keyword"}, "price": {"type": "integer"}, "text": {"type": "text"}}
    raw.indices.create(index=index, body={"mappings": {"properties": fields}})
    engine = connect(url)
    encoder = DocumentEncoder.load("starter")
    adopt_index(engine, index, encoder.identity, ["text"])
    with Index(url, index, engine=engine) as products:
        products.upsert(texts(2000, seed=3))
        products.refresh()
    client = SearchClient(engine=engine, index=index)
    more: Any = {
        "filter": {"term": {"brand": "acme"}},
        "sort": [{"price": "asc"}],
        "aggs": {"brands": {"terms": {"field": "brand"}}},
    }
    draw = random.Random(4)
    ours, peer = [], []
    for n in range(PAIRS + 20):
        text = " ".join(draw.choices(WORDS, k=4))
        (body,) = client.build(text, 10, **more)
        asked = orjson.loads(body)
        turns: list[Callable[[], None]] = [
            lambda: ours.append(seconds(lambda: client.search(text, 10, **more))),  # noqa: B023
            lambda: peer.append(seconds(lambda: raw.search(index=index, body=asked))),  # noqa: B023
        ]
        for turn in turns if n % 2 else reversed(turns):
            turn()
    engine.delete_index(index)
    engine.close()
    note = "filter, sort, aggs; peer: the same body by opensearch-py"
    return above("search in an adopted index", ours[20:], peer[20:], 0.3, note)


def embedded(url: str, count: int) -> dict[str, Any]:
    """IDF queries of SQLite, against the node."""
    index = f"bench-lite-{uuid.uuid4().hex[:6]}"
    encoder = DocumentEncoder.load("starter", backend="none")
    documents = texts(count, seed=5)
    took: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for place in (f"sqlite:///{folder}/bench.db", url):
            engine = connect(place)
            meta = new_meta(engine, encoder.unmeasured, ("text",))
            engine.create_index(index, meta)
            for body in bodies(encoder, meta, documents):
                assert all(outcome.ok for outcome in engine.bulk(index, body))
            engine.refresh(index)
            client = SearchClient(engine=engine, index=index, idf="model")
            draw = random.Random(6)
            queries = [" ".join(draw.choices(WORDS, k=4)) for _ in range(40)]
            spent = [seconds(lambda: client.search(text, 10, "idf")) for text in queries]  # noqa: B023
            took[place] = 1000 * statistics.median(spent[10:])
            engine.delete_index(index)
            engine.close()
    ours, peer = took.values()
    note = f"{count:,} documents, idf, 4 words, k = 10; peer: the node"
    return row("embedded engine (SQLite)", ours, peer, "ms", 20, ours <= 20 * peer, note)


def bodies(encoder: DocumentEncoder, meta: IndexMeta, documents: Texts) -> Iterable[bytes]:
    """Bulk requests; a word's weight is random: it is the engines that are compared."""
    renderer, draw = DocumentRenderer.for_index(encoder.vocabulary, meta), random.Random(7)
    ids = {word: number for number, word in enumerate(encoder.vocabulary.tokens)}
    for start in range(0, len(documents), 1000):
        page = documents[start : start + 1000]
        vectors = [
            {ids[w]: draw.uniform(0.1, 3) for w in each["text"].split() if w in ids}
            for each in page
        ]
        rows = [sorted(each) for each in vectors]
        batch = SparseBatch(
            np.cumsum([0, *map(len, rows)], dtype=np.int64),
            np.array([i for row in rows for i in row], np.int32),
            np.array([v[i] for v, row in zip(vectors, rows, strict=True) for i in row], np.float32),
            len(encoder.vocabulary),
        )
        lines = renderer.render_many([(each["id"], each) for each in page], batch)
        yield b"".join(line for line in lines if isinstance(line, bytes))


def above(
    case: str, ours: list[float], peer: list[float], goal: float, note: str
) -> dict[str, Any]:
    """The goal is milliseconds above the peer."""
    more = 1000 * statistics.median(a - b for a, b in zip(ours, peer, strict=True))
    mine, theirs = 1000 * statistics.median(ours), 1000 * statistics.median(peer)
    return row(case, mine, theirs, "ms", goal, more <= goal, f"{more:.2f} ms above; {note}")


def row(
    case: str, ours: float, peer: float, unit: str, goal: float, ok: bool, note: str
) -> dict[str, Any]:
    return {
        "case": case, "ours": round(ours, 3), "peer": round(peer, 3), "unit": unit,
        "ratio": round(ours / peer, 3), "goal": goal, "ok": ok, "note": note,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url")
    parser.add_argument("--documents", type=int, default=100_000)
    arguments = parser.parse_args()
    name = f"bench-online-{uuid.uuid4().hex[:6]}"
    url = arguments.url or up(name=name, via="jvm", port=0, heap="1g").url
    try:
        rows = [
            one_upsert(url),
            many_upserts(url),
            adopted_search(url),
            embedded(url, arguments.documents),
        ]
    finally:
        if arguments.url is None:
            down(name, delete_data=True)
    for r in rows:
        numbers = f"{r['ours']:>10}{r['peer']:>10} {r['unit']:<7}{r['ok']!s:<6}"
        print(f"{r['case']:<28}{numbers}{r['note']}", file=sys.stderr)
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    print(json.dumps({"benchmark": "online", "machine": machine, "rows": rows}))


if __name__ == "__main__":
    main()
