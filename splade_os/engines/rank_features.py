"""The field strategy ``rank_features``: mapping, document, query, explanation.

A query is a ``bool`` of ``rank_feature`` clauses with the ``linear`` function, whose score is
the stored weight; the boost multiplies it. The sum is the exact dot product. (The default
function, ``saturation``, is not: it can turn rankings around.)
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from splade_os import mappings
from splade_os.engines.base import (
    CONTENT_FIELD,
    HASH_FIELD,
    VECTOR_FIELD,
    IndexMeta,
    MatchQuery,
    SearchRequest,
    TermsQuery,
)
from splade_os.errors import EncodingError, InputError, SpladeWarning
from splade_os.features import MIN_WEIGHT, decimals, truncate
from splade_os.vectors import Ids, Weights
from splade_os.vocabulary import Vocabulary

MAX_CLAUSES = 1024
"""Default of ``indices.query.bool.max_clause_count``; more clauses fail the whole search."""


class Share(NamedTuple):
    """What one feature adds to a score: ``share = query_weight × stored_weight``."""

    feature: str
    query_weight: float
    stored_weight: float
    share: float


def index_body(meta: IndexMeta, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The body that creates an index: the literal mapping, text fields and ``_meta``."""
    body = mappings.load("opensearch", meta.field_type)
    body["settings"]["index"].update(settings or {})
    properties = body["mappings"]["properties"]
    text_field = properties["text"]
    for name in meta.text_fields:
        properties.setdefault(name, text_field)
    body["mappings"]["_meta"] = {"splade_os": meta.model_dump(mode="json")}
    return body


class DocumentRenderer:
    """Documents → the two lines of a bulk action, as bytes, built once.

    Weights are written as the shortest decimal that is stored as the same number
    (`splade_os.features`): about half the bytes, not one bit of difference in the index.

    Args:
        vocabulary: of the vectors.
        field: that holds them.
    """

    def __init__(self, vocabulary: Vocabulary, field: str = VECTOR_FIELD) -> None:
        # `"feature":` of every id, ready to be joined
        self._keys = [orjson.dumps(feature) + b":" for feature in vocabulary.features]
        self._field = field
        self._reserved = {field, CONTENT_FIELD}
        self._opening = orjson.dumps(field) + b":{"

    def render(
        self, identifier: str, source: Mapping[str, Any], ids: Ids, weights: Weights
    ) -> bytes:
        """Action and document of one ``index`` operation, each with its newline.

        Args:
            identifier: document id.
            source: stored fields.
            ids, weights: the vector; weights too small to be stored are left out.

        Raises:
            InputError: the document has a field of the vector's name, or is no valid JSON.
            EncodingError: a weight is NaN or infinite.
        """
        clash = self._reserved.intersection(source)
        if clash:
            raise InputError(
                f"Document {identifier} has a field {min(clash)!r}, which splade-os writes itself."
            )
        if not np.isfinite(weights).all():
            raise EncodingError(f"Document {identifier} has a weight that is NaN or infinite.")
        stored = weights >= MIN_WEIGHT
        if not stored.all():
            ids, weights = ids[stored], weights[stored]
        keys = self._keys
        pairs = [keys[i] + w for i, w in zip(ids.tolist(), decimals(weights), strict=True)]
        try:
            action = orjson.dumps({"index": {"_id": identifier}})
            document = orjson.dumps(source)
        except (TypeError, orjson.JSONEncodeError) as error:
            raise InputError(f"Document {identifier} cannot be written as JSON: {error}") from None
        comma = b"," if len(document) > 2 else b""  # {} has no field to follow
        vector = self._opening + b",".join(pairs) + b"}}\n"
        return b"".join((action, b"\n", document[:-1], comma, vector))


def search_body(request: SearchRequest, meta_field: str = VECTOR_FIELD) -> dict[str, Any]:
    """The ``_search`` body of a request.

    Raises:
        ValueError: a query without terms (an empty ``should`` matches the whole index with
            score 1), or with a weight that is not finite and positive.
    """
    body: dict[str, Any] = {
        "size": request.k,
        "track_total_hits": False,
        "_source": _source_filter(request, meta_field),
    }
    if isinstance(request.query, MatchQuery):
        body["query"] = {"match": {CONTENT_FIELD: {"query": request.query.text}}}
        if request.highlight:
            body["highlight"] = {
                "require_field_match": False,
                "number_of_fragments": 0,
                "pre_tags": [_MARK],
                "post_tags": [_MARK],
                "fields": {"*": {}},
            }
        return body
    features, weights = heaviest(request.query)
    body["query"] = {
        "bool": {
            "minimum_should_match": 1,
            "should": [
                {"rank_feature": {"field": f"{meta_field}.{name}", "boost": weight, "linear": {}}}
                for name, weight in zip(features, weights.tolist(), strict=True)
            ],
        }
    }
    return body


_MARK = "\u241f"  # around highlighted words


def highlighted_words(highlight: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The distinct words that a highlight marks, lower-cased, in order."""
    marked = (text.split(_MARK)[1::2] for texts in highlight.values() for text in texts)
    return tuple(dict.fromkeys(word.lower() for words in marked for word in words))


def heaviest(query: TermsQuery) -> tuple[Sequence[str], Weights]:
    """The terms of a query that fit into one request, checked."""
    features, weights = query.features, np.asarray(query.weights, np.float32)
    if not len(features) or len(features) != len(weights):
        raise ValueError(f"a query of {len(features)} features and {len(weights)} weights")
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError("a query weight is not finite and greater than zero")
    if len(features) <= MAX_CLAUSES:
        return features, weights
    warnings.warn(
        f"A query of {len(features):,} terms: the engine takes {MAX_CLAUSES:,}; "
        "the heaviest are kept.",
        SpladeWarning,
        stacklevel=3,
    )
    kept = np.sort(np.argsort(-weights, kind="stable")[:MAX_CLAUSES])
    return [features[i] for i in kept], weights[kept]


def _source_filter(request: SearchRequest, field: str) -> Any:
    if request.source is None:
        return {"excludes": [HASH_FIELD, *([] if request.with_vector else [field])]}
    wanted = [name for name in request.source if name != field]
    if request.with_vector:
        wanted.append(field)
    return {"includes": wanted} if wanted else False


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
