"""What each term adds to a score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from splade_os.engines.base import TermsQuery
from splade_os.features import truncate


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
        vector: feature → weight as in the document's ``_source``; what the engine scores with
            is that weight truncated to 9 significant bits.
    """
    matched = [
        (name, float(weight), vector[name])
        for name, weight in zip(query.features, query.weights, strict=True)
        if name in vector
    ]
    if not matched:
        return []
    stored = truncate(np.array([weight for _, _, weight in matched], np.float32)).tolist()
    shares = [
        Share(name, weight, kept, weight * kept)
        for (name, weight, _), kept in zip(matched, stored, strict=True)
    ]
    return sorted(shares, key=lambda share: -share.share)
