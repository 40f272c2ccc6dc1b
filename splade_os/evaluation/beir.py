"""Queries and judgements in the BEIR layout: ``queries.jsonl``, ``qrels/<split>.tsv``."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from splade_os.errors import InputError, SpladeWarning
from splade_os.evaluation.files import find
from splade_os.evaluation.runs import Qrels, judged_queries
from splade_os.evaluation.trec import read_qrels, read_queries


@dataclass(frozen=True)
class Judged:
    """Judged queries.

    Attributes:
        queries: query id → text, of the queries that have a relevant document.
        qrels: query id → document id → relevance, of these queries.
    """

    queries: dict[str, str]
    qrels: Qrels


def read_judged(folder: Path, split: str = "test") -> Judged:
    """Read one split of a BEIR folder; files may be gzipped.

    Raises:
        InputError: a file is missing or damaged.
    """
    file = folder / "qrels" / f"{split}.tsv"
    try:
        find(file)
    except InputError as error:
        have = sorted(f.name.split(".")[0] for f in folder.glob("qrels/*.tsv*"))
        raise InputError(
            error.message, hint=f"Splits that are there: {', '.join(have)}." if have else None
        ) from None
    return judge(read_queries(folder / "queries.jsonl"), read_qrels(file), str(folder))


def judge(queries: dict[str, str], qrels: Qrels, where: str) -> Judged:
    """Queries with their judgements; those without a relevant document are left out, and those
    without a text, which a `SpladeWarning` tells: figures without them are others.

    Raises:
        InputError: no judged query has a text, or a relevant document.
    """
    missing = [query for query in qrels if query not in queries]
    if missing:
        told = (
            f"{where}: {len(missing):,} of {len(qrels):,} judged queries have no text, "
            f"{missing[0]!r} among them"
        )
        if len(missing) == len(qrels):
            raise InputError(
                f"{told}.",
                hint="Queries and judgements do not belong together, or their ids differ.",
            )
        warnings.warn(
            f"{told}: they are left out, and every figure is of the others alone.",
            SpladeWarning,
            stacklevel=3,
        )
        qrels = {query: judged for query, judged in qrels.items() if query in queries}
    kept = judged_queries(qrels)
    if not kept:
        raise InputError(f"{where}: no query has a relevant document.")
    return Judged({q: queries[q] for q in kept}, {q: qrels[q] for q in kept})
