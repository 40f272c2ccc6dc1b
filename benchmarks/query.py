"""What a query costs: client time, engine time against BM25, cost levers, exactness.

    python benchmarks/query.py [BEIR_FOLDER] [--url URL] [--documents 200000] [--sample N]
        [--case client --case idf ...] [--keep] [--seconds 30]

Two indices on one node: the collection itself (quality, exactness), and a synthetic one of many
documents (engine time), each of which is half of one real document and half of another: every
term keeps its real share of the documents, so posting lists are as long as they would be.

Engine time: wall clock of a prepared request over a kept connection, less that of a request that
matches nothing; of each query the best of several, interleaved with the peer's; mean over queries.
Vectors are encoded once by ``starter`` and kept in the cache folder; ``--sample N`` takes that many
documents of the collection, the judged ones among them. With ``--keep`` and ``--url`` the indices
stay for the next run, so that cases can be run one by one. The cases first, service (16 threads and
16 processes, ``--seconds`` each) and sqlite make indices of their own and need no collection.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import orjson
from cases.embedded import embedded
from cases.service import first, service
from ir_measures import nDCG

from splade_os import EXACT, DocumentEncoder, QueryPruning, SearchClient, SparseBatch, TwoPhase
from splade_os.encoding.processor import processor_name
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.engines import DocumentRenderer, IndexMeta
from splade_os.engines.base import EngineInfo
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import IndexNotFoundError
from splade_os.evaluation.beir import read_judged
from splade_os.features import truncate
from splade_os.ingest.documents.records import Record, RecordReader
from splade_os.ingest.index.target import new_meta
from splade_os.ingest.sources import find_source, read_source
from splade_os.local import down, up
from splade_os.search.options import DEFAULT_PRUNING
from splade_os.settings import cache_dir
from splade_os.statistics import TermStatistics

DEFAULT = Path(__file__).parents[2] / "shared" / "data" / "scifact"
MODEL = "starter"
K = 10
TRIED_IDF = (
    "its posting lists are 4.5 times as long as those of match; tried without gain: order and "
    "nesting of clauses, a must around or a filter beside them, sort, another count; slower: heavy "
    "terms as must (6 times), minimum_should_match 2 (10 times); see max_ratio and two-phase below"
)
TRIED_MANY = (
    "tried without gain: max_concurrent_searches 1 to 100, filter_path, preference, request_cache; "
    "reading hits with less work gained 3 %; where searches are long, cores are the bound"
)
CASES = ("client", "idf", "levers", "exact", "many")
OWN_CASES = ("first", "service", "sqlite")  # of indices of their own
REPEATS = 4
TIMED = 100  # queries whose engine time is taken
CHUNK = 500
Chunk = tuple[list[tuple[str, dict[str, Any]]], SparseBatch]
LEVERS = {
    "top 32": QueryPruning(top=32),
    "top 16": QueryPruning(top=16),
    "max_ratio 0.2": QueryPruning(max_ratio=0.2),
    "max_ratio 0.4": QueryPruning(max_ratio=0.4),
    "two-phase 6, 50": QueryPruning(two_phase=TwoPhase(6, 50)),
    "two-phase 10, 50": QueryPruning(two_phase=TwoPhase(10, 50)),
    "two-phase 16, 50": QueryPruning(two_phase=TwoPhase(16, 50)),
    "two-phase 10, 200": QueryPruning(two_phase=TwoPhase(10, 200)),
    "top 64, two-phase 10, 50": QueryPruning(top=64, two_phase=TwoPhase(10, 50)),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--url")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--sample", type=int)
    parser.add_argument("--case", action="append", choices=CASES + OWN_CASES, help="default: all")
    parser.add_argument("--seconds", type=float, default=30, help="of each half of service")
    parser.add_argument("--keep", action="store_true", help="the indices, for the next run")
    parser.add_argument(
        "--only-prepare", action="store_true", help="measure nothing; implies --keep"
    )
    arguments = parser.parse_args()
    cases = [] if arguments.only_prepare else arguments.case or [*CASES, *OWN_CASES]
    collection = arguments.only_prepare or any(case in CASES for case in cases)
    if collection and not arguments.folder.is_dir():
        print(
            f"There is no collection at {arguments.folder}: {CASES} are left out.", file=sys.stderr
        )
        cases = [case for case in cases if case in OWN_CASES]
        collection = False
    started = None if arguments.url else up(name="benchmark-query", via="jvm", port=0, heap="2g")
    engine = ClusterEngine(arguments.url or started.url)  # type: ignore[union-attr]
    own: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "first": lambda: first(engine.url, row),
        "service": lambda: service(engine.url, arguments.seconds, row),
        "sqlite": lambda: embedded(row),
    }
    rows = []
    try:
        if collection:
            bench = Bench(engine, arguments.folder, arguments.sample, arguments.documents)
            bench.prepare()
            rows = [each for case in cases if case in CASES for each in getattr(bench, case)()]
            if not (arguments.keep or arguments.only_prepare):
                engine.delete_index(bench.real)
                engine.delete_index(bench.synthetic)
        rows += [each for case in cases if case in OWN_CASES for each in own[case]()]
        info = engine.info()
    finally:
        engine.close()
        if started is not None:
            down("benchmark-query", delete_data=True)
    report("query", info, rows)


class Bench:
    """The two indices and what is measured on them."""

    def __init__(
        self, engine: ClusterEngine, folder: Path, sample: int | None, documents: int
    ) -> None:
        self.engine, self.documents = engine, documents
        self.real, self.synthetic = (
            f"query-real-{folder.name}-{sample or 'all'}",
            f"query-synthetic-{folder.name}-{sample or 'all'}-{documents}",
        )
        reader = read_source(find_source(str(folder)), RecordReader(("title", "text")))
        self.records = [record for record in reader if isinstance(record, Record)]
        self.judged = read_judged(folder)
        if sample is not None:
            needed = {document for relevant in self.judged.qrels.values() for document in relevant}
            self.records.sort(key=lambda record: record.id not in needed)  # stable
            self.records = self.records[: max(sample, len(needed))]
        self.encoder = DocumentEncoder.load(MODEL, dtype="auto")
        texts = [record.text for record in self.records]
        self.vectors = encoded(self.encoder, folder.name, texts)
        self.queries = list(self.judged.queries.values())

    def prepare(self) -> None:
        """Fill the indices that are not there."""
        meta = new_meta(self.engine, self.encoder.identity, ("title", "text"))
        plain = IdfQueryEncoder.unweighted(MODEL)
        frequencies = np.zeros(len(plain.vocabulary), np.int64)
        tokens = 0
        for start in range(0, len(self.records), CHUNK):
            texts = [record.text for record in self.records[start : start + CHUNK]]
            for ids in plain.tokenize(texts):
                frequencies[np.unique(ids)] += 1
                tokens += len(ids)
        real = TermStatistics(len(self.records), tokens, frequencies)
        factor = self.documents / len(self.records)
        scaled = TermStatistics(
            self.documents, int(tokens * factor), (frequencies * factor).astype(np.int64)
        )
        renderer = DocumentRenderer(self.encoder.vocabulary, meta.field, meta.feature_naming)
        originals = (
            (
                [(r.id, {"text": r.text}) for r in self.records[i : i + CHUNK]],
                self.vectors.take(range(i, min(i + CHUNK, len(self.records)))),
            )
            for i in range(0, len(self.records), CHUNK)
        )
        texts = [record.text for record in self.records]
        copies = mixed(texts, list(self.vectors), self.vectors.width, self.documents)
        for index, counted, chunks in (
            (self.real, real, originals),
            (self.synthetic, scaled, copies),
        ):
            try:
                self.engine.index_meta(index)
            except IndexNotFoundError:
                fill(self.engine, index, meta, counted, renderer, chunks)

    @cached_property
    def batch(self) -> SparseBatch:
        """The queries by the full model, encoded once."""
        client = SearchClient(engine=self.engine, index=self.real)
        return client.encoder("encoder").encode(self.queries)

    @cached_property
    def weighted(self) -> list[dict[str, float]]:
        """The same as raw weights, which make the same requests."""
        tokens = IdfQueryEncoder.unweighted(MODEL).vocabulary.tokens
        return [
            {tokens[i]: w for i, w in zip(ids.tolist(), weights.tolist(), strict=True)}
            for ids, weights in self.batch
        ]

    def client(self) -> list[dict[str, Any]]:
        client = SearchClient(engine=self.engine, index=self.real)
        encoder = client.encoder("idf")
        assert isinstance(encoder, IdfQueryEncoder)
        tokenizer = encoder.tokenizer._tokenizer
        weights = encoder.table.weights.tolist()
        names = encoder.vocabulary.features

        def obvious(text: str) -> bytes:
            ids = set(tokenizer.encode(text, add_special_tokens=False).ids)
            should = [
                {"rank_feature": {"field": f"splade.{names[i]}", "boost": weights[i], "linear": {}}}
                for i in ids
                if weights[i] > 0
            ]
            return json.dumps({"size": K, "query": {"bool": {"should": should}}}).encode()

        ours, peer = medians(
            (lambda text: client.build(text, K), obvious), self.queries, repeats=20
        )
        note = f"{len(self.queries)} queries; peer: tokenizers, a dict, json.dumps"
        return [row("client: text to body", ours * 1e6, peer * 1e6, "µs", 30, ours <= 30e-6, note)]

    def _timed(self, bodies: dict[str, list[bytes]]) -> dict[str, float]:
        """Mean engine time of each kind of body, seconds."""
        path = f"/{self.synthetic}/_search"
        nothing = orjson.dumps({"size": K, "query": {"match_none": {}}})
        count = len(next(iter(bodies.values())))
        kinds = {"nothing": [nothing] * count, **bodies}
        best = {kind: np.full(count, np.inf) for kind in kinds}
        for repeat in range(REPEATS + 1):
            for i in range(count):
                for kind, prepared in kinds.items():
                    start = time.perf_counter()
                    self.engine.request("POST", path, prepared[i])
                    if repeat:  # the first one warms caches
                        best[kind][i] = min(best[kind][i], time.perf_counter() - start)
        base = float(best.pop("nothing").mean())
        return {kind: float(times.mean()) - base for kind, times in best.items()}

    def _bodies(self, queries: Sequence[Any], mode: Any) -> list[bytes]:
        client = SearchClient(engine=self.engine, index=self.synthetic)
        return [client.build(query, K, mode, source=())[0] for query in queries[:TIMED]]

    def _pruned(self, pruning: QueryPruning) -> list[bytes]:
        client = SearchClient(engine=self.engine, index=self.synthetic)
        return [
            client.build(query, K, "raw", source=(), query_pruning=pruning)[0]
            for query in self.weighted[:TIMED]
        ]

    def idf(self) -> list[dict[str, Any]]:
        bodies = {mode: self._bodies(self.queries, mode) for mode in ("idf", "bm25")}
        client = SearchClient(engine=self.engine, index=self.synthetic)
        levers = {f"max_ratio {r}": QueryPruning(max_ratio=r) for r in (0.1, 0.2, 0.3)}
        levers |= {
            f"two-phase {r}, 50": QueryPruning(two_phase=TwoPhase(r, 50)) for r in (0.1, 0.2, 0.3)
        }
        for name, lever in levers.items():
            bodies[name] = [
                client.build(text, K, source=(), query_pruning=lever)[0]
                for text in self.queries[:TIMED]
            ]
        times = self._timed(bodies)
        peer = times["bm25"]
        full = self._ndcg(self.queries, "idf", EXACT)
        note = f"{self.documents:,} documents, {TIMED} queries; peer: match, same texts, same k"
        if times["idf"] / peer > 1.5:
            note += f"; {TRIED_IDF}"
        rows = [
            row("engine: IDF query", times["idf"] * 1e3, peer * 1e3, "ms", 1.5,
                times["idf"] / peer <= 1.5, f"nDCG@10 {full:.4f}; {note}", times["idf"] / peer)
        ]  # fmt: skip
        for name, lever in levers.items():
            quality = self._ndcg(self.queries, "idf", lever)
            rows.append(
                row(f"engine: IDF query, {name}", times[name] * 1e3, peer * 1e3, "ms", None, None,
                    f"nDCG@10 {quality:.4f} of {full:.4f}; peer: match", times[name] / peer)
            )  # fmt: skip
        return rows

    def levers(self) -> list[dict[str, Any]]:
        levers = dict(LEVERS)
        default = DEFAULT_PRUNING["encoder"]
        name = next((n for n, lever in levers.items() if lever == default), "default")
        levers[name] = default
        kinds = {"full": EXACT, **levers}
        times = self._timed({n: self._pruned(lever) for n, lever in kinds.items()})
        quality = {n: self._ndcg(self.weighted, "raw", lever) for n, lever in kinds.items()}
        active = statistics.mean(len(query) for query in self.weighted[:TIMED])
        rows = []
        for n in levers:
            ratio, kept = times[n] / times["full"], quality[n] / quality["full"]
            chosen = n == name
            rows.append(
                row(
                    f"engine: encoder query, {n}{' (default)' if chosen else ''}",
                    times[n] * 1e3,
                    times["full"] * 1e3,
                    "ms",
                    0.45 if chosen else None,
                    ratio <= 0.45 and kept >= 0.99 if chosen else None,
                    f"nDCG@10 {quality[n]:.4f} of {quality['full']:.4f}; {active:.0f} terms; "
                    "peer: all terms",
                    ratio,
                )
            )
        return rows

    def _ndcg(self, queries: Sequence[Any], mode: Any, pruning: QueryPruning) -> float:
        client = SearchClient(engine=self.engine, index=self.real)
        run = {}
        for start in range(0, len(self.queries), 100):
            names = list(self.judged.queries)[start : start + 100]
            texts = queries[start : start + 100]
            found = client.search_many(texts, K, mode, source=(), query_pruning=pruning)
            for n, results in zip(names, found, strict=True):
                run[n] = {hit.id: hit.score for hit in results}  # type: ignore[union-attr]
        return float(ir_measures.calc_aggregate([nDCG @ 10], self.judged.qrels, run)[nDCG @ 10])

    def exact(self) -> list[dict[str, Any]]:
        """Every hit against the product of query weights and truncated weights."""
        from scipy.sparse import csr_matrix

        v = self.vectors
        stored = csr_matrix(
            (truncate(v.values).astype(np.float64), v.indices, v.indptr), (len(v), v.width)
        )
        places = {record.id: i for i, record in enumerate(self.records)}
        client = SearchClient(engine=self.engine, index=self.real)
        rows = []
        batches = {"idf": client.encoder("idf").encode(self.queries), "encoder": self.batch}
        given: dict[str, tuple[Any, Sequence[Any]]] = {
            "idf": ("idf", self.queries),
            "encoder": ("raw", self.weighted),
        }
        for name, batch in batches.items():
            worst, misplaced, hits = 0.0, 0, 0
            mode, queries = given[name]
            for i, query in enumerate(queries):
                expected = stored @ batch.take([i]).to_dense()[0].astype(np.float64)
                best = np.sort(expected)[::-1]
                results = client.search(query, K, mode, source=(), query_pruning=EXACT)
                for hit in results:
                    mine = expected[places[hit.id]]
                    worst = max(worst, abs(hit.score - mine) / mine)
                    # but for ties, the document on a rank has the score that belongs there
                    misplaced += abs(mine - best[hit.rank - 1]) > 1e-5 * mine
                    hits += 1
            note = f"{hits} hits; {misplaced} not where a brute-force product ranks them"
            rows.append(
                row(f"exact: {name}, largest relative error", worst, None, "", 1e-5,
                    worst <= 1e-5 and not misplaced, note, worst)
            )  # fmt: skip
        return rows

    def many(self) -> list[dict[str, Any]]:
        client = SearchClient(engine=self.engine, index=self.real)
        texts = self.queries[:100]
        rows = []
        for index in (self.real, self.synthetic):
            client = SearchClient(engine=self.engine, index=index)
            together, alone = [], []
            for _ in range(REPEATS):
                start = time.perf_counter()
                client.search_many(texts, K, source=())
                middle = time.perf_counter()
                for text in texts:
                    client.search(text, K, source=())
                together.append(middle - start)
                alone.append(time.perf_counter() - middle)
            ours, peer = min(together), min(alone)
            note = f"IDF queries; peer: 100 single requests; {os.cpu_count()} cores"
            if peer / ours < 3:
                note += f"; {TRIED_MANY}"
            rows.append(
                row(f"search_many of 100, {index}", ours * 1e3, peer * 1e3, "ms", 3.0,
                    peer / ours >= 3, note, peer / ours)
            )  # fmt: skip
        return rows


def mixed(
    texts: Sequence[str], rows: Sequence[tuple[Any, Any]], width: int, count: int
) -> Iterator[Chunk]:
    """Documents that are half of one real document and half of another."""
    random = np.random.default_rng(0)
    words = [text.split() for text in texts]
    for start in range(0, count, CHUNK):
        documents: list[tuple[str, dict[str, Any]]] = []
        vectors = []
        for i in range(start, min(start + CHUNK, count)):
            text: list[str] = []
            found: dict[int, Any] = {}
            for one in random.choice(len(rows), 2, replace=False).tolist():
                kept = random.random(len(words[one])) < 0.5
                text += [word for word, keep in zip(words[one], kept, strict=True) if keep]
                ids, weights = rows[one]
                half = random.random(len(ids)) < 0.5
                jitter = np.exp(random.normal(0, 0.2, int(half.sum()))).astype(np.float32)
                found.update(zip(ids[half].tolist(), weights[half] * jitter, strict=True))
            ordered = np.array(sorted(found), np.int32)
            vectors.append((ordered, np.array([found[int(j)] for j in ordered], np.float32)))
            documents.append((f"s{i}", {"text": " ".join(text)}))
        yield documents, SparseBatch.from_rows(vectors, width)


def fill(
    engine: ClusterEngine,
    index: str,
    meta: IndexMeta,
    counted: TermStatistics,
    renderer: DocumentRenderer,
    chunks: Iterable[Chunk],
) -> None:
    """An index of one segment a shard, with its statistics."""
    engine.create_index(index, meta, {"refresh_interval": "-1"})
    done, start = 0, time.perf_counter()
    for documents, batch in chunks:
        body = b"".join(renderer.render_many(documents, batch))  # type: ignore[arg-type]
        assert all(outcome.ok for outcome in engine.bulk(index, body))
        done += len(documents)
        if done % 20_000 == 0:
            rate = done / (time.perf_counter() - start)
            print(f"{index}: {done:,} documents, {rate:.0f}/s", file=sys.stderr)
    engine.merge(index)
    engine.save_statistics(index, counted)


def encoded(encoder: DocumentEncoder, name: str, texts: list[str]) -> SparseBatch:
    """The vectors of the documents, from the cache folder if they are there."""
    version = encoder.identity.content_hash[:12]
    file = cache_dir() / f"benchmark-query-{name}-{len(texts)}-{version}.npz"
    if not file.exists():
        print(f"Encoding {len(texts):,} documents: {encoder.how} ...", file=sys.stderr)
        batch = encoder.encode(texts)
        np.savez(file, indptr=batch.indptr, indices=batch.indices, values=batch.values)
    with np.load(file) as found:
        width = len(encoder.vocabulary)
        return SparseBatch(found["indptr"], found["indices"], found["values"], width)


def medians(
    functions: tuple[Callable[[str], Any], ...], texts: list[str], repeats: int
) -> list[float]:
    """Median seconds of each function over all texts, interleaved."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for text in texts:
            for function, found in zip(functions, times, strict=True):
                start = time.perf_counter()
                function(text)
                found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def report(benchmark: str, info: EngineInfo, rows: list[dict[str, Any]]) -> None:
    """The table on stderr, and the JSON on stdout."""
    for r in rows:
        print(
            f"{r['case']:<52} {r['ours']!s:>9} {r['peer']!s:>9} {r['unit']:<8} "
            f"{r['ratio']!s:>7} (goal {r['goal']}) {r['ok']}  {r['note']}",
            file=sys.stderr,
        )
    server = f"{info.distribution} {info.version}"
    machine = f"{processor_name()}, {os.cpu_count()} cores; {server}"
    print(json.dumps({"benchmark": benchmark, "machine": machine, "rows": rows}))


def row(
    case: str,
    ours: float,
    peer: float | None,
    unit: str,
    goal: float | None,
    ok: bool | None,
    note: str,
    ratio: float | None = None,
) -> dict[str, Any]:
    if ratio is None and peer:
        ratio = ours / peer
    return {
        "case": case,
        "ours": float(f"{ours:.4g}"),
        "peer": None if peer is None else float(f"{peer:.4g}"),
        "unit": unit,
        "ratio": None if ratio is None else float(f"{ratio:.3g}"),
        "goal": goal,
        "ok": None if ok is None else bool(ok),
        "note": note,
    }


if __name__ == "__main__":
    main()
