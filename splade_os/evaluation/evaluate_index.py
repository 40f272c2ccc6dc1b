"""Evaluate a live index, and check it against arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from splade_os.encoding import DocumentEncoder
from splade_os.encoding.query import QueryMode
from splade_os.evaluation.agreement import Agreement, compare_scores, positive
from splade_os.evaluation.collection import Collection
from splade_os.evaluation.comparison import compare_all
from splade_os.evaluation.evaluate import Settings
from splade_os.evaluation.live import (
    indexed_sparsity,
    missing_documents,
    run_queries,
    stored_vectors,
    time_queries,
)
from splade_os.evaluation.measures import score
from splade_os.evaluation.memory import encoded_blocks, retrieve
from splade_os.evaluation.report import Evaluation, Report
from splade_os.evaluation.runs import Run
from splade_os.evaluation.sparsity import Sparsity
from splade_os.evaluation.ways import Way, exact_way
from splade_os.search.client import SearchClient
from splade_os.vectors import SparseBatch

Progress = Callable[[str, int], None]


def evaluate_index(
    client: SearchClient,
    collection: Collection,
    ways: Sequence[Way],
    *,
    settings: Settings | None = None,
    in_memory: DocumentEncoder | None = None,
    progress: Progress | None = None,
) -> Report:
    """Ask an index every query of a collection, in several ways.

    Args:
        client: of the index.
        collection: queries and judgements; documents only where ``in_memory`` is given.
        ways: how to search; the first is what the others are compared with.
        settings: measures and depth.
        in_memory: the encoder of the index: the collection is encoded as well and searched
            without an engine, with the very queries that the plain sparse modes send.
        progress: called with what is done, and how often.

    Raises:
        InputError: the index holds none of the relevant documents.
    """
    settings = settings or Settings()
    report = progress or (lambda what, done: None)
    judged, engine, index = collection.judged, client.engine, client.index
    notes = []
    missing = missing_documents(engine, index, judged.qrels)
    if missing:
        notes.append(
            f"The index lacks {len(missing):,} relevant documents, {missing[0]!r} among them: "
            "every figure is lower than it could be."
        )
    documents: Sparsity | None = None
    evaluations = []
    for way in ways:
        run, queries = run_queries(
            client,
            judged.queries,
            way,
            depth=settings.hits,
            remove_query_id=settings.remove_query_id,
            progress=lambda done, label=way.label: report(f"queries by {label}", done),  # type: ignore[misc]
        )
        if queries is not None and documents is None:
            vocabulary = client.encoder(way.encoder).vocabulary
            documents = indexed_sparsity(engine, index, client.meta, vocabulary)
        empty = sum(not hits for hits in run.values())
        if empty:
            notes.append(f"{empty:,} queries found nothing by {way.label}.")
        evaluations.append(
            Evaluation(
                way.label,
                run,
                score(judged.qrels, run, settings.measures),
                Sparsity.of(queries) if queries is not None else None,
                documents if queries is not None else None,
                time_queries(client, judged.queries, way),
            )
        )
    comparisons = compare_all({e.label: e.scores for e in evaluations}, settings.by)
    agreements: list[Agreement] = []
    if in_memory is not None:
        more, agreements = _in_memory(client, collection, ways, in_memory, settings, report)
        evaluations += more
    info, meta, stats = engine.info(), client.meta, engine.stats(index)
    return Report(
        collection.name,
        len(judged.queries),
        stats.documents,
        {
            "model": meta.model.name,
            "engine": f"{info.distribution} {info.version}",
            "index": index,
            "field": meta.field_type,
            "depth": settings.hits,
            **{name: value for name, value in meta.model.options() if value},
        },
        evaluations,
        comparisons,
        agreements,
        stats,
        notes,
        texts=judged.queries,
    )


def _in_memory(
    client: SearchClient,
    collection: Collection,
    ways: Sequence[Way],
    encoder: DocumentEncoder,
    settings: Settings,
    report: Progress,
) -> tuple[list[Evaluation], list[Agreement]]:
    """The sparse modes without an engine: with the weights of the model, and with those that
    the index stores; the latter against what the engine returns without short cuts."""
    queries, qrels, measures = collection.judged.queries, collection.judged.qrels, settings.measures
    runs: dict[QueryMode, Run] = {}
    vectors: dict[str, SparseBatch] = {}
    for mode in dict.fromkeys(way.encoder for way in ways if way.mode != "bm25"):
        run, sent = run_queries(
            client,
            queries,
            exact_way(mode),
            depth=settings.hits,
            remove_query_id=settings.remove_query_id,
        )
        if sent is not None:
            runs[mode], vectors[mode] = run, sent
    search = partial(
        retrieve,
        queries=list(queries),
        vectors=vectors,
        depth=settings.hits,
        remove_query_id=settings.remove_query_id,
    )
    stored_blocks = stored_vectors(client.engine, client.index, client.meta, encoder.vocabulary)
    as_stored = search(stored_blocks, progress=lambda n: report("stored documents read", n))
    as_encoded = search(
        encoded_blocks(collection.documents(), encoder),
        progress=lambda n: report("documents encoded", n),
    )
    evaluations, agreements = [], []
    for mode, run in runs.items():
        mine, stored = as_encoded[mode, ""], positive(as_stored[mode, ""].run)
        scores = score(qrels, mine.run, measures)
        evaluations.append(
            Evaluation(f"{mode} (memory)", mine.run, scores, mine.queries, mine.documents)
        )
        by = settings.by
        agreements.append(
            Agreement(
                mode,
                len(run),
                *compare_scores(run, stored),
                by,
                score(qrels, run, measures).means[by],
                score(qrels, stored, measures).means[by],
                score(qrels, positive(mine.run), measures).means[by],
            )
        )
    return evaluations, agreements
