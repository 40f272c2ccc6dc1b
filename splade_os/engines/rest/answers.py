"""Answers of a cluster → responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from splade_os.engines.base import (
    Cursor,
    EngineHit,
    IndexMeta,
    MatchQuery,
    SearchRequest,
    SearchResponse,
)
from splade_os.engines.rest.bodies import HIGHLIGHT_MARK
from splade_os.errors import EngineError, EngineTimeoutError


def read_response(
    answer: Mapping[str, Any], request: SearchRequest, meta: IndexMeta, body: bytes, index: str
) -> SearchResponse:
    """An engine's answer.

    Raises:
        EngineTimeoutError: the search ran out of the time it was given.
        EngineError: shards failed: the hits are not all that there are.
    """
    failed = answer.get("_shards", {}).get("failed", 0)
    if answer.get("timed_out"):
        raise EngineTimeoutError(
            f"The search of {index} did not end in the time that it was given.",
            hint="Give it more (timeout=, --timeout), or make it cheaper: fewer terms, two phases.",
        )
    if failed:
        reasons = [f.get("reason", {}).get("reason") for f in answer["_shards"].get("failures", ())]
        raise EngineError(
            f"The search of {index} is incomplete: {failed} of {answer['_shards']['total']} "
            f"shards failed{f': {reasons[0]}' if reasons else ''}.",
            hint="Look at the cluster's health and try again.",
            transient=True,
        )
    found = answer["hits"]
    sparse = not isinstance(request.query, MatchQuery)
    hits = [_hit(hit, meta, request.with_vector and sparse) for hit in found["hits"]]
    following = None
    if request.after is not None and len(found["hits"]) == request.k:
        last = found["hits"][-1]["sort"]
        following = Cursor(answer.get("pit_id", request.after.pit), tuple(last))
    total = found.get("total")
    return SearchResponse(
        hits,
        float(answer["took"]),
        body,
        total=None if total is None else int(total["value"]),
        following=following,
        index=found["hits"][0]["_index"] if found["hits"] else None,
    )


def complete(answer: Any, index: str | None) -> Any:
    """The same answer, if every shard has had its part in it.

    ``failed`` alone does not tell: OpenSearch leaves out a shard that no node holds, and says
    nothing more than that fewer were ``successful``.

    Raises:
        EngineError: it is incomplete.
    """
    shards = answer.get("_shards")
    if not shards:
        return answer
    # those that were skipped count as successful, on both engines
    missing = int(shards["total"]) - int(shards["successful"])
    if not missing and not shards.get("failed"):
        return answer
    reasons = [f.get("reason", {}).get("reason") for f in shards.get("failures", ())]
    raise EngineError(
        f"The answer of {index} is incomplete: {missing or shards['failed']} of {shards['total']} "
        f"shards are missing{f': {reasons[0]}' if reasons and reasons[0] else ''}.",
        hint="Look at the cluster's health (curl URL/_cluster/health) and try again.",
        transient=True,
    )


def _hit(hit: Mapping[str, Any], meta: IndexMeta, with_vector: bool) -> EngineHit:
    source = hit.get("_source") or {}
    vector = source.pop(meta.field, None)  # the answer is nobody else's
    source.pop(meta.hash_field, None)
    score = hit["_score"]
    if score is None:  # sorted by it
        score = hit["sort"][0]
    return EngineHit(
        hit["_id"],
        float(score),
        source,
        (vector or {}) if with_vector else None,
        highlighted_words(hit["highlight"]) if "highlight" in hit else (),
        hit["_index"],
    )


def highlighted_words(highlight: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The distinct words that a highlight marks, lower-cased, in order."""
    marked = (text.split(HIGHLIGHT_MARK)[1::2] for texts in highlight.values() for text in texts)
    return tuple(dict.fromkeys(word.lower() for words in marked for word in words))
