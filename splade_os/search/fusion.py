"""Two rankings → one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from splade_os.engines import EngineHit
from splade_os.search.options import Fusion

Key = tuple[str, str]
"""Index and id of a document."""


def fuse(lists: Sequence[Sequence[EngineHit]], fusion: Fusion) -> list[tuple[Key, float]]:
    """Index and id, and fused score of every hit of any list, best first; ties by index and id.

    A document that a list lacks gets nothing from it: neither its rank nor its score there is
    known. ``min_max`` is OpenSearch's: the lowest score of a list becomes 0.001, not 0, so that
    its document is not as bad as one that was not found; equal scores all become 1.
    """
    fused: dict[Key, float] = {}
    whole = sum(fusion.weights)
    for hits, weight in zip(lists, fusion.weights, strict=True):
        if fusion.method == "rrf":
            parts = [1 / (fusion.rank_constant + rank) for rank in range(1, len(hits) + 1)]
        else:
            parts = [share / whole for share in _scaled([hit.score for hit in hits])]
        for hit, part in zip(hits, parts, strict=True):
            fused[hit.key] = fused.get(hit.key, 0.0) + weight * part
    return sorted(fused.items(), key=lambda item: (-item[1], item[0]))


_LOWEST = 0.001


def _scaled(scores: Sequence[float]) -> list[float]:
    if not scores:
        return []
    low, high = min(scores), max(scores)
    if high == low:
        return [1.0] * len(scores)
    return [max((score - low) / (high - low), _LOWEST) for score in scores]


def pipeline(fusion: Fusion) -> Mapping[str, Any]:
    """The search pipeline by which OpenSearch fuses in the same way."""
    weights = [weight / sum(fusion.weights) for weight in fusion.weights]
    equal = weights[0] == weights[1]
    parameters = {} if equal else {"parameters": {"weights": weights}}
    if fusion.method == "rrf":
        combination = {"technique": "rrf", "rank_constant": fusion.rank_constant, **parameters}
        processor: dict[str, Any] = {"score-ranker-processor": {"combination": combination}}
    else:
        combination = {"technique": "arithmetic_mean", **parameters}
        normalization = {"technique": "min_max"}
        processor = {
            "normalization-processor": {"normalization": normalization, "combination": combination}
        }
    return {"phase_results_processors": [processor]}
