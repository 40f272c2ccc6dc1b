"""Beyond one machine: pre-encoded Parquet, a load on Ray, and a plan for many GPUs.

    python benchmarks/distributed.py [--cases parquet,ray,memory,plan] [--documents 4000]

Case ``parquet``: the same vectors into a real local OpenSearch node, as Parquet that `splade-os
encode` writes and as JSONL with ``--vectors``, in turns; CPU of this process for each document.
Case ``ray``: the documentation of Python, encoded by the starter, on a local Ray: one worker
against `splade-os ingest` in this process, and two workers against one, a thread each. Rates are
of what comes after the first tenth, so that no process is started in them. Case ``memory``:
receipts of 10 million documents through a local Ray, of a source that is simulated and a writer
that writes nothing: how much the driver grows from the first tenth to the end. Case ``plan``: a
simulation of the chain for ``--plan-documents``, with the rates given (``--gpu-rate``,
``--cluster-rate``).
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from query import row

from ingest import THREADS, load_encoder, machine, resident, write_documents

ROUNDS = 3
WINDOW = 512


def parquet_case(url: str, count: int, folder: Path) -> list[dict[str, Any]]:
    from splade_os import connect
    from splade_os.ingest.documents.encoded_rows import EncodedReader
    from splade_os.ingest.documents.records import RecordReader
    from splade_os.ingest.options import IngestOptions
    from splade_os.ingest.pipeline import ingest_documents
    from splade_os.ingest.sources import encoding_of_source, find_source, read_source

    encoder = load_encoder()
    lines, rows = folder / "v.jsonl", folder / "v.parquet"
    write_documents(lines, count, encoder, (160, 256))
    write_rows(lines, rows, encoder)
    engine = connect(url)

    def load(file: Path) -> tuple[float, float]:
        """Documents a second, microseconds of CPU a document."""
        source = find_source(str(file))
        encoding = encoding_of_source(source)
        reader = RecordReader(vectors=True)
        if encoding is not None:
            reader = EncodedReader(encoding, encoder.vocabulary.tokens)
        begun, cpu = time.perf_counter(), time.process_time()
        report = ingest_documents(
            read_source(source, reader),
            engine=engine,
            index="bench-distributed",
            encoder=encoder,
            dead_letters=folder / "dead.jsonl",
            text_fields=("text",),
            options=IngestOptions(max_bytes=2_000_000, concurrency=THREADS),
        )
        took, used = time.perf_counter() - begun, time.process_time() - cpu
        assert report.verified and report.created == count, report
        engine.delete_index("bench-distributed")
        return count / took, used / count * 1e6

    for file in (lines, rows):
        load(file)
    rounds = [(load(rows), load(lines)) for _ in range(ROUNDS)]
    ratio = statistics.median(mine[0] / other[0] for mine, other in rounds)
    mine, other = ([pair[i] for pair in rounds] for i in (0, 1))
    cpu, cpu_lines = (statistics.median(c for _, c in each) for each in (mine, other))
    rate, peer = (statistics.median(r for r, _ in each) for each in (mine, other))
    note = f"{count:,} documents of 160 to 256 terms; client and node share the cores"
    return [
        row("Parquet into OpenSearch, against JSONL", rate, peer, "docs/s", 1.5, ratio >= 1.5, note,
            ratio),
        row("client CPU a document, against JSONL", cpu, cpu_lines, "us", 25, cpu <= 25,
            "the whole load: index, verification and statistics included", cpu_lines / cpu),
    ]  # fmt: skip


def write_rows(lines: Path, out: Path, encoder: Any) -> None:
    """The documents of a file of vectors, in the layout of `splade-os encode`."""
    from splade_os import SparseBatch
    from splade_os.ingest.documents.arrow_vectors import encoded_batch
    from splade_os.ingest.documents.given_vectors import vector_of
    from splade_os.ingest.documents.parquet_folder import (
        begin_folder,
        encoding_record,
        end_folder,
        write_file,
    )
    from splade_os.ingest.documents.records import RecordReader
    from splade_os.ingest.documents.stamps import Stamper
    from splade_os.ingest.sources import find_source, read_source

    encoding = encoding_record(encoder, ("text",))
    found = [*read_source(find_source(str(lines)), RecordReader(vectors=True))]
    stamper, ids = Stamper(encoder.identity, ""), encoder.vocabulary.ids

    def batches() -> Iterator[Any]:
        for i in range(0, len(found), WINDOW):
            some: Any = found[i : i + WINDOW]
            vectors = [vector_of(record.vector, ids) for record in some]
            batch = SparseBatch.from_rows(vectors, len(encoder.vocabulary))
            marks = [stamper.of(record) for record in some]
            yield encoded_batch(encoding, some, marks, [None] * len(some), batch, encoder)

    begin_folder(out)
    write_file(out / "part-00000.parquet", encoding, batches())
    end_folder(out, encoding, empty=False)


def steady(load: Callable[[Callable[[Any], None]], Any]) -> float:
    """Documents a second of what comes after the first tenth."""
    seen: list[tuple[float, int]] = []
    report = load(lambda r: seen.append((time.perf_counter(), r.indexed)))
    assert report.verified, report
    first = next((t, n) for t, n in seen if n > report.indexed / 10)
    last = next((t, n) for t, n in seen if n == report.indexed)
    return (last[1] - first[1]) / (last[0] - first[0])


def ray_case(url: str, count: int, folder: Path) -> list[dict[str, Any]]:
    from splade_os import DocumentEncoder, connect
    from splade_os.distributed.cluster import RayOptions
    from splade_os.distributed.load import load_on_ray
    from splade_os.ingest.load import load_source
    from splade_os.ingest.options import IngestOptions
    from splade_os.ingest.sources import RecordReader, Selection, find_source, read_source

    source = folder / "docs"
    source.mkdir()
    found = [*read_source(find_source("python:stdlib"), RecordReader(), Selection(limit=count))]
    for part in range(4):
        text = "".join(
            json.dumps({"id": f"{i}", "text": record.text}) + "\n"
            for i, record in enumerate(found)
            if i % 4 == part and record.text  # type: ignore[union-attr]
        )
        (source / f"{part}.jsonl").write_text(text)
    running = {"device": "cpu", "dtype": "int8"}
    engine = connect(url)
    common: dict[str, Any] = {
        "engine": engine,
        "target": "bench-distributed",
        "reader": RecordReader(("text",)),
        "options": IngestOptions(window=128),
        "begin": "restart",
        "dead_letters": folder / "dead.jsonl",
    }

    def load(workers: int, on_progress: Any) -> Any:
        encoder = DocumentEncoder.load("starter", device="cpu", dtype="int8")
        how = {**common, "encoder": encoder, "on_progress": on_progress}
        try:
            if not workers:
                return load_source(str(source), **how)
            return load_on_ray(
                find_source(str(source)),
                spec=str(source),
                connect=partial(connect, url),
                model="starter",
                running=running,
                cluster=RayOptions(workers=workers, writers=1),
                **how,
            )
        finally:
            engine.delete_index("bench-distributed")

    rates = {n: [] for n in (0, 1, 2)}  # type: dict[int, list[float]]
    for _ in range(ROUNDS):
        for workers in rates:
            rates[workers].append(steady(partial(load, workers)))

    def of(mine: int, other: int, goal: float, case: str) -> dict[str, Any]:
        ratio = statistics.median(a / b for a, b in zip(rates[mine], rates[other], strict=True))
        note = f"{count:,} docstrings, starter, int8, one thread each; rounds " + " against ".join(
            "/".join(f"{rate:.0f}" for rate in rates[n]) for n in (mine, other)
        )
        medians = statistics.median(rates[mine]), statistics.median(rates[other])
        return row(case, *medians, "docs/s", goal, ratio >= goal, note, ratio)

    return [
        of(1, 0, 0.85, "one worker on Ray, against ingest"),
        of(2, 1, 1.7, "two workers on Ray, against one"),
    ]


class Simulated:
    """In place of a reader: windows without records."""

    def __init__(self, windows: int) -> None:
        self._windows = windows

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for _ in range(self._windows):
            yield {"window": [b"x"]}


def null_receipts(batch: dict[str, Any]) -> dict[str, Any]:
    """In place of encoder and writer: receipts of 1,000 documents with 6,000 tokens among them."""
    import numpy as np
    from ray import cloudpickle

    from splade_os.distributed.receipts import Counted, Receipt

    draw = np.random.default_rng()
    found = []
    for _ in batch["window"]:
        ids = np.sort(draw.choice(30_522, 6_000, replace=False)).astype(np.int32)
        some = Counted(1000, 100_000, ids, np.ones(6_000, np.int32))
        nothing = Counted(0, 0, ids[:0], ids[:0])
        found.append(cloudpickle.dumps(Receipt({"created": 1000}, some, nothing)))
    return {"receipt": found}


def memory_case(documents: int) -> list[dict[str, Any]]:
    from ray import cloudpickle

    from splade_os.distributed.cluster import RayOptions, connected, quiet_context
    from splade_os.distributed.receipts import ReceiptRecorder
    from splade_os.ingest.options import IngestOptions
    from splade_os.ingest.runtime.cancellation import Cancellation
    from splade_os.ingest.runtime.in_flight import InFlightIds
    from splade_os.ingest.state.checkpoint import Checkpoint
    from splade_os.ingest.state.dead_letters import DeadLetters
    from splade_os.ingest.state.progress import Progress
    from splade_os.statistics import TermStatistics

    recorder = ReceiptRecorder(
        Progress(TermStatistics.empty(30_522), TermStatistics.empty(30_522)),
        Checkpoint(),
        DeadLetters("dead.jsonl"),
        InFlightIds(Cancellation()),
        IngestOptions(),
    )
    parts, sizes = 20, []
    with connected(RayOptions()) as ray:
        quiet_context(ray)
        windows = ray.data.from_items(
            [{"part": i} for i in range(parts)], override_num_blocks=parts
        )
        receipts = windows.map_batches(
            Simulated(documents // 1000 // parts), batch_size=1, num_cpus=0.5
        ).map_batches(null_receipts, batch_size=16, num_cpus=1)
        for batch in receipts.iter_batches(batch_size=None, prefetch_batches=0):
            for packed in batch["receipt"].tolist():
                recorder.add(cloudpickle.loads(packed))
            sizes.append((recorder.progress.counters["created"], resident()))
    assert recorder.progress.created.documents == documents
    begun = next(size for done, size in sizes if done >= documents / 10)
    grown = (sizes[-1][1] - begun) / 1e6
    note = f"{documents:,} documents in windows of 1,000; resident from {begun / 1e6:.0f} MB on"
    return [row("memory of the driver", grown, None, "MB", 200, grown <= 200, note)]


def simulate(
    documents: int,
    gpus: int,
    gpu_rate: float,
    writers: int,
    cluster_rate: float,
    window: int = 2048,
) -> tuple[float, float]:
    """Hours, and the share of them in which GPUs work: a chain of encoders and writers. Windows
    take unequal times (log-normal, a third around the mean), at most two wait for each writer, and
    the writers share what the search cluster takes."""
    draw = random.Random(0)
    per_writer = cluster_rate / writers

    def unequal(seconds: float) -> float:
        return seconds * draw.lognormvariate(-0.05, 0.33)

    windows = -(-documents // window)
    coded = sorted(unequal(window / gpu_rate) for _ in range(min(gpus, windows)))  # a heap
    begun, busy = len(coded), sum(coded)
    sending = [0.0] * writers
    waiting: list[float] = []  # when windows that are encoded begin to be sent
    while coded:
        now = heapq.heappop(coded)
        send = max(now, heapq.heappop(sending))
        heapq.heappush(sending, send + unequal(window / per_writer))
        heapq.heappush(waiting, send)
        while waiting and waiting[0] <= now:
            heapq.heappop(waiting)
        if len(waiting) > 2 * writers:  # back-pressure: the encoder waits for a writer
            now = heapq.heappop(waiting)
        if begun < windows:
            took = unequal(window / gpu_rate)
            begun, busy = begun + 1, busy + took
            heapq.heappush(coded, now + took)
    end = max(sending)
    return end / 3600, busy / (end * gpus)


def plan_case(documents: int, gpu_rate: float, cluster_rate: float) -> list[dict[str, Any]]:
    rows = []
    for gpus in (8, 64):
        writers = max(2, round(gpus * gpu_rate / 4000))
        hours, busy = simulate(documents, gpus, gpu_rate, writers, cluster_rate)
        paper = documents / min(gpus * gpu_rate, cluster_rate) / 3600
        neck = "GPUs" if gpus * gpu_rate < cluster_rate else "the search cluster"
        note = (
            f"{documents:,} documents, {gpu_rate:,.0f} docs/s a GPU, {cluster_rate:,.0f} docs/s of "
            f"the search cluster, {writers} writers: GPUs work {busy:.0%} of the time; the "
            f"bottleneck is {neck}; peer = on paper"
        )
        case = f"plan: {gpus} GPUs"
        rows.append(row(case, hours, paper, "hours", 1.1, hours <= 1.1 * paper, note))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", default="parquet,ray,memory,plan")
    parser.add_argument("--documents", type=int, default=4000, help="of the case ray; x5: parquet")
    parser.add_argument("--memory-documents", type=int, default=10_000_000)
    parser.add_argument("--plan-documents", type=int, default=100_000_000)
    parser.add_argument("--gpu-rate", type=float, default=1500, help="documents/s; assumed")
    parser.add_argument("--cluster-rate", type=float, default=30_000, help="documents/s; assumed")
    arguments = parser.parse_args()
    from splade_os.local import down, up

    cases, rows = arguments.cases.split(","), []
    name = f"bench-distributed-{os.getpid()}"
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["SPLADE_OS_STATE"] = temporary
        folder = Path(temporary)
        if {"parquet", "ray"} & set(cases):
            try:
                url = up(name=name, via="jvm", port=0, heap="1g").url
                if "parquet" in cases:
                    rows += parquet_case(url, 5 * arguments.documents, folder)
                if "ray" in cases:
                    rows += ray_case(url, arguments.documents, folder)
            finally:
                down(name, delete_data=True)
        if "memory" in cases:
            rows += memory_case(arguments.memory_documents)
    if "plan" in cases:
        rows += plan_case(arguments.plan_documents, arguments.gpu_rate, arguments.cluster_rate)
    for r in rows:
        print(
            f"{r['case']:<40} {r['ours']!s:>9} {r['peer']!s:>9} {r['unit']:<7} {r['ratio']!s:>6} "
            f"(goal {r['goal']}) {r['ok']}  {r['note']}",
            file=sys.stderr,
        )
    print(json.dumps({"benchmark": "distributed", "machine": machine(), "rows": rows}))


if __name__ == "__main__":
    main()
