"""Measures of a run, per query.

Two definitions are kept apart. The *card measures* are those of sentence-transformers'
``SparseInformationRetrievalEvaluator``, which model cards report: relevance is yes or no, ties
are ranked by ascending document id, MAP@k divides by ``min(k, relevant)``. Everything else is
computed by ir-measures (trec_eval): graded relevance, ties by descending id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from subprocess import SubprocessError
from typing import Any

import numpy as np

from splade_os.errors import MissingExtraError, SettingsError
from splade_os.evaluation.runs import Qrels, Run, judged_queries, ranking

CUTOFFS = (1, 3, 5, 10)
CARD_DEPTH = 100
"""Documents per query that the card measures look at."""
MAIN = "ndcg@10"
_DEEPEST = 1_000_000
"""Largest cutoff: one that a run is never as deep as, and every implementation can count to."""
_HIGHEST = 2**31 - 1  # relevance, in trec_eval
_NAMES_HINT = (
    "Names are like nDCG@10, R@1000, AP, RR@10, P(rel=2)@5: "
    "https://ir-measur.es/en/latest/measures.html"
)


@dataclass(frozen=True)
class Scores:
    """What a run scores.

    Attributes:
        means: measure → value over all queries.
        per_query: measure → query id → value, where the measure is one of single queries.
    """

    means: Mapping[str, float]
    per_query: Mapping[str, Mapping[str, float]]


def card_measures(qrels: Qrels, run: Mapping[str, Mapping[str, float]]) -> Scores:
    """accuracy, precision, recall @1, 3, 5, 10; ndcg@10, mrr@10, map@100.

    Over the queries of ``qrels`` that have a relevant document; one that is missing from
    ``run`` counts as having found nothing.
    """
    queries = judged_queries(qrels)
    relevant = np.array([sum(r > 0 for r in qrels[q].values()) for q in queries], np.float64)
    hits = np.zeros((len(queries), CARD_DEPTH))  # 1 where the document at a rank is relevant
    for row, query in enumerate(queries):
        for rank, document in enumerate(ranking(run.get(query, {}))[:CARD_DEPTH]):
            hits[row, rank] = qrels[query].get(document, 0) > 0
    found = hits.cumsum(axis=1)
    ranks = np.arange(1, CARD_DEPTH + 1)
    values = {f"accuracy@{k}": (found[:, k - 1] > 0).astype(np.float64) for k in CUTOFFS}
    values |= {f"precision@{k}": found[:, k - 1] / k for k in CUTOFFS}
    values |= {f"recall@{k}": found[:, k - 1] / relevant for k in CUTOFFS}
    discount = 1 / np.log2(ranks[:10] + 1)
    ideal = discount.cumsum()[np.minimum(relevant, 10).astype(int) - 1]
    values["ndcg@10"] = hits[:, :10] @ discount / ideal
    # reciprocal rank of the first hit: hits before it are zero, so the maximum is its own
    values["mrr@10"] = (hits[:, :10] / ranks[:10]).max(axis=1)
    values["map@100"] = (hits * found / ranks).sum(axis=1) / np.minimum(relevant, CARD_DEPTH)
    return Scores(
        {name: float(np.mean(value)) if len(queries) else 0.0 for name, value in values.items()},
        {name: dict(zip(queries, map(float, value), strict=True))
         for name, value in values.items()},
    )  # fmt: skip


def parse_measures(names: Iterable[str]) -> list[Any]:
    """ir-measures' objects for their names: ``nDCG@10``, ``R@1000``, ``AP(rel=2)`` ...

    Raises:
        MissingExtraError: ir-measures is not installed.
        SettingsError: it knows no such measure, or cannot compute it with what is installed.
    """
    try:
        import ir_measures
    except ImportError:
        raise MissingExtraError("Measures beyond the card's", "eval") from None
    measures = []
    for name in names:
        try:
            measure = ir_measures.parse_measure(name)
        except (ValueError, NameError, SyntaxError, TypeError, RecursionError) as error:
            raise _no_measure(name, error) from None
        _check_parameters(name, measure)
        try:
            ir_measures.DefaultPipeline.evaluator([measure], {"q": {"d": 1}})
        except (*_REFUSALS, SyntaxError) as error:
            raise _no_measure(name, error) from None
        measures.append(measure)
    return measures


_REFUSALS = (
    ValueError, TypeError, LookupError, NameError, RuntimeError, AssertionError, ArithmeticError,
    SubprocessError,  # gdeval is a script of Perl
)  # fmt: skip
"""What ir-measures and the programs behind it raise where they cannot compute a measure."""


def _no_measure(name: str, error: Exception) -> SettingsError:
    reason = str(error) or type(error).__name__
    return SettingsError(
        f"ir-measures cannot compute {name[:80]!r}: {reason.splitlines()[0][:200]}",
        hint=_NAMES_HINT,
    )


def _check_parameters(name: str, measure: Any) -> None:
    """trec_eval ends the process at a cutoff of zero, and takes no number beyond its own."""
    for parameter, highest in (("cutoff", _DEEPEST), ("rel", _HIGHEST)):
        value = measure.params.get(parameter, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= highest:
            raise SettingsError(
                f"{name[:80]!r}: {parameter} is a whole number from 1 to {highest:,}, not {value}.",
                hint=_NAMES_HINT,
            )


def depth_for(measures: Sequence[Any]) -> int:
    """Documents per query that a run must hold for these ir-measures and the card measures.

    A measure without a cutoff gets 1,000, as is usual with trec_eval.
    """
    cutoffs = [int(measure.params.get("cutoff", 1000)) for measure in measures]
    return max([CARD_DEPTH, *cutoffs])


def ir_scores(measures: Sequence[Any], qrels: Qrels, run: Run) -> Scores:
    """What ir-measures computes; over all queries of ``qrels``.

    Raises:
        SettingsError: a measure cannot be computed for these judgements: ERR of a relevance in the
            thousands, Accuracy where every document is relevant ...
    """
    import ir_measures

    if not measures:
        return Scores({}, {})
    try:
        result = ir_measures.calc(measures, qrels, run)
    except _REFUSALS as error:
        raise _not_of_these(measures, qrels, run, error) from error
    per_query: dict[str, dict[str, float]] = {}
    for metric in result.per_query:
        per_query.setdefault(str(metric.measure), {})[metric.query_id] = float(metric.value)
    means = {str(m): float(result.aggregated[m]) for m in measures}
    return Scores(means, per_query)


def _not_of_these(
    measures: Sequence[Any], qrels: Qrels, run: Run, error: Exception
) -> SettingsError:
    """Which of the measures it is."""
    import ir_measures

    for measure in measures:
        try:
            ir_measures.calc([measure], qrels, run)
        except _REFUSALS as found:
            grades = [relevance for judged in qrels.values() for relevance in judged.values()]
            return SettingsError(
                f"{measure} cannot be computed for these judgements, whose relevance is "
                f"{min(grades, default=0):,} to {max(grades, default=0):,}: "
                f"{type(found).__name__}: {str(found)[:200]}",
                hint="Leave it out of --measures, or look at the judgements.",
            )
    return SettingsError(f"ir-measures cannot compute these measures together: {error}")


def score(qrels: Qrels, run: Run, measures: Sequence[Any] = ()) -> Scores:
    """The card measures, and those of ir-measures."""
    card, more = card_measures(qrels, run), ir_scores(measures, qrels, run)
    return Scores({**card.means, **more.means}, {**card.per_query, **more.per_query})
