"""Through a live index: what users will see, and how fast."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

import numpy as np
import numpy.typing as npt

from splade_os.engines import Engine, IndexMeta
from splade_os.engines.fields.stored import scored_vector
from splade_os.errors import EngineError, InputError
from splade_os.evaluation.runs import Qrels, Run, without_query_ids
from splade_os.evaluation.sparsity import Sparsity
from splade_os.evaluation.ways import Way
from splade_os.search.client import SearchClient
from splade_os.search.options import SearchKeywords
from splade_os.vectors import SparseBatch
from splade_os.vocabulary import Vocabulary

PERCENTILES = (50, 95, 99)
USER_K = 10
"""Hits that the timed searches ask for."""
_WARM_UP = 20  # queries
_AT_ONCE = 50  # queries in one request
_PAGE = 1000  # documents read at once
_ASKED = 500  # ids in one request

Milliseconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Latency:
    """How long queries took, one after the other; milliseconds.

    Attributes:
        engine: the engine's own time (``took``; whole milliseconds on a cluster).
        whole: text to hits, as the caller waits: encoding, network, engine.
    """

    engine: Milliseconds
    whole: Milliseconds

    def to_dict(self) -> dict[str, float]:
        """``engine_p50_ms`` ..., ``whole_p50_ms`` ... and means."""
        values = {}
        for name, times in (("engine", self.engine), ("whole", self.whole)):
            for p in PERCENTILES:
                values[f"{name}_p{p}_ms"] = float(np.percentile(times, p))
            values[f"{name}_mean_ms"] = float(times.mean())
        return values


def run_queries(
    client: SearchClient,
    queries: Mapping[str, str],
    way: Way,
    *,
    depth: int = 100,
    remove_query_id: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[Run, SparseBatch | None]:
    """Ask every query once.

    Args:
        client: of the index.
        queries: query id → text.
        way: how to search.
        depth: documents per query.
        remove_query_id: a query may not find the document of its own id.
        progress: called with the number of queries that are answered.

    Returns:
        The run, and the sparse queries as sent (``None`` where there are none).
    """
    run: Run = {}
    sent: list[Mapping[str, float]] = []
    options: SearchKeywords = {"source": (), "dfs": way.counts_words, **way.options}
    items = iter(queries.items())
    while batch := dict(islice(items, _AT_ONCE)):
        answers = client.search_many(
            list(batch.values()), depth + remove_query_id, way.mode, **options
        )
        for query, results in zip(batch, answers, strict=True):
            if isinstance(results, EngineError):
                raise results
            run[query] = {hit.id: hit.score for hit in results}
            sent.append(results.query)
        if progress:
            progress(len(run))
    if remove_query_id:
        run = {q: dict(list(hits.items())[:depth]) for q, hits in without_query_ids(run).items()}
    if not any(sent):
        return run, None
    vocabulary = client.encoder(way.encoder).vocabulary
    ids_of = {token: i for i, token in enumerate(vocabulary.tokens)}
    return run, batch_of(sent, ids_of)


def time_queries(
    client: SearchClient, queries: Mapping[str, str], way: Way, most: int = 300
) -> Latency:
    """Time the searches of a user: ten hits, one query after the other, on a warm index.

    Args:
        client: of the index, which has answered these queries before (`run_queries`).
        queries: query id → text; the first ``most`` are timed.
        way: how to search.
    """
    texts = list(queries.values())[:most]
    engine, whole = [], []
    for i, text in enumerate([*texts[:_WARM_UP], *texts]):
        start = perf_counter()
        results = client.search(text, USER_K, way.mode, **way.options)
        seconds = perf_counter() - start
        if i >= len(texts[:_WARM_UP]):
            engine.append(results.took_ms)
            whole.append(seconds * 1000)
    return Latency(np.array(engine), np.array(whole))


def stored_vectors(
    engine: Engine, index: str, meta: IndexMeta, vocabulary: Vocabulary
) -> Iterator[tuple[list[str], SparseBatch]]:
    """Ids and vectors of all documents as the index has them, 1,000 at a time.

    The weights are the numbers that it scores with (`scored_vector`).
    """
    ids_of = {name: i for i, name in enumerate(vocabulary.named(meta.feature_naming))}
    documents = engine.scan(index, [meta.field], page=_PAGE)
    try:
        while page := list(islice(documents, _PAGE)):
            vectors = [scored_vector(source.get(meta.field), meta) for _, source in page]
            yield [identifier for identifier, _ in page], batch_of(vectors, ids_of)
    finally:
        documents.close()  # type: ignore[attr-defined]  # ends the scroll


def indexed_sparsity(
    engine: Engine, index: str, meta: IndexMeta, vocabulary: Vocabulary
) -> Sparsity:
    """How sparse the stored vectors of all documents are."""
    sparsity = Sparsity.empty(len(vocabulary))
    for _, batch in stored_vectors(engine, index, meta, vocabulary):
        sparsity.add(batch)
    return sparsity


def missing_documents(engine: Engine, index: str, qrels: Qrels) -> list[str]:
    """The relevant documents that the index does not hold.

    Raises:
        InputError: it holds none of them.
    """
    wanted = list({d: 0 for judged in qrels.values() for d, r in judged.items() if r > 0})
    have: set[str] = set()
    for start in range(0, len(wanted), _ASKED):
        have.update(engine.documents(index, wanted[start : start + _ASKED], ()))
    if not have:
        raise InputError(
            f"The index {index} holds none of the {len(wanted):,} relevant documents.",
            hint="It was made from another collection, or with other ids (ingest's --id).",
        )
    return [document for document in wanted if document not in have]


def batch_of(vectors: Sequence[Mapping[str, float]], ids_of: Mapping[str, int]) -> SparseBatch:
    """Vectors given by names and weights.

    Args:
        vectors: name → weight.
        ids_of: name → id, of all V.
    """
    rows = []
    for vector in vectors:
        ids = np.array([ids_of[name] for name in vector], np.int32)
        order = np.argsort(ids)
        rows.append((ids[order], np.array(list(vector.values()), np.float32)[order]))
    return SparseBatch.from_rows(rows, len(ids_of))
