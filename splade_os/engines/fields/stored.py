"""Vectors as documents' sources have them → the weights that the engine scores with."""

from __future__ import annotations

from typing import Any

import numpy as np

from splade_os.engines.base import IndexMeta
from splade_os.engines.fields.impacts import vector_of
from splade_os.features import truncate


def scored_vector(value: Any, meta: IndexMeta) -> dict[str, float]:
    """Feature → weight; empty where there is no vector.

    Weights are as Lucene keeps them: cut to 9 significant bits (`splade_os.features.truncate`), or
    term frequencies of a scale (`splade_os.engines.fields.impacts`).

    Raises:
        ValueError: the field holds something else.
    """
    if not value:
        return {}
    if meta.impact_max is not None and isinstance(value, str):
        return vector_of(value, meta.impact_max)
    if meta.impact_max is not None or not isinstance(value, dict):
        raise ValueError(f"the field {meta.field!r} holds no vector of the type {meta.field_type}")
    kept = truncate(np.fromiter(value.values(), np.float32, len(value)))
    return dict(zip(value, kept.tolist(), strict=True))
