"""What static pruning costs in quality, and saves in bytes and time.

    python benchmarks/pruning.py [--documents 10000] [--collections scifact,cranfield,cisi,medline]

One real OpenSearch node, ``rank_features``. The documents are encoded once by ``starter`` (with its
lexical prior), and the vectors then pruned as ``splade-os ingest`` does by its options; ``stop
list`` drops the terms that stand in more than a fifth of the documents, which no option does.
Quality: nDCG@10 of every collection in the mode idf, unpruned queries, whole test sets. Bytes: of
the vector field alone, one segment of the mixture of `scale.py`. Time: of an IDF query in that
index, wall clock over a kept connection less that of a request that matches nothing, of each query
the best of several in turns. The peer is always the index with all terms.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import ir_measures
import numpy as np
import orjson
from ir_measures import nDCG
from query import REPEATS, K, report, row
from scale import DATA, Collection, Mixture, counts, fill_as, row_of

from splade_os import EXACT, DocumentEncoder, SearchClient, SparseBatch
from splade_os.encoding.rows import heaviest, prune, selected
from splade_os.engines import DocumentRenderer
from splade_os.engines.fields.strategies import strategy_for
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.ingest.index.target import new_meta
from splade_os.local import down, up

QUERIES = 100
Lever = Callable[[SparseBatch, "np.ndarray[Any, Any]"], SparseBatch]


def _without_frequent(batch: SparseBatch, share: np.ndarray[Any, Any]) -> SparseBatch:
    return selected(batch, batch.values, share[batch.indices] <= 0.2)


LEVERS: dict[str, Lever] = {
    "--max-active-dims 128": lambda batch, _: heaviest(batch, 128),
    "--max-active-dims 96": lambda batch, _: heaviest(batch, 96),
    "--max-active-dims 64": lambda batch, _: heaviest(batch, 64),
    "--alpha-mass 0.95": lambda batch, _: prune(batch, alpha_mass=0.95),
    "--alpha-mass 0.9": lambda batch, _: prune(batch, alpha_mass=0.9),
    "--alpha-mass 0.8": lambda batch, _: prune(batch, alpha_mass=0.8),
    "--max-ratio 0.05": lambda batch, _: prune(batch, max_ratio=0.05),
    "--max-ratio 0.1": lambda batch, _: prune(batch, max_ratio=0.1),
    "--max-ratio 0.2": lambda batch, _: prune(batch, max_ratio=0.2),
    "stop list": _without_frequent,
}
ALL: Lever = lambda batch, _: batch  # noqa: E731


def document_share(batch: SparseBatch) -> np.ndarray[Any, Any]:
    """Share of the documents in which every term stands, ``(V,)``."""
    return np.bincount(batch.indices, minlength=batch.width) / max(1, len(batch))


def quality(
    engine: ClusterEngine, collection: Collection, encoder: Any, lever: Lever
) -> tuple[float, float]:
    """nDCG@10, and terms a document."""
    batch = lever(collection.vectors, document_share(collection.vectors))
    counted = counts(iter([[record.text for record in collection.records]]))
    documents = [(record.id, {"text": record.text}) for record in collection.records]
    chunks = (
        (documents[i : i + 500], batch.take(range(i, min(i + 500, len(documents)))))
        for i in range(0, len(documents), 500)
    )
    fill_as(engine, "pruning", "rank_features", chunks, encoder, counted)
    client = SearchClient(engine=engine, index="pruning")
    run: dict[str, dict[str, float]] = {}
    names = list(collection.judged.queries)
    for start in range(0, len(names), 100):
        part = names[start : start + 100]
        texts = [collection.judged.queries[name] for name in part]
        answers = client.search_many(texts, K, "idf", source=(), query_pruning=EXACT)
        for name, results in zip(part, answers, strict=True):
            run[name] = {hit.id: hit.score for hit in results}  # type: ignore[union-attr]
    engine.delete_index("pruning")
    measured = ir_measures.calc_aggregate([nDCG @ 10], collection.judged.qrels, run)
    return float(measured[nDCG @ 10]), len(batch.values) / len(batch)


def cost(
    engine: ClusterEngine, mixture: Mixture, count: int, encoder: Any, bodies: list[bytes]
) -> dict[str, tuple[float, float]]:
    """Bytes of the vector field a document, and ms of a query, of every lever."""
    meta = new_meta(engine, encoder.identity, ["text"], "rank_features")
    body = strategy_for("rank_features", engine.capabilities()).index_body(
        meta, {"refresh_interval": -1}
    )
    body["mappings"]["_source"] = {"enabled": False}
    renderer = DocumentRenderer.for_index(encoder.vocabulary, meta)
    share = document_share(SparseBatch.from_rows(mixture.rows, mixture.width))
    ways: dict[str, Lever | None] = {"nothing": None, "all": ALL, **LEVERS}
    sizes = {}
    for number, (name, lever) in enumerate(ways.items()):
        index = f"pruning-{number}"
        engine.request("PUT", f"/{index}", orjson.dumps(body))
        for documents, batch in mixture.chunks(count):
            if lever is None:
                pruned = SparseBatch.from_rows([row_of([])] * len(batch), batch.width)
            else:
                pruned = lever(batch, share)
            lines = renderer.render_many([(each, {}) for each, _ in documents], pruned)
            assert all(outcome.ok for outcome in engine.bulk(index, b"".join(lines)))  # type: ignore[arg-type]
        engine.merge(index)
        sizes[name] = engine.stats(index).bytes
        print(f"{name:<24} {sizes[name]:,} bytes", file=sys.stderr)
    times = {name: np.full(len(bodies), np.inf) for name in ways}
    none = orjson.dumps({"size": K, "query": {"match_none": {}}})
    for repeat in range(REPEATS + 1):
        for i, prepared in enumerate(bodies):
            for number, name in enumerate(ways):
                start = time.perf_counter()
                sent = none if name == "nothing" else prepared
                engine.request("POST", f"/pruning-{number}/_search", sent)
                if repeat:
                    times[name][i] = min(times[name][i], time.perf_counter() - start)
    for number in range(len(ways)):
        engine.delete_index(f"pruning-{number}")
    base = times["nothing"].mean()
    return {
        name: (
            (sizes[name] - sizes["nothing"]) / count,
            float(times[name].mean() - base) * 1e3,
        )
        for name in ways
        if name != "nothing"
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--collections", default="scifact,cranfield,cisi,medline")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(json.dumps({"benchmark": "pruning", "rows": [], "note": "no collections here"}))
        return
    encoder = DocumentEncoder.load("starter")
    collections = [Collection(name, encoder) for name in arguments.collections.split(",")]
    state = up(name="bench-pruning", engine="opensearch", via="jvm", port=0, heap="2g")
    rows = []
    try:
        engine = ClusterEngine(state.url)
        found: dict[str, list[tuple[float, float]]] = {}
        for name, lever in {"all": ALL, **LEVERS}.items():
            found[name] = [quality(engine, each, encoder, lever) for each in collections]
            print(f"{name:<24} {[round(n, 4) for n, _ in found[name]]}", file=sys.stderr)
        mixture = Mixture(collections)
        queries = [q for each in collections for q in each.judged.queries.values()]
        queries = queries[:: max(1, len(queries) // QUERIES)][:QUERIES]
        texts = iter([[record.text for each in collections for record in each.records]])
        fill_as(engine, "pruning", "rank_features", iter(()), encoder, counts(texts))
        client = SearchClient(engine=engine, index="pruning")
        bodies = [client.build(q, K, "idf", source=())[0] for q in queries]
        engine.delete_index("pruning")
        costs = cost(engine, mixture, arguments.documents, encoder, bodies)
        for name in found:
            ndcg, terms = (float(np.mean([each[i] for each in found[name]])) for i in (0, 1))
            whole = float(np.mean([n for n, _ in found["all"]]))
            each = ", ".join(
                f"{c.name} {n:.4f}" for c, (n, _) in zip(collections, found[name], strict=True)
            )
            note = f"{terms:.0f} terms a document; {each}"
            rows.append(row(f"{name}: quality", ndcg, whole, "nDCG@10", None, None, note))
            for what, unit, i in (("bytes a document", "bytes", 0), ("IDF query", "ms", 1)):
                note = f"{arguments.documents:,} documents"
                ours, peer = costs[name][i], costs["all"][i]
                rows.append(row(f"{name}: {what}", ours, peer, unit, None, None, note))
        report("pruning", engine.info(), rows)
    finally:
        down("bench-pruning", delete_data=True)


if __name__ == "__main__":
    main()
