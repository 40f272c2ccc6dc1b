"""Answers of a cluster → responses."""

from __future__ import annotations

import json
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
from splade_os.engines.fields.stored import scored_vector
from splade_os.engines.rest.bodies import HIGHLIGHT_MARK
from splade_os.errors import EngineError, EngineTimeoutError

_OF_HIT = frozenset(("_index", "_id", "_score", "_source", "_type"))
_OF_ANSWER = frozenset(("took", "timed_out", "_shards", "hits", "pit_id", "status", "_clusters",
                        "num_reduce_phases"))  # fmt: skip
_SHOWN = 200  # characters of an answer that is none of an engine


def expect(answer: Any, url: str, *path: str, kind: type | tuple[type, ...] = object) -> Any:
    """What an answer holds at a path, of a type.

    Raises:
        EngineError: it is JSON, but not what a search engine answers: a proxy's, or another
            service's.
    """
    found = answer
    for key in path:
        if not isinstance(found, Mapping) or key not in found:
            raise foreign(answer, url)
        found = found[key]
    if not isinstance(found, kind):
        raise foreign(answer, url)
    return found


def objects(answer: Any, url: str) -> Mapping[str, Mapping[str, Any]]:
    """An answer that holds one object for each name, as those about indices do; see `expect`."""
    if not isinstance(answer, Mapping) or not all(isinstance(v, Mapping) for v in answer.values()):
        raise foreign(answer, url)
    return answer


def foreign(answer: Any, url: str) -> EngineError:
    """The error that shows the first line of what is no engine's answer."""
    text = (
        answer if isinstance(answer, str) else json.dumps(answer, default=str, ensure_ascii=False)
    )
    first = next((line.strip() for line in text.splitlines() if line.strip()), "nothing")
    return EngineError(
        f"{url} answered what no search engine answers: {first[:_SHOWN]}",
        hint="Is it a proxy's, or another service's, URL? Try: curl -i " + url,
    )


def complete(answer: Mapping[str, Any]) -> bool:
    """Whether every shard has had its part in an answer (of a search, a count, a scroll ...).

    OpenSearch leaves a shard that is assigned to no node out of ``failed``: only ``successful``
    tells. (A shard that is ``skipped``, since nothing in it can match, is ``successful`` too.)
    """
    shards = answer.get("_shards")
    if not isinstance(shards, Mapping):
        return True  # of a request that asks no shard
    return not shards.get("failed") and shards.get("successful", 0) >= shards.get("total", 0)


def incomplete(answer: Mapping[str, Any], what: str) -> EngineError:
    """The error of an answer that is not `complete`; ``what`` begins its sentence."""
    shards = answer["_shards"]
    missing = shards.get("total", 0) - shards.get("successful", 0)
    reasons = [f.get("reason", {}).get("reason") for f in shards.get("failures", ())]
    said = f": {reasons[0]}" if reasons and reasons[0] else ""
    return EngineError(
        f"{what} is incomplete: {missing} of {shards.get('total')} shards failed or are on no "
        f"node{said}.",
        hint="Look at the cluster's health and try again.",
        transient=True,
    )


def read_response(
    answer: Any, request: SearchRequest, meta: IndexMeta, body: bytes, index: str, url: str
) -> SearchResponse:
    """An engine's answer.

    Raises:
        EngineTimeoutError: the search ran out of the time it was given.
        EngineError: shards failed, or are not there: the hits are not all that there are. Or the
            answer is no engine's.
    """
    found = expect(answer, url, "hits", kind=Mapping)
    listed = expect(answer, url, "hits", "hits", kind=list)
    took = float(expect(answer, url, "took", kind=(int, float)))
    error = _lacking(answer, index)
    if error is not None and not request.allow_partial:
        raise error
    sparse = not isinstance(request.query, MatchQuery)
    hits = [_hit(hit, meta, request, sparse) for hit in listed]
    following = None
    if request.after is not None and len(listed) == request.k:
        last = listed[-1]["sort"]
        following = Cursor(answer.get("pit_id", request.after.pit), tuple(last))
    total = found.get("total") if request.total else None
    terms, match = request.terms, request.match
    return SearchResponse(
        hits,
        took,
        body,
        total=None if total is None else int(total["value"]),
        following=following,
        index=listed[0]["_index"] if listed else None,
        terms=None if terms is None else len(terms.features),
        words_cut=0 if match is None else match.cut,
        partial=None if error is None else error.message,
        window=request.phases.window if request.phases else None,
        more=_more(answer, _OF_ANSWER) if request.body else {},
    )


def _lacking(answer: Mapping[str, Any], index: str) -> EngineError | None:
    """What an answer lacks, as an error."""
    partly = "Or take what there is: allow_partial=True, --allow-partial."
    if answer.get("timed_out"):
        return EngineTimeoutError(
            f"The search of {index} did not end in the time that it was given.",
            hint="Give it more (timeout=, --search-timeout), or make it cheaper: fewer terms, two "
            f"phases. {partly}",
        )
    if complete(answer):
        return None
    error = incomplete(answer, f"The search of {index}")
    error.hint = f"{error.hint} {partly}"
    return error


def _hit(
    hit: Mapping[str, Any], meta: IndexMeta, request: SearchRequest, sparse: bool
) -> EngineHit:
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
        scored_vector(vector, meta) if request.with_vector and sparse else None,
        highlighted_words(hit["highlight"]) if request.highlight and "highlight" in hit else (),
        hit["_index"],
        _more_of_hit(hit, request) if request.body else {},
    )


def _more_of_hit(hit: Mapping[str, Any], request: SearchRequest) -> dict[str, Any]:
    """What was asked for by `SearchRequest.body`."""
    more = _more(hit, _OF_HIT)
    if request.highlight:
        more.pop("highlight", None)  # our own
    values = more.pop("sort", None)
    if values is not None and "sort" in request.body:
        more["sort"] = values[: len(request.body["sort"])]  # but the tie-breakers
    return more


def _more(answer: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in known}


def highlighted_words(highlight: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The distinct words that a highlight marks, lower-cased, in order."""
    marked = (text.split(HIGHLIGHT_MARK)[1::2] for texts in highlight.values() for text in texts)
    return tuple(dict.fromkeys(word.lower() for words in marked for word in words))
