"""The outcome of an evaluation, as one value: for a table, for JSON, for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from splade_os.engines import IndexStats
from splade_os.evaluation.agreement import Agreement
from splade_os.evaluation.comparison import Comparison
from splade_os.evaluation.live import Latency
from splade_os.evaluation.measures import Scores
from splade_os.evaluation.runs import Run
from splade_os.evaluation.sparsity import Sparsity, average_flops


@dataclass(frozen=True)
class Evaluation:
    """One way of searching one collection.

    Attributes:
        label: ``idf``, ``encoder (memory)`` ...
        run: what it returned.
        scores: how good that is.
        queries, documents: sparsity of its vectors, where they are at hand.
        latency: how long its queries took, through an index.
    """

    label: str
    run: Run = field(repr=False)
    scores: Scores = field(repr=False)
    queries: Sparsity | None = field(default=None, repr=False)
    documents: Sparsity | None = field(default=None, repr=False)
    latency: Latency | None = field(default=None, repr=False)

    @property
    def sparsity(self) -> dict[str, float]:
        """Active dimensions, sparsity ratios and average FLOPS, named as on model cards."""
        named = {}
        for side, counted in (("query", self.queries), ("corpus", self.documents)):
            if counted is not None:
                named[f"{side}_active_dims"] = counted.active_dims
                named[f"{side}_sparsity_ratio"] = counted.sparsity_ratio
        if self.queries is not None and self.documents is not None:
            named["avg_flops"] = average_flops(self.queries, self.documents)
        return named

    def card(self, name: str) -> dict[str, float]:
        """The figures under the names of sentence-transformers' evaluator, e.g.
        ``NanoNQ_dot_ndcg@10``; without those of ir-measures."""
        prefix = f"{name}_" if name else ""
        figures = {f"{prefix}dot_{m}": v for m, v in self.scores.means.items() if m in CARD_NAMES}
        return figures | {prefix + k: v for k, v in self.sparsity.items()}


_COSTS = {
    "query dims": ("query_active_dims", 1),
    "doc dims": ("corpus_active_dims", 1),
    "FLOPS": ("avg_flops", 2),
    "p50 ms": ("engine_p50_ms", 1),
    "p95 ms": ("engine_p95_ms", 1),
    "p99 ms": ("engine_p99_ms", 1),
    "whole ms": ("whole_p50_ms", 1),
}
_LEADING = ("ndcg@10", "mrr@10", "map@100", "recall@10")


def leading(evaluation: Evaluation) -> list[str]:
    """The measures that a short table shows: four of the card's, and those that were asked for."""
    return [*_LEADING, *(name for name in evaluation.scores.means if name not in CARD_NAMES)]


def costs(evaluations: Sequence[Evaluation]) -> tuple[list[str], list[list[str]]]:
    """Columns that are known of any, and the figures of each, spelled."""
    rows = [e.sparsity | (e.latency.to_dict() if e.latency else {}) for e in evaluations]
    columns = [words for words, (name, _) in _COSTS.items() if any(name in row for row in rows)]
    spelled = [
        [f"{row[name]:.{digits}f}" if name in row else ""
         for name, digits in (_COSTS[words] for words in columns)]
        for row in rows
    ]  # fmt: skip
    return columns, spelled


CARD_NAMES = frozenset(
    [f"{m}@{k}" for m in ("accuracy", "precision", "recall") for k in (1, 3, 5, 10)]
    + ["ndcg@10", "mrr@10", "map@100"]
)


def mean_of(evaluations: Sequence[Evaluation], label: str) -> Evaluation:
    """The mean over collections, as NanoBEIR defines it: every collection counts the same in
    the measures, every vector the same in the sparsity."""
    names = evaluations[0].scores.means
    means = {name: float(np.mean([e.scores.means[name] for e in evaluations])) for name in names}
    return Evaluation(
        label,
        {},
        Scores(means, {}),
        _sum([e.queries for e in evaluations if e.queries]),
        _sum([e.documents for e in evaluations if e.documents]),
    )


def _sum(parts: Sequence[Sparsity]) -> Sparsity | None:
    if not parts:
        return None
    total = Sparsity.empty(len(parts[0].frequencies))
    for part in parts:
        total.frequencies += part.frequencies
        total.rows += part.rows
    return total


@dataclass(frozen=True)
class CurvePoint:
    """What searching costs and gives where documents are pruned by one setting.

    Attributes:
        option: ``max_ratio`` ...
        value: of the option.
        evaluation: one way of searching them.
        index: size of an index of them, where one was made.
    """

    option: str
    value: float
    evaluation: Evaluation
    index: IndexStats | None = None

    @property
    def active_dims(self) -> float:
        """Mean active dimensions of a document."""
        return self.evaluation.documents.active_dims if self.evaluation.documents else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        latency = self.evaluation.latency
        return {
            "option": self.option,
            "value": self.value,
            "way": self.evaluation.label,
            "measures": dict(self.evaluation.scores.means),
            "sparsity": self.evaluation.sparsity,
            "latency": latency.to_dict() if latency else None,
            "index": asdict(self.index) if self.index else None,
        }


@dataclass(frozen=True)
class Report:
    """Everything about one collection.

    Attributes:
        collection: its name.
        queries, documents: how many; ``None`` = not counted.
        setting: what was evaluated: model, engine, index ... for people.
        evaluations: one per way of searching.
        comparisons: of the first way with each of the others.
        agreements: of engine and arithmetic.
        index: size of the index.
        notes: what a reader of the figures must know.
        curve: what pruning the documents would do.
        texts: query id → text.
    """

    collection: str
    queries: int
    documents: int | None
    setting: Mapping[str, Any]
    evaluations: Sequence[Evaluation]
    comparisons: Sequence[Comparison] = ()
    agreements: Sequence[Agreement] = ()
    index: IndexStats | None = None
    notes: Sequence[str] = ()
    curve: Sequence[CurvePoint] = ()
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the runs, ready for JSON."""
        return {
            "collection": self.collection,
            "queries": self.queries,
            "documents": self.documents,
            "setting": dict(self.setting),
            "modes": {
                e.label: {
                    "measures": dict(e.scores.means),
                    "sparsity": e.sparsity,
                    "card": e.card(self.collection) if e.queries else None,
                    "latency": e.latency.to_dict() if e.latency else None,
                }
                for e in self.evaluations
            },
            "comparisons": [c.to_dict() for c in self.comparisons],
            "agreements": [a.to_dict() for a in self.agreements],
            "index": asdict(self.index) if self.index else None,
            "notes": list(self.notes),
            "curve": [point.to_dict() for point in self.curve],
        }
