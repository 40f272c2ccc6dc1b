"""The field types side by side, at sizes that a cluster has: load, bytes, time of a query, quality.

    python benchmarks/scale.py [--sizes 10000,100000] [--large] [--collections cranfield,...]

One real OpenSearch node. The documents are those of the collections in ``shared/data``, encoded
once by ``starter`` (kept in the cache folder), and enlarged as ``query.py`` does: each is half of
one real document and half of another, so that every term keeps its share of the documents.
``--large`` adds a million.

Load: documents with given vectors through the whole ingest, and opensearch-py's ``parallel_bulk``
writing ``rank_features``; a core each for client and node, in turns. Bytes: of one segment, without
``_source``, less those of the same index without vectors. Queries: wall clock of a prepared
request over a kept connection, less that of a request that matches nothing, of each query the best
of several in turns. Quality: every collection in both field types.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import orjson
from ir_measures import nDCG
from query import CHUNK, REPEATS, Chunk, K, encoded, fill, mixed, report, row

from ingest import cpu_seconds, ours, peer, pin, prepare
from splade_os import EXACT, DocumentEncoder, SearchClient, SparseBatch
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.engines import DocumentRenderer
from splade_os.engines.fields.strategies import strategy_for
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.evaluation.beir import read_judged
from splade_os.features import decimals
from splade_os.ingest.documents.records import Record, RecordReader
from splade_os.ingest.index.target import new_meta
from splade_os.ingest.sources import find_source, read_source
from splade_os.local import down, up
from splade_os.search.options import DEFAULT_PRUNING
from splade_os.statistics import TermStatistics

DATA = Path(__file__).parents[2] / "shared" / "data"
COLLECTIONS = "scifact,fairytaleqa,cranfield,cisi,medline"
FIELDS = ("rank_features", "impact")
ROUNDS = 3
QUERIES = 100
MAX_LOADED = 100_000  # documents of a load: its rate is the same from then on


class Collection:
    """A collection, its vectors and its queries."""

    def __init__(self, name: str, encoder: DocumentEncoder) -> None:
        reader = read_source(find_source(str(DATA / name)), RecordReader(("title", "text")))
        self.name = name
        self.records = [record for record in reader if isinstance(record, Record)]
        self.judged = read_judged(DATA / name)
        self.vectors = encoded(encoder, name, [record.text for record in self.records])


class Mixture:
    """All of them, from which as many documents are mixed as are asked for."""

    def __init__(self, collections: Sequence[Collection]) -> None:
        self.texts = [record.text for c in collections for record in c.records]
        self.rows = [row for c in collections for row in c.vectors]
        self.width = collections[0].vectors.width

    def chunks(self, count: int) -> Iterator[Chunk]:
        return mixed(self.texts, self.rows, self.width, count)


def write_file(file: Path, mixture: Mixture, count: int, tokens: Sequence[str]) -> None:
    """The vectors alone, as `splade-os encode` writes them."""
    with file.open("wb") as out:
        for documents, batch in mixture.chunks(count):
            for (name, _), (ids, weights) in zip(documents, batch, strict=True):
                written = map(float, decimals(weights))
                vector = {tokens[j]: w for j, w in zip(ids.tolist(), written, strict=True)}
                out.write(orjson.dumps({"id": name, "price": 1, "vector": vector}) + b"\n")


def load_case(
    engine: ClusterEngine, node: int, mixture: Mixture, count: int, encoder: Any
) -> list[dict[str, Any]]:
    """Rates, and CPU time of the node, of a load."""
    count = min(count, MAX_LOADED)
    found: dict[str, list[tuple[float, float]]] = {}
    cores = os.sched_getaffinity(0)
    pin(node, {min(cores)})
    pin(os.getpid(), cores - {min(cores)})
    ways = [*FIELDS, "parallel_bulk"]
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "vectors.jsonl"
            write_file(file, mixture, count, encoder.vocabulary.tokens)
            for turn in range(ROUNDS + 1):
                for way in ways[:: 1 if turn % 2 else -1]:
                    kind = "rank_features" if way == "parallel_bulk" else way
                    meta = new_meta(engine, encoder.identity, ["title", "text"], kind)
                    index = prepare(engine, meta)
                    before = cpu_seconds(node)
                    if way == "parallel_bulk":
                        rate = peer(engine.url, index, file, count, encoder, True)
                    else:
                        rate = ours(engine.url, index, file, count, encoder, Path(folder))
                    cpu = (cpu_seconds(node) - before) / count * 1e6
                    engine.delete_index(index)
                    print(f"{way:<14} {rate:8.0f} docs/s, node {cpu:.0f} us", file=sys.stderr)
                    if turn:  # the node compiles its code
                        found.setdefault(way, []).append((rate, cpu))
    finally:
        pin(node, cores)
        pin(os.getpid(), cores)
    rate, cpu = (
        {way: float(np.median([each[i] for each in values])) for way, values in found.items()}
        for i in (0, 1)
    )
    note = f"{count:,} documents, {ROUNDS} rounds, a core each for client and node; peer: "
    new, old = cpu["impact"], cpu["rank_features"]
    return [
        row("load: node CPU per document", new, old, "us", 0.45, new / old <= 0.45,
            f"{note}rank_features"),
        *(
            row(f"load: rate against {other}", rate["impact"], rate[other], "docs/s", goal,
                rate["impact"] / rate[other] >= goal, note + other)
            for other, goal in (("rank_features", 1.8), ("parallel_bulk", 1.5))
        ),
    ]  # fmt: skip


def bytes_case(
    engine: ClusterEngine, mixture: Mixture, count: int, encoder: Any
) -> list[dict[str, Any]]:
    """Bytes of the vector field alone."""
    sizes = {}
    for kind in (*FIELDS, "nothing"):
        field = "rank_features" if kind == "nothing" else kind
        meta = new_meta(engine, encoder.identity, ["text"], field)
        body = strategy_for(field, engine.capabilities()).index_body(meta, {"refresh_interval": -1})
        body["mappings"]["_source"] = {"enabled": False}
        engine.request("PUT", "/bytes", orjson.dumps(body))
        renderer = DocumentRenderer.for_index(encoder.vocabulary, meta)
        for documents, batch in mixture.chunks(count):
            if kind == "nothing":
                batch = SparseBatch.from_rows([row_of([])] * len(batch), batch.width)
            lines = renderer.render_many([(name, {}) for name, _ in documents], batch)
            assert all(outcome.ok for outcome in engine.bulk("bytes", b"".join(lines)))  # type: ignore[arg-type]
        engine.merge("bytes")
        sizes[kind] = engine.stats("bytes").bytes
        engine.delete_index("bytes")
    new, old = ((sizes[kind] - sizes["nothing"]) / count for kind in FIELDS[::-1])
    return [
        row("bytes of the vector field per document", new, old, "bytes", 0.65, new / old <= 0.65,
            f"{count:,} documents, one segment, _source not stored; peer: rank_features")
    ]  # fmt: skip


def row_of(ids: Sequence[int]) -> tuple[Any, Any]:
    return np.array(ids, np.int32), np.ones(len(ids), np.float32)


def fill_as(
    engine: ClusterEngine, index: str, kind: str, chunks: Any, encoder: Any, counted: TermStatistics
) -> None:
    """An index of a field type."""
    meta = new_meta(engine, encoder.identity, ["title", "text"], kind)
    renderer = DocumentRenderer.for_index(encoder.vocabulary, meta)
    fill(engine, index, meta, counted, renderer, chunks)


def counts(texts: Iterator[list[str]]) -> TermStatistics:
    plain = IdfQueryEncoder.unweighted("starter")
    counted = TermStatistics.empty(len(plain.vocabulary))
    for some in texts:
        counted.count_many(plain.tokenize(some))
    return counted


def query_case(
    engine: ClusterEngine, mixture: Mixture, count: int, encoder: Any, queries: list[str]
) -> list[dict[str, Any]]:
    """Engine time of IDF and encoder queries, beside BM25; latency with eight clients."""
    counted = counts([s["text"] for _, s in documents] for documents, _ in mixture.chunks(count))
    clients = {}
    for kind in FIELDS:
        fill_as(engine, f"scale-{kind}", kind, mixture.chunks(count), encoder, counted)
        clients[kind] = SearchClient(engine=engine, index=f"scale-{kind}")
    tokens = encoder.vocabulary.tokens
    weighted = [
        {tokens[i]: float(w) for i, w in zip(ids.tolist(), weights.tolist(), strict=True)}
        for ids, weights in clients[FIELDS[0]].encoder("encoder").encode(queries)
    ]
    bodies: dict[str, tuple[str, list[bytes]]] = {}
    nothing = [orjson.dumps({"size": K, "query": {"match_none": {}}})] * len(queries)
    bodies["nothing"] = f"scale-{FIELDS[0]}", nothing
    for kind, client in clients.items():
        bodies[f"idf {kind}"] = (
            client.index,
            [client.build(q, K, "idf", source=())[0] for q in queries],
        )
        bodies[f"encoder {kind}"] = client.index, [
            client.build(q, K, "raw", source=(), query_pruning=DEFAULT_PRUNING["encoder"])[0]
            for q in weighted
        ]  # fmt: skip
    first = clients[FIELDS[0]]
    bodies["bm25"] = first.index, [first.build(q, K, "bm25", source=())[0] for q in queries]
    best = {kind: np.full(len(queries), np.inf) for kind in bodies}
    for repeat in range(REPEATS + 1):
        for i in range(len(queries)):
            for kind, (index, prepared) in bodies.items():
                start = time.perf_counter()
                engine.request("POST", f"/{index}/_search", prepared[i])
                if repeat:
                    best[kind][i] = min(best[kind][i], time.perf_counter() - start)
    base = best.pop("nothing").mean()
    mean = {kind: float(times.mean() - base) * 1e3 for kind, times in best.items()}
    eight = {kind: rate(engine, *bodies[f"idf {kind}"]) for kind in FIELDS}
    for kind in FIELDS:
        engine.delete_index(f"scale-{kind}")
    what = f"{count:,} documents, {len(queries)} queries"
    idf, encoder_ = mean["idf impact"], mean["encoder impact"]
    return [
        row("engine: IDF query", idf, mean["idf rank_features"], "ms", 0.8,
            idf / mean["idf rank_features"] <= 0.8, f"{what}; peer: rank_features"),
        row("engine: IDF query against BM25", idf, mean["bm25"], "ms", 2.0,
            idf / mean["bm25"] <= 2.0, f"{what}; peer: match"),
        row("engine: encoder query, default lever", encoder_, mean["encoder rank_features"], "ms",
            0.8, encoder_ / mean["encoder rank_features"] <= 0.8, f"{what}; peer: rank_features"),
        row("searches a second, eight clients, idf", eight["impact"][0], eight["rank_features"][0],
            "1/s", None, None, f"{what}; p99 {eight['impact'][1]:.1f} ms against "
            f"{eight['rank_features'][1]:.1f}; peer: rank_features"),
    ]  # fmt: skip


def rate(engine: ClusterEngine, index: str, bodies: list[bytes]) -> tuple[float, float]:
    """Searches a second of eight clients, and the 99th percentile of their times in ms."""
    times: list[float] = []

    def work(shift: int) -> None:
        for i in range(2 * len(bodies)):
            start = time.perf_counter()
            engine.request("POST", f"/{index}/_search", bodies[(i + shift) % len(bodies)])
            times.append(time.perf_counter() - start)

    start = time.perf_counter()
    threads = [threading.Thread(target=work, args=(13 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(times) / (time.perf_counter() - start), float(np.quantile(times, 0.99)) * 1e3


def quality_case(engine: ClusterEngine, collection: Collection, encoder: Any) -> dict[str, Any]:
    """nDCG@10 of the collection in both field types, mode idf."""
    counted = counts(iter([[record.text for record in collection.records]]))
    found = []
    for kind in FIELDS:
        chunks = (
            ([(r.id, {"text": r.text}) for r in collection.records[i : i + CHUNK]],
             collection.vectors.take(range(i, min(i + CHUNK, len(collection.records)))))
            for i in range(0, len(collection.records), CHUNK)
        )  # fmt: skip
        fill_as(engine, "quality", kind, chunks, encoder, counted)
        client = SearchClient(engine=engine, index="quality")
        run = {}
        names = list(collection.judged.queries)
        for start in range(0, len(names), 100):
            part = names[start : start + 100]
            texts = [collection.judged.queries[name] for name in part]
            answers = client.search_many(texts, K, "idf", source=(), query_pruning=EXACT)
            for name, results in zip(part, answers, strict=True):
                run[name] = {hit.id: hit.score for hit in results}  # type: ignore[union-attr]
        measured = ir_measures.calc_aggregate([nDCG @ 10], collection.judged.qrels, run)
        found.append(float(measured[nDCG @ 10]))
        engine.delete_index("quality")
    old, new = found
    return row(f"quality: {collection.name}", new, old, "nDCG@10", 0.002, old - new <= 0.002,
               "mode idf; goal: at most so much less than the peer, rank_features")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--large", action="store_true", help="a million documents, too")
    parser.add_argument("--collections", default=COLLECTIONS)
    parser.add_argument("--cases", default="load,bytes,query,quality")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(json.dumps({"benchmark": "scale", "rows": [], "note": "no collections here"}))
        return
    sizes = [int(size) for size in arguments.sizes.split(",")]
    sizes += [1_000_000] if arguments.large else []
    cases = arguments.cases.split(",")
    encoder = DocumentEncoder.load("starter", dtype="auto")
    collections = [Collection(name, encoder) for name in arguments.collections.split(",")]
    mixture = Mixture(collections)
    queries = [text for c in collections for text in list(c.judged.queries.values())[:20]][:QUERIES]
    state = up(name="benchmark-scale", via="jvm", port=0, heap="2g")
    engine = ClusterEngine(state.url)
    rows: list[dict[str, Any]] = []
    try:
        for size in sizes:
            found: list[dict[str, Any]] = []
            if "load" in cases:
                found += load_case(engine, state.nodes[0].pid, mixture, size, encoder)
            if "bytes" in cases:
                found += bytes_case(engine, mixture, size, encoder)
            if "query" in cases:
                found += query_case(engine, mixture, size, encoder, queries)
            rows += [{**each, "case": f"{size:,}: {each['case']}"} for each in found]
        if "quality" in cases:
            rows += [quality_case(engine, collection, encoder) for collection in collections]
        info = engine.info()
    finally:
        engine.close()
        down("benchmark-scale", delete_data=True)
    report("scale", info, rows)


if __name__ == "__main__":
    main()
