"""Evaluate a model on a collection, in memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from splade_os.encoding import DocumentEncoder
from splade_os.encoding.lexical import SAMPLE
from splade_os.errors import InputError, SettingsError, SpladeWarning
from splade_os.evaluation.collection import Collection
from splade_os.evaluation.measures import MAIN, depth_for, score
from splade_os.evaluation.memory import (
    MEMORY_MODES,
    Change,
    MemoryMode,
    corpus_statistics,
    encoded_blocks,
    load_queries_encoder,
    retrieve,
)
from splade_os.evaluation.report import Evaluation
from splade_os.ingest.documents.records import Record
from splade_os.statistics import TermStatistics
from splade_os.vectors import SparseBatch


@dataclass(frozen=True)
class Settings:
    """What holds for every way of searching.

    Attributes:
        measures: of ir-measures, beside the card's (`parse_measures`).
        remove_query_id: a query may not find the document of its own id.
        depth: documents per query; default as deep as the measures look.
        by: the measure by which ways of searching are compared query by query.
    """

    measures: Sequence[Any] = ()
    remove_query_id: bool = False
    depth: int | None = None
    by: str = MAIN

    @property
    def hits(self) -> int:
        """Documents per query."""
        return self.depth or depth_for(self.measures)


def evaluate_in_memory(
    collection: Collection,
    encoder: DocumentEncoder,
    model: str,
    modes: Sequence[MemoryMode] = ("model",),
    *,
    settings: Settings | None = None,
    statistics: TermStatistics | None = None,
    changes: Mapping[str, Change] | None = None,
    device: str | None = None,
    progress: Callable[[str, int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> dict[tuple[str, str], Evaluation]:
    """Encode a collection and search it exactly, without any engine.

    The documents pass by once, or, where ``idf`` has to count them first, twice.

    Args:
        collection: documents, queries, judgements.
        encoder: encodes the documents.
        model: what encodes the queries, as for `DocumentEncoder.load`.
        modes: ``model``, ``idf``, ``encoder`` (`load_queries_encoder`).
        settings: measures and depth.
        statistics: for ``idf``; default those of the collection.
        changes: name → what happens to the document vectors first (`retrieve`).
        device: for the query encoder.
        progress: called with what is done, and the number of documents.
        note: called with what a reader of the figures must know; default a `SpladeWarning`.

    Returns:
        (mode, name of the change) → evaluation.

    Raises:
        InputError: the collection holds none of the relevant documents.
    """
    settings = settings or Settings()
    for mode in modes:
        if mode not in MEMORY_MODES:
            raise SettingsError(
                f"There is no mode {mode!r} in memory.",
                hint=f"One of {', '.join(MEMORY_MODES)}; others need an engine: give --index.",
            )

    def report(what: str) -> Callable[[int], None] | None:
        return (lambda done: progress(what, done)) if progress else None

    if "average_length" in encoder.left_open:  # as an ingest measures it
        encoder.measured([record.text for record in islice(collection.documents(), SAMPLE)])
    if "idf" in modes and statistics is None:
        statistics = corpus_statistics(collection.documents(), encoder, report("documents counted"))
    queries = collection.judged.queries
    vectors: dict[str, SparseBatch] = {}
    for mode in modes:
        of_queries = load_queries_encoder(
            model,
            mode,
            statistics=statistics,
            leading_space=encoder.identity.leading_space,
            device=device,
            normalize=encoder.identity.normalize,
        )
        vectors[mode] = of_queries.encode(list(queries.values()))
    missing = {
        document: None
        for judged in collection.judged.qrels.values()
        for document, relevance in judged.items()
        if relevance > 0
    }
    relevant = len(missing)

    def documents() -> Iterator[Record]:
        for record in collection.documents():
            missing.pop(record.id, None)
            yield record

    found = retrieve(
        encoded_blocks(documents(), encoder),
        list(queries),
        vectors,
        changes=changes,
        depth=settings.hits,
        remove_query_id=settings.remove_query_id,
        progress=report("documents encoded and searched"),
    )
    if missing:
        _tell_missing(list(missing), relevant, collection.name, note)
    return {
        (mode, name): Evaluation(
            f"{mode} {name}".strip(),
            result.run,
            score(collection.judged.qrels, result.run, settings.measures),
            result.queries,
            result.documents,
        )
        for (mode, name), result in found.items()
    }


def _tell_missing(
    missing: Sequence[str], relevant: int, name: str, note: Callable[[str], None] | None
) -> None:
    if len(missing) == relevant:
        raise InputError(
            f"{name} holds none of the {relevant:,} relevant documents, e.g. {missing[0]!r}.",
            hint="Documents and judgements do not belong together, or their ids differ.",
        )
    text = (
        f"{name} lacks {len(missing):,} of {relevant:,} relevant documents, {missing[0]!r} among "
        "them: every figure is lower than it could be."
    )
    if note is not None:
        note(text)
    else:
        warnings.warn(text, SpladeWarning, stacklevel=3)
