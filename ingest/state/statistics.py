"""The index's own term statistics, from which IDF queries are weighted."""

from __future__ import annotations

import logging

from splade_os.encoding import DocumentEncoder
from splade_os.engines import Engine, IndexMeta
from splade_os.errors import EngineError
from splade_os.ingest.documents.records import stored_text
from splade_os.ingest.log import log
from splade_os.ingest.state.progress import Progress
from splade_os.statistics import Count, TermStatistics, base_of, total

_PAGE = 500
_CHEAP = 20_000  # documents that are counted anew whenever something has changed
_MOST_CHANGED = 0.02  # of more: the part of them that an IDF does not notice
_RECORDS = 20  # of runs, before they are put together
LEASE = 900.0  # seconds for which a run says that it goes on


def save_count(engine: Engine, index: str, count: Count) -> str | None:
    """Store what a run has counted; says what kept it from being stored. The load goes on."""
    try:
        engine.save_count(index, count)
    except EngineError as error:
        log(logging.WARNING, "statistics", error.message, index=index)
        return f"the term statistics of {index} could not be written: {error.message}"
    return None


def end_count(
    engine: Engine,
    index: str,
    run: str,
    progress: Progress,
    encoder: DocumentEncoder,
    meta: IndexMeta,
) -> str | None:
    """At the end of a run: store what it has counted, and `settle_counts`; says what is not right
    with the statistics."""
    lag = save_count(engine, index, progress.count(run))
    if lag is not None or not progress.indexed:
        return lag
    seen = None if progress.counters["unchanged"] else progress
    return settle_counts(engine, index, run, encoder, meta, seen)


def settle_counts(
    engine: Engine,
    index: str,
    run: str,
    encoder: DocumentEncoder,
    meta: IndexMeta,
    progress: Progress | None = None,
) -> str | None:
    """Bring the statistics up to date, when what a run has counted is stored.

    Where the records do not say what the index holds (documents were overwritten or deleted, by
    this run or by others; the state of a killed run is lost), all documents are counted anew:
    always in a small index; in a large one when it is more than 2 % of them.

    Args:
        progress: of the run, where it has encoded all that it read: if these are all documents of
            the index, nothing has to be read again.

    Returns:
        What is not right with them.
    """
    again = f"splade-os index recount --index {index} counts them anew"
    try:
        counts = engine.counts(index)
        others = sum(count.under_way for count in counts if count.run != run)
        if others:  # the last one to end settles it
            return f"{others} other runs write to {index}, or were killed a moment ago"
        documents, whole = engine.count(index), total(counts)
        if progress is not None and progress.wrote == documents:
            everything = progress.created + progress.updated
            engine.save_base(index, base_of(everything, counts, empty=sum(progress.empty)))
            return None
        if whole is not None and whole.statistics.valid:
            counted = whole.statistics.documents + whole.empty
            changed = whole.changed + abs(documents - counted)
            small = documents > _CHEAP and changed <= _MOST_CHANGED * documents
            if not changed or small:
                if len(counts) > _RECORDS:
                    engine.save_base(index, whole)
                what = f"{changed:,} of the {documents:,} documents of {index} have changed since"
                return f"{what} they were counted ({again})" if changed else None
        recount(engine, index, encoder, meta)
    except EngineError as error:
        log(logging.WARNING, "statistics", error.message, index=index)
        return f"the term statistics of {index} are not up to date: {error.message} ({again})"
    return None


def recount(
    engine: Engine, index: str, encoder: DocumentEncoder, meta: IndexMeta
) -> TermStatistics:
    """Count all documents of an index anew, as its record says that they are, and store that."""
    statistics = TermStatistics.empty(encoder.identity.vocabulary_size)
    texts: list[str] = []
    empty = 0

    def count() -> None:
        tokens = encoder.tokenize(texts)
        statistics.count_many([encoder.counted(ids, meta.model) for ids in tokens])
        texts.clear()

    engine.refresh(index)
    before = engine.counts(index)  # what comes later is counted on top
    for _, source in engine.scan(index, meta.text_fields):
        text = stored_text(source, meta.text_fields)
        if text:
            texts.append(text)
        else:
            empty += 1
        if len(texts) >= _PAGE:
            count()
    if texts:
        count()
    engine.save_base(index, base_of(statistics, before, empty=empty))
    return statistics
