"""What each term adds to a score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from splade_os.engines.base import TermsQuery


class Share(NamedTuple):
    """What one feature adds to a score: ``share = query_weight × stored_weight``."""

    feature: str
    query_weight: float
    stored_weight: float
    share: float


def explain_terms(query: TermsQuery, vector: Mapping[str, float]) -> list[Share]:
    """What each matched feature adds to a hit's score, largest share first.

    Args:
        query: as sent.
        vector: feature → weight that the engine scores with (`EngineHit.vector`).
    """
    shares = [
        Share(name, float(weight), vector[name], float(weight) * vector[name])
        for name, weight in zip(query.features, query.weights, strict=True)
        if name in vector
    ]
    return sorted(shares, key=lambda share: -share.share)
