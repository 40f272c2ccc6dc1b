"""Does the engine return what arithmetic says?

An engine keeps 9 bits of each weight (`splade_os.features`), so two things are told apart:
whether its scores are the product with the weights that it stores (they must be), and what
storing them changes against the weights that the model gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from splade_os.evaluation.runs import Run

SAME = 1e-5
"""Largest relative difference of two float32 sums of the same terms in another order."""


@dataclass(frozen=True)
class Agreement:
    """A run of an engine against the exact product with the stored weights.

    Attributes:
        label: the way of searching.
        queries: compared.
        same_hits: queries with the same documents, but for ties at the last rank.
        hits: (query, document) pairs that both have.
        score_difference: largest relative difference of the scores of a pair.
        measure: name.
        engine: its value by the engine's run.
        stored: by the exact product with the stored weights.
        encoded: by the exact product with the weights of the model.
    """

    label: str
    queries: int
    same_hits: int
    hits: int
    score_difference: float
    measure: str
    engine: float
    stored: float
    encoded: float

    @property
    def ok(self) -> bool:
        """Whether the engine did what it must."""
        return self.same_hits == self.queries and self.score_difference <= SAME

    def sentence(self) -> str:
        """For people."""
        return (
            f"{self.label}: the engine's hits are those of the exact product for "
            f"{self.same_hits:,} of {self.queries:,} queries, its scores within "
            f"{self.score_difference:.0e}{'' if self.ok else ', NOT as it must be'}. "
            f"{self.measure}: {self.engine:.4f} by the engine, {self.stored:.4f} with the weights "
            f"that it stores, {self.encoded:.4f} with the model's."
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "ok": self.ok}


def positive(run: Run) -> Run:
    """A run without the documents of score 0, which an engine never returns."""
    return {q: {d: s for d, s in hits.items() if s > 0} for q, hits in run.items()}


def compare_scores(engine: Run, memory: Run) -> tuple[int, int, float]:
    """(queries with the same hits, pairs compared, largest relative difference of scores).

    A document that one side alone has is a difference, unless its score ties with the last hit
    of the other: then which of them is returned is chance.

    Args:
        engine: what the engine returned.
        memory: the exact product, without documents of score 0 (`positive`).
    """
    same = pairs = 0
    largest = 0.0
    for query, hits in engine.items():
        expected = memory.get(query, {})
        common = hits.keys() & expected.keys()
        pairs += len(common)
        for document in common:
            largest = max(largest, _apart(hits[document], expected[document]))
        same += _only_ties(hits, expected) and _only_ties(expected, hits)
    return same, pairs, largest


def _only_ties(hits: Mapping[str, float], others: Mapping[str, float]) -> bool:
    """Whether each hit is among the others, or ties with the last of them."""
    last = min(others.values(), default=0.0)
    return all(d in others or _apart(score, last) <= SAME for d, score in hits.items())


def _apart(a: float, b: float) -> float:
    return abs(a - b) / max(abs(a), abs(b), 1e-30)
