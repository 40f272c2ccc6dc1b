"""Which IDF table weights a query: the index's, the model's, a file, or a mix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from splade_os.encoding.idf import IdfTable
from splade_os.encoding.idf_file import FORMS
from splade_os.encoding.layout import ModelLayout, StaticPart
from splade_os.errors import ModelError
from splade_os.statistics import TermStatistics
from splade_os.vocabulary import Vocabulary

IdfSource = str | Path | Mapping[str, float]
"""``index`` (counted at ingest), ``model`` (the table that the model was saved with), a file
(`splade_os.encoding.idf_file.FORMS`), or a mix: source → its share."""


def choose_table(
    source: IdfSource | None,
    layout: ModelLayout,
    vocabulary: Vocabulary,
    statistics: TermStatistics | None,
) -> IdfTable:
    """The table of a source.

    Args:
        source: ``None`` = the index's, or if it has none, the model's.
        layout: of the model.
        vocabulary: that the table is for.
        statistics: of the index, if it has any.

    Raises:
        ModelError: the index or the model has no table, or a file is none.
    """
    if source is None:
        source = "model" if statistics is None else "index"
    if isinstance(source, Mapping):
        return _mixed(source, layout, vocabulary, statistics)
    if source == "index":
        if statistics is None:
            raise ModelError(
                "The index has no term statistics: none of its documents was counted at ingest.",
                hint="Take the model's table (--idf model), or ingest again.",
            )
        return IdfTable.from_statistics(
            statistics, vocabulary, f"index ({statistics.documents:,} documents)"
        )
    if source == "model":
        if not isinstance(layout.query, StaticPart):
            raise ModelError(
                f"{layout.folder} is a symmetric model: it has no IDF table of its own.",
                hint="Search with mode 'encoder', or an index whose statistics were counted at "
                "ingest.",
            )
        return IdfTable.from_file(layout.query.weights, vocabulary)
    try:
        there = Path(source).exists()
    except OSError:  # a folder that may not be entered: `from_file` says so
        there = True
    if not there:
        raise ModelError(
            f"There is no IDF table {source}.",
            hint=f"Name index, model, or a file: {FORMS}.",
        )
    return IdfTable.from_file(Path(source), vocabulary, str(source))


def _mixed(
    shares: Mapping[str, float],
    layout: ModelLayout,
    vocabulary: Vocabulary,
    statistics: TermStatistics | None,
) -> IdfTable:
    """The weighted mean of several tables; a token counts where any of them counts it."""
    whole = sum(shares.values())
    if not shares or min(shares.values()) <= 0:
        raise ModelError(f"The shares of a mix of IDF tables must be positive, not {dict(shares)}.")
    weights = np.zeros(len(vocabulary), np.float64)
    origins = []
    for source, share in shares.items():
        table = choose_table(source, layout, vocabulary, statistics)
        weights += np.maximum(table.weights[: len(vocabulary)], 0) * (share / whole)
        origins.append(f"{share / whole:.0%} {table.origin}")
    return IdfTable(weights.astype(np.float32), " + ".join(origins))
