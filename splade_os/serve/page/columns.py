"""Ways of searching → what the page shows of each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from splade_os.engines import IndexMeta
from splade_os.errors import SpladeError
from splade_os.search.options import SearchKeywords
from splade_os.search.results import Hit, Results, Term
from splade_os.serve.page.fields import IndexFields, KnownFields
from splade_os.serve.page.request_text import curl_of, python_of
from splade_os.serve.page.state import PageState, Way
from splade_os.serve.page.texts import Span, marks_of, texts_of
from splade_os.serve.problems import RequestError, request_error
from splade_os.serve.searcher import Searcher
from splade_os.serve.searchers import Searchers

SHADES = 6
_CHIPS, _WORDS, _QUERY = 10, 8, 40
_COUNTED = 10_000
_FIELDS = 3  # of the document's own, beside its text


@dataclass(frozen=True)
class Chip:
    """A token that matched.

    Attributes:
        share: of the score.
        shade: 1 to `SHADES`: the share beside that of the strongest.
        expansion: the text of the document does not contain it.
    """

    token: str
    share: float
    shade: int
    expansion: bool = False


@dataclass(frozen=True)
class ShownHit:
    """A hit as the page shows it.

    Attributes:
        movement: ranks that it stands higher than in the first column; ``None`` = it is not there.
        title, text: parts of its texts.
        chips, more_chips: the strongest tokens, and how many more there are.
        words: of BM25 that matched.
        fields: of its other fields.
    """

    id: str
    index: str
    rank: int
    score: float
    movement: int | None
    title: Sequence[Span]
    text: Sequence[Span]
    chips: Sequence[Chip]
    more_chips: int
    words: Sequence[str]
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Column:
    """What one way has found.

    Attributes:
        problem: why it has found nothing.
        whole_ms: the time of the search, as the service waited for it.
        curl, python: the same request elsewhere.
        facets: field → value → documents.
    """

    way: Way
    hits: Sequence[ShownHit] = ()
    problem: RequestError | None = None
    took_ms: float = 0.0
    whole_ms: float = 0.0
    total: int | None = None
    reason: str | None = None
    used: str = ""
    query: Sequence[Chip] = ()
    curl: str = ""
    python: str = ""
    facets: Mapping[str, Sequence[tuple[str, int]]] | None = None


@dataclass(frozen=True)
class _Found:
    """
    Attributes:
        own: tokens of the query's text; the others of an encoder's query are expansion.
    """

    results: Results
    meta: IndexMeta
    seconds: float
    own: frozenset[str] | None = None


async def search_columns(
    state: PageState, searchers: Searchers, known: KnownFields
) -> tuple[list[Column], IndexFields]:
    """All columns, searched at once, and the fields of the first one's index."""
    fields = IndexFields()
    first = searchers.of(state.ways[0].index)
    with contextlib.suppress(SpladeError):  # the searches say it
        fields = await asyncio.to_thread(known.of, first, await first.meta())
    if not state.q.strip():
        return [Column(way) for way in state.ways], fields
    found = await asyncio.gather(
        *(
            _search(searchers.of(way.index), way, state, fields if number == 0 else None)
            for number, way in enumerate(state.ways)
        )
    )
    base = found[0]
    ranks = {hit.id: hit.rank for hit in base.results} if isinstance(base, _Found) else {}
    url = searchers.engine.url
    columns = [
        Column(way, problem=each)
        if isinstance(each, RequestError)
        else _column(way, each, state, {} if number == 0 else ranks, url, compared=number > 0)
        for number, (way, each) in enumerate(zip(state.ways, found, strict=True))
    ]
    return columns, fields


async def _search(
    searcher: Searcher, way: Way, state: PageState, fields: IndexFields | None
) -> _Found | RequestError:
    start = time.perf_counter()
    try:
        meta = await searcher.meta()
        options: SearchKeywords = {
            **state.keywords(way.mode),
            "explain": True,
            "total": _COUNTED,
            "highlight": marks_of(meta),
        }
        if fields is not None and fields.facets:
            options["aggs"] = fields.aggregations()
        results = await searcher.search(state.q, state.k, way.mode, **options)
        seconds = time.perf_counter() - start
        own = await searcher.tokens_of(state.q) if way.mode == "encoder" else None
    except SpladeError as error:
        return request_error(error)
    return _Found(results, meta, seconds, own)


def _column(
    way: Way,
    found: _Found,
    state: PageState,
    ranks: Mapping[str, int],
    url: str,
    *,
    compared: bool,
) -> Column:
    results = found.results
    heaviest = max(results.query.values(), default=1.0)
    return Column(
        way,
        [_shown(hit, found.meta, ranks, compared=compared) for hit in results],
        took_ms=results.took_ms,
        whole_ms=found.seconds * 1000,
        total=results.total,
        reason=results.reason,
        used=str(results.used) if results.used.cut else "",
        query=[
            Chip(
                token,
                weight,
                shade(weight, heaviest),
                found.own is not None and token not in found.own,
            )
            for token, weight in list(results.query.items())[:_QUERY]
        ],
        curl=curl_of(results, found.meta),
        python=python_of(way, state, url),
        facets=_facets(results.aggregations),
    )


def _shown(hit: Hit, meta: IndexMeta, ranks: Mapping[str, int], *, compared: bool) -> ShownHit:
    title, text = texts_of(hit, meta.text_fields)
    strongest = max((term.share for term in hit.terms), default=1.0)
    before = ranks.get(hit.id)
    movement = (before - hit.rank if before is not None else None) if compared else 0
    return ShownHit(
        hit.id,
        hit.index,
        hit.rank,
        hit.score,
        movement,
        title,
        text,
        [_chip(term, strongest) for term in hit.terms[:_CHIPS]],
        max(0, len(hit.terms) - _CHIPS),
        hit.matched_words[:_WORDS],
        _fields(hit.source, meta.text_fields),
    )


def _chip(term: Term, strongest: float) -> Chip:
    return Chip(term.token, term.share, shade(term.share, strongest), term.expansion)


def shade(value: float, strongest: float) -> int:
    """1 to `SHADES`."""
    share = value / strongest if strongest > 0 else 0.0
    return max(1, min(SHADES, round(share * SHADES)))


def _fields(source: Mapping[str, Any], texts: Sequence[str]) -> dict[str, str]:
    """The first short fields that are no text of the document."""
    found: dict[str, str] = {}
    for name, value in source.items():
        if name in texts or isinstance(value, Mapping | bool) or value is None:
            continue
        values = value if isinstance(value, list) else [value]
        shown = ", ".join(str(each) for each in values[:4])
        if 0 < len(shown) <= 40 and len(found) < _FIELDS:
            found[name] = shown
    return found


def _facets(aggregations: Mapping[str, Any]) -> dict[str, Sequence[tuple[str, int]]] | None:
    """Values that several documents have: what is different in each is no facet."""
    if not aggregations:
        return None
    found: dict[str, Sequence[tuple[str, int]]] = {}
    for name, section in aggregations.items():
        counts = [
            (str(each.get("key_as_string", each["key"])), int(each["doc_count"]))
            for each in section.get("buckets", ())
        ]
        counts = [(value, count) for value, count in counts if value]
        if counts and counts[0][1] > 1:
            found[name] = counts
    return found
