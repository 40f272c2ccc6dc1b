"""The corpus statistics of an index, for a table that is to be used outside of it."""

from __future__ import annotations

from splade_os.encoding.layout import read_layout
from splade_os.encoding.resolve import model_hash, resolve_model, same_queries
from splade_os.engines import Engine
from splade_os.errors import IndexFormatError, ModelMismatchError
from splade_os.statistics import TermStatistics


def index_statistics(engine: Engine, index: str, model: str) -> tuple[TermStatistics, bool]:
    """Document frequencies that were counted while an index was written, and whether with a space
    before every text (`splade_os.encoding.first_words`).

    Args:
        engine, index: where they are.
        model: that encoded the index.

    Raises:
        ModelMismatchError: another model encoded the index.
        IndexFormatError: the index is none of ours, or has no statistics.
    """
    meta = engine.index_meta(index)
    found = resolve_model(model, weights=False)
    if not same_queries(found, meta.model) and (
        model_hash(read_layout(found.folder).document) != meta.model.content_hash
    ):
        raise ModelMismatchError(
            f"The index {index} was encoded with the model {meta.model.name}; {model} has another "
            "content hash.",
            hint="Name the model of the index.",
        )
    statistics = engine.load_statistics(index)
    if statistics is None:
        raise IndexFormatError(
            f"The index {index} has no term statistics.",
            hint="Ingest into it once; or leave --index out to take the model's own table.",
        )
    return statistics, meta.model.leading_space
