"""The index's own term statistics, from which IDF queries are weighted."""

from __future__ import annotations

from splade_os.encoding import DocumentEncoder
from splade_os.engines import Engine, IndexMeta
from splade_os.ingest.documents.records import stored_text
from splade_os.ingest.state.checkpoint import Checkpoint
from splade_os.ingest.state.progress import Progress
from splade_os.statistics import TermStatistics

_PAGE = 500


def start_counting(engine: Engine, index: str, width: int) -> None:
    """Keep statistics for an index that is empty and has none yet."""
    nothing = TermStatistics.empty(width)
    if not engine.add_statistics(index, nothing, "begin") and not engine.count(index):
        engine.save_statistics(index, nothing)


def add_to_index(engine: Engine, index: str, progress: Progress, checkpoint: Checkpoint) -> None:
    """Add what was counted since the last time.

    The checkpoint has it, with the number of its ticket, before it is sent: after a kill the same
    is sent with the same ticket, and is added only once.
    """
    delta = progress.statistics
    if not delta.documents and not delta.frequencies.any():
        return
    checkpoint.save(progress)
    engine.add_statistics(index, delta, f"{checkpoint.run}-{progress.ticket}")
    progress.statistics = TermStatistics.empty(len(delta.frequencies))
    progress.ticket += 1
    checkpoint.save(progress)


def recount(
    engine: Engine, index: str, encoder: DocumentEncoder, meta: IndexMeta
) -> TermStatistics:
    """Count all documents of an index anew, as its record says that they are, and store that."""
    statistics = TermStatistics.empty(encoder.identity.vocabulary_size)
    texts: list[str] = []

    def count() -> None:
        tokens = encoder.tokenize(texts)
        statistics.count_many([encoder.counted(ids, meta.model) for ids in tokens])
        texts.clear()

    engine.refresh(index)
    for _, source in engine.scan(index, meta.text_fields):
        text = stored_text(source, meta.text_fields)
        if text:
            texts.append(text)
        if len(texts) >= _PAGE:
            count()
    if texts:
        count()
    engine.save_statistics(index, statistics)
    return statistics
