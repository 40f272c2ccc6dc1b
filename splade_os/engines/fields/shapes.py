"""Shapes of a weighted term query: the same dot product, spelled for different servers.

Each is a template of bytes around ``feature`` and ``weight``, so that a query costs one join.
All but ``neural_sparse`` on a SEISMIC field are exact: in Lucene each becomes a disjunction of
``weight × stored weight``. (``rank_feature``'s default function, ``saturation``, is not: it can
turn rankings around.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson

from splade_os.engines.fields.impacts import term_of
from splade_os.vectors import Weights

_MAX_NEURAL_WEIGHT = 64.0  # FeatureField.newLinearQuery takes (0, 64]


class _Clauses(dict[str, bytes]):
    """feature → the bytes before its weight; made on first use."""

    def __init__(self, shape: Shape, before: bytes, prefix: str) -> None:
        super().__init__()
        self._shape, self._before, self._prefix = shape, before, prefix

    def __missing__(self, feature: str) -> bytes:
        name = self._prefix + (term_of(feature) if self._shape.name == "impact" else feature)
        made = self[feature] = self._before + orjson.dumps(name) + self._shape.to_weight
        return made


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: it is a cache's key
class Shape:
    """One shape; ``%s`` stands for the field, in JSON.

    Attributes:
        name: ``rank_feature``, ``term``, ``impact``, ``sparse_vector`` or ``neural_sparse``.
        opening, closing: around all clauses.
        open_clause: before the feature of a clause.
        to_weight: between the feature and its weight.
        close_clause: after the weight.
        dotted: the feature is written as ``field.feature``.
    """

    name: str
    opening: bytes
    open_clause: bytes
    to_weight: bytes
    close_clause: bytes
    closing: bytes
    dotted: bool = False

    def render(
        self,
        field: str,
        features: Sequence[str],
        weights: Weights,
        options: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The query as JSON.

        Args:
            field: that holds the vectors.
            features, weights: at least one; float32, finite, > 0.
            options: ``prune`` (``sparse_vector``), ``method_parameters`` (``neural_sparse``).
        """
        opening, clauses, closing = _bound(self, field)
        if self.name == "neural_sparse":
            closing, weights = _neural_ending(weights, options or {})
        elif self.name == "sparse_vector" and (options or {}).get("prune"):
            closing = b'},"prune":true}}'
        close = self.close_clause
        numbers = numbers_of(weights)
        inner = b",".join([clauses[f] + w + close for f, w in zip(features, numbers, strict=True)])
        return opening + inner + closing


def numbers_of(weights: Weights) -> list[bytes]:
    """Each float32 as the shortest decimal that is read as the same float32."""
    return orjson.dumps(weights, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")


@lru_cache(maxsize=256)
def _bound(shape: Shape, field: str) -> tuple[bytes, _Clauses, bytes]:
    name = orjson.dumps(field)
    fill = [part.replace(b"%s", name) for part in (shape.opening, shape.open_clause, shape.closing)]
    return fill[0], _Clauses(shape, fill[1], f"{field}." if shape.dotted else ""), fill[2]


def _neural_ending(weights: Weights, options: Mapping[str, Any]) -> tuple[bytes, Weights]:
    """neural_sparse fails on a weight over 64: all are divided by a power of two, which changes
    no digit, and the query is boosted by it."""
    parts = [b"}"]
    heaviest = float(weights.max())
    if heaviest > _MAX_NEURAL_WEIGHT:
        factor = 2.0 ** math.ceil(math.log2(heaviest / _MAX_NEURAL_WEIGHT))
        weights = weights / type(weights[0])(factor)
        parts.append(b'"boost":' + orjson.dumps(factor))
    if "method_parameters" in options:
        parts.append(b'"method_parameters":' + orjson.dumps(options["method_parameters"]))
    return b",".join(parts) + b"}}}", weights


_SHOULD = b'{"bool":{"minimum_should_match":1,"should":['
RANK_FEATURE = Shape(
    "rank_feature",
    _SHOULD,
    b'{"rank_feature":{"field":',
    b',"linear":{},"boost":',
    b"}}",
    b"]}}",
    dotted=True,
)
TERM = Shape("term", _SHOULD, b'{"term":{%s:{"value":', b',"boost":', b"}}}", b"]}}")
IMPACT = replace(TERM, name="impact")
SPARSE_VECTOR = Shape(
    "sparse_vector",
    b'{"sparse_vector":{"field":%s,"query_vector":{',
    b"",
    b":",
    b"",
    # what is not said is the index's default, which prunes from 8.19 and 9.1 on
    b'},"prune":false}}',
)
NEURAL_SPARSE = Shape(
    "neural_sparse", b'{"neural_sparse":{%s:{"query_tokens":{', b"", b":", b"", b"}}}}"
)
