"""What an index holds and what encoded it, as one JSON object."""

from __future__ import annotations

from typing import Any

from splade_os.engines.base import Engine
from splade_os.statistics import age_of


def index_facts(engine: Engine, index: str) -> dict[str, Any]:
    """Number of documents and bytes, those that are counted for the IDF weights and how long ago
    (seconds), the load that is under way or was the last, and all that the index remembers
    (`IndexMeta`).

    Raises:
        IndexNotFoundError, IndexFormatError: there is no such index, or none of ours.
    """
    meta, stats = engine.index_meta(index), engine.stats(index)
    state, statistics = engine.load_state(index), engine.load_statistics(index)
    return {
        "index": index,
        "documents": stats.documents,
        "bytes": stats.bytes,
        "documents_in_idf": statistics.documents if statistics else 0,
        "statistics_age": age_of(engine.counts(index)),
        "load": None if state is None else {**state.model_dump(), "phase": state.phase},
        **meta.model_dump(),
    }
