"""Encoded queries → requests of an engine, and the engine's answers → `Results`. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from splade_os.engines import (
    EngineHit,
    HybridQuery,
    IdsQuery,
    IndexMeta,
    MatchQuery,
    QueryPipeline,
    SearchRequest,
    SearchResponse,
    SumQuery,
    TermsQuery,
    TextQuery,
    explain_terms,
)
from splade_os.errors import EngineError
from splade_os.search.fusion import Key, fuse, pipeline
from splade_os.search.marks import TokensOf
from splade_os.search.options import MAX_K, SearchOptions
from splade_os.search.results import Hit, Results, Term, UsedTerms
from splade_os.vectors import Ids, Weights
from splade_os.vocabulary import TOKEN_IDS

NO_TERM = "The query has no term with a weight: nothing to look for."
EMPTY = "The query is empty."
SPARSE_IS_EMPTY = "The sparse half has no term with a weight: BM25 alone answered."
_COPIES = 8  # of an id, in an alias over several indices


@dataclass(frozen=True)
class Sparse:
    """The sparse query of a text: its terms for the engine, and its tokens for people.

    Attributes:
        query: what is sent.
        ids: of its terms.
        vocabulary: token of every id.
        whole: number of terms before the query was pruned.
    """

    query: TermsQuery
    ids: Sequence[int]
    vocabulary: Sequence[str] = field(repr=False)
    whole: int = 0

    @property
    def tokens(self) -> dict[str, float]:
        """Token → weight; made when it is asked for: a body does not need it."""
        names = [self.vocabulary[i] for i in self.ids]
        return dict(zip(names, self.query.weights.tolist(), strict=True))


@dataclass(frozen=True)
class Plan:
    """What is sent for one query.

    Attributes:
        mode: of the search.
        requests: to send, in this order; none for a query without terms.
        sparse: the sparse query among them, or half of one.
        weights_from: where its weights come from.
        reason: why nothing is sent, or only half of a hybrid query.
        tokens_cut: tokens of the text that are behind the maximum length.
        words_cut: words of the text over the limit of the server.
    """

    mode: str
    requests: tuple[SearchRequest, ...] = ()
    sparse: Sparse | None = None
    weights_from: str = ""
    reason: str | None = None
    tokens_cut: int = 0
    words_cut: int = 0

    def as_sent(self, responses: Sequence[SearchResponse]) -> Plan:
        """The plan with the terms and words alone that the engine's limits left."""
        words_cut = max((response.words_cut for response in responses), default=0)
        plan = replace(self, words_cut=words_cut) if words_cut else self
        phases = self.requests[0].phases if self.requests else None
        if responses and phases is not None and responses[0].window != phases.window:
            window = responses[0].window  # of the index, which allows no larger one
            two_phase = None if window is None else replace(phases, window=window)
            sent = replace(self.requests[0], two_phase=two_phase)
            plan = replace(plan, requests=(sent, *self.requests[1:]))
        kept, sparse = (responses[0].terms if responses else None), self.sparse
        if sparse is None or kept is None or kept >= len(sparse.ids):
            return plan
        query = TermsQuery(sparse.query.features[:kept], sparse.query.weights[:kept])
        return replace(plan, sparse=replace(sparse, query=query, ids=sparse.ids[:kept]))

    @property
    def used(self) -> UsedTerms:
        """How much of the query took part."""
        if self.sparse is None:
            return UsedTerms(tokens_cut=self.tokens_cut, words_cut=self.words_cut)
        kept = finding = len(self.sparse.ids)
        request = self.requests[0]
        if request.phases is not None:
            finding = min(kept, request.phases.heavy(self.sparse.query.weights))
        window = request.phases.window if request.phases and finding < kept else None
        return UsedTerms(kept, self.sparse.whole, finding, window, self.tokens_cut, self.words_cut)


def sparse_query(
    ids: Ids,
    weights: Weights,
    names: Sequence[str],
    tokens: Sequence[str],
    options: SearchOptions,
    mode: str,
) -> Sparse | None:
    """One encoded row as a query, pruned, heaviest term first; ``None`` without any term.

    Args:
        ids, weights: of the row.
        names, tokens: feature name and token of every id.
        options, mode: say how it is pruned.
    """
    if not len(ids):
        return None
    whole = len(ids)
    ids, weights = options.pruning(mode).apply(ids, weights)
    kept = ids.tolist()
    return Sparse(TermsQuery([names[i] for i in kept], weights), kept, tokens, whole)


def plan_sparse(
    sparse: Sparse | None, meta: IndexMeta, options: SearchOptions, weights_from: str
) -> Plan:
    """The plan of the modes ``idf``, ``encoder`` and ``raw``."""
    if sparse is None:
        return Plan(options.mode, reason=NO_TERM, weights_from=weights_from)
    request = _request(sparse.query, meta, options, options.mode)
    return Plan(options.mode, (request,), sparse, weights_from)


def plan_bm25(text: str, meta: IndexMeta, options: SearchOptions) -> Plan:
    """The plan of the mode ``bm25``."""
    return Plan(options.mode, (_request(MatchQuery(text), meta, options),))


def plan_text(text: str, pipeline: QueryPipeline, meta: IndexMeta, options: SearchOptions) -> Plan:
    """The plan of the mode ``engine``."""
    request = _request(TextQuery(text, pipeline.name), meta, options)
    origin = f"engine (search pipeline {pipeline.name}, model {pipeline.model_id})"
    return Plan(options.mode, (request,), weights_from=origin)


def plan_hybrid(
    text: str, sparse: Sparse | None, meta: IndexMeta, options: SearchOptions, weights_from: str
) -> Plan:
    """Both halves; BM25 alone where the sparse one has no terms."""
    fusion = options.fusion
    if fusion.method == "sum":
        return _plan_sum(text, sparse, meta, options, weights_from)
    if sparse is None:
        request = _request(MatchQuery(text), meta, options)
        return Plan(options.mode, (request,), None, weights_from, SPARSE_IS_EMPTY)
    if fusion.engine:
        query = HybridQuery(sparse.query, MatchQuery(text), pipeline(fusion), fusion.depth)
        request = replace(_request(query, meta, options, fusion.sparse), two_phase=None)
        return Plan(options.mode, (request,), sparse, weights_from)
    depth = max(fusion.depth, options.k)  # the same for all pages
    if not options.explain:  # stored fields are fetched of the page alone: `plan_page`
        options = replace(options, source=())
    requests = (
        replace(_request(sparse.query, meta, options, fusion.sparse), k=depth, offset=0),
        replace(_request(MatchQuery(text), meta, options), k=depth, offset=0),
    )
    return Plan(options.mode, requests, sparse, weights_from)


def _plan_sum(
    text: str, sparse: Sparse | None, meta: IndexMeta, options: SearchOptions, weights_from: str
) -> Plan:
    """One query with both parts; a part of weight 0 is none."""
    ours, theirs = options.fusion.weights
    if sparse is None or not ours:
        reason = None if sparse is not None else SPARSE_IS_EMPTY
        match = _request(MatchQuery(text, theirs), meta, options)
        return Plan(options.mode, (match,), None, weights_from, reason)
    if ours != 1:
        weights = sparse.query.weights * np.float32(ours)
        sparse = replace(sparse, query=replace(sparse.query, weights=weights))
    query = SumQuery(sparse.query, MatchQuery(text, theirs)) if theirs else sparse.query
    request = _request(query, meta, options, options.fusion.sparse)
    return Plan(options.mode, (request,), sparse, weights_from)


@dataclass(frozen=True)
class Page:
    """What a hybrid search returns of its two halves.

    Attributes:
        hits: index and id, and score of each, best first.
        fused: number of hits of the whole fused ranking.
        whole: it holds all documents that match.
    """

    hits: Sequence[tuple[Key, float]] = ()
    fused: int = 0
    whole: bool = True


def fused_page(responses: Sequence[SearchResponse], options: SearchOptions) -> Page:
    """The page of a hybrid search.

    Raises:
        EngineError: it lies behind what was fused, and more may match.
    """
    depth = max(options.fusion.depth, options.k)
    ranking = fuse([response.hits for response in responses], options.fusion)
    whole = all(len(response.hits) < depth for response in responses)
    least = options.min_score
    if least is not None:
        ranking = [(key, score) for key, score in ranking if score >= least]
    if options.offset and options.offset >= len(ranking) and not whole:
        raise EngineError(
            f"The fused ranking ends after {len(ranking):,} hits: the first {depth:,} of each half "
            f"were fused, and the page begins at {options.offset:,}.",
            hint=f"Fuse more on every page: fusion=Fusion(depth={min(2 * depth, MAX_K)}), "
            "--fusion-depth; or scan() in another mode, which has no end.",
        )
    hits = ranking[options.offset : options.offset + options.k]
    return Page(hits, len(ranking), whole)


def plan_page(page: Page, options: SearchOptions) -> SearchRequest | None:
    """What fetches the stored fields of a page, where its halves did not."""
    if not page.hits or options.explain or (options.source is not None and not options.source):
        return None
    size = min(_COPIES * len(page.hits), MAX_K)
    ids = IdsQuery(list(dict.fromkeys(identifier for (_, identifier), _ in page.hits)))
    return SearchRequest(
        ids,
        size,
        options.source,
        timeout=options.timeout,
        allow_partial=options.allow_partial,
        parameters=options.parameters,
    )


def _fetched(meta: IndexMeta, options: SearchOptions) -> Sequence[str] | None:
    """The fields to fetch: those that are asked for, and the texts in which what matched is
    looked for."""
    if options.source is None:
        return None
    explained = meta.text_fields if options.explain else ()
    marked = options.marks.fields if options.marks is not None else ()
    return tuple(dict.fromkeys((*options.source, *explained, *marked)))


def _returned(source: Mapping[str, Any], options: SearchOptions) -> Mapping[str, Any]:
    """What of the fetched fields was asked for."""
    if options.source is None or not (options.explain or options.marks):
        return source
    names = {part for name in options.source for part in (name, name.partition(".")[0])}
    return {n: v for n, v in source.items() if any(fnmatchcase(n, name) for name in names)}


def _request(
    query: TermsQuery | MatchQuery | SumQuery | TextQuery | HybridQuery,
    meta: IndexMeta,
    options: SearchOptions,
    sparse: str | None = None,
) -> SearchRequest:
    """A page of what a query finds.

    Args:
        sparse: the mode that its weighted terms are of, where it has any.
    """
    two_phase = None if sparse is None else options.pruning(sparse).two_phase
    if meta.feature_naming == TOKEN_IDS and options.query_pruning is None:
        two_phase = None  # SEISMIC spares work by itself
    has_words = not isinstance(query, TermsQuery)
    marked = options.explain or options.marks is not None
    fused = options.mode == "hybrid" and options.fusion.method != "sum"
    return SearchRequest(
        query,
        options.k,
        _fetched(meta, options),
        with_vector=marked and sparse is not None,
        highlight=marked and has_words and not isinstance(query, HybridQuery),
        filter=options.filters,
        offset=options.offset,
        after=options.after,
        min_score=None if fused else options.min_score,  # of what is fused
        timeout=options.timeout,
        allow_partial=options.allow_partial,
        dfs=options.dfs and has_words,
        total=options.total,
        two_phase=two_phase,
        shape=options.shape,
        token_pruning=options.token_pruning,
        method_parameters=options.method_parameters,
        body=options.engine_body,
        parameters=options.parameters,
    )


class ResultBuilder:
    """Answers → `Results`.

    Args:
        endpoint: URL that searches are posted to, for `Results.curl`.
        token_of: feature name → token.
        own_tokens: (explained searches) the tokens of the text that was encoded, from the
            stored fields of a document.
        tokens_of: (marked hits) words → tokens of each.
    """

    def __init__(
        self,
        endpoint: str,
        token_of: Callable[[str], str],
        own_tokens: Callable[[Mapping[str, Any]], set[str]],
        tokens_of: TokensOf = lambda words: [() for _ in words],
    ) -> None:
        self._endpoint, self._token_of, self._own_tokens = endpoint, token_of, own_tokens
        self._tokens_of = tokens_of

    def build(
        self,
        plan: Plan,
        responses: Sequence[SearchResponse],
        options: SearchOptions,
        page: Page = Page(),
        fetched: SearchResponse | None = None,
    ) -> Results:
        """The results of a plan from the answers to its requests, in their order.

        Args:
            page: (hybrid) of `fused_page`.
            fetched: (hybrid) the answer to `plan_page`.
        """
        plan = plan.as_sent(responses)
        took = max((response.took_ms for response in responses), default=0.0)
        if len(responses) == 2:
            hits = self._fused(plan, responses, options, page, fetched)
            took += fetched.took_ms if fetched is not None else 0.0
        else:
            hits = [
                self._hit(hit, rank, plan, options)
                for response in responses
                for rank, hit in enumerate(response.hits, options.offset + 1)
            ]
            # an engine that fuses cuts by the scores of the parts
            if plan.mode == "hybrid" and options.fusion.engine and options.min_score is not None:
                hits = [hit for hit in hits if hit.score >= options.min_score]
        single = responses[0] if len(responses) == 1 else None
        total, reason = single.total if single else None, plan.reason
        ended = len(responses) == 2 and not page.whole and options.offset + options.k >= page.fused
        if len(responses) == 2 and options.total:
            total = page.fused if page.whole else None
        if ended or (len(responses) == 2 and options.total and not page.whole):
            depth = max(options.fusion.depth, options.k)
            reason = (
                f"The first {depth:,} hits of each half were fused: {page.fused:,} together; more "
                "may match, and are not counted (depth of the fusion, --fusion-depth)."
            )
        return Results(
            tuple(hits),
            plan.mode,
            plan.sparse.tokens if plan.sparse else {},
            took_ms=took,
            reason=reason,
            weights_from=plan.weights_from,
            used=plan.used,
            total=total,
            partial=next((r.partial for r in (*responses, fetched) if r and r.partial), None),
            depth_ended=ended,
            following=single.following if single else None,
            aggregations=single.more.get("aggregations", {}) if single else {},
            more={n: v for n, v in single.more.items() if n != "aggregations"} if single else {},
            bodies=tuple(r.body for r in responses if r.body is not None),
            endpoint=self._endpoint,
        )

    def _hit(self, hit: EngineHit, rank: int, plan: Plan, options: SearchOptions) -> Hit:
        source, more = _returned(hit.source, options), hit.more
        highlight: Mapping[str, Sequence[str]] = {}
        sort: tuple[Any, ...] = ()
        if more:
            more = dict(more)
            highlight, sort = more.pop("highlight", {}), tuple(more.pop("sort", ()))
        if not options.explain and options.marks is None:
            return Hit(
                hit.id, hit.score, rank, source, (), (), {}, hit.index, highlight, sort, more
            )
        terms = self._terms(hit, plan.sparse)
        scores: dict[str, float] = {}
        if plan.mode == "hybrid" and options.explain and options.fusion.method == "sum":
            sparse = sum(term.share for term in terms)
            # what a float32 sum leaves of it, where BM25 had no part
            rest = hit.score - sparse if hit.matched_words or not terms else 0.0
            scores = {options.fusion.sparse: sparse, "bm25": max(rest, 0.0)}
        if options.marks is not None:
            tokens = frozenset(term.token for term in terms)
            words = hit.matched_words
            highlight = options.marks.highlight(hit.source, words, tokens, self._tokens_of)
        return Hit(
            hit.id,
            hit.score,
            rank,
            source,
            terms if options.explain else (),
            hit.matched_words if options.explain else (),
            scores,
            hit.index,
            highlight,
            sort,
            more,
        )

    def _fused(
        self,
        plan: Plan,
        responses: Sequence[SearchResponse],
        options: SearchOptions,
        page: Page,
        fetched: SearchResponse | None,
    ) -> list[Hit]:
        sparse, match = ({hit.key: hit for hit in response.hits} for response in responses)
        if fetched is not None:  # what was deleted in the meantime is no hit any more
            sources = {hit.key: hit.source for hit in fetched.hits}
            kept = [(key, score) for key, score in page.hits if key in sources]
        else:
            sources = {key: hit.source for half in (match, sparse) for key, hit in half.items()}
            kept = list(page.hits)
        hits = []
        for rank, (key, score) in enumerate(kept, options.offset + 1):
            one, other = sparse.get(key), match.get(key)
            parts = {options.fusion.sparse: one, "bm25": other}
            hits.append(
                Hit(
                    key[1],
                    score,
                    rank,
                    _returned(sources[key], options),
                    self._terms(one, plan.sparse) if one else (),
                    other.matched_words if other else (),
                    {name: hit.score for name, hit in parts.items() if hit is not None},
                    key[0],
                )
            )
        return hits

    def _terms(self, hit: EngineHit, sparse: Sparse | None) -> tuple[Term, ...]:
        if sparse is None or hit.vector is None:
            return ()
        own = self._own_tokens(hit.source)
        terms = []
        for feature, query_weight, stored_weight, share in explain_terms(sparse.query, hit.vector):
            token = self._token_of(feature)
            terms.append(Term(token, query_weight, stored_weight, share, token not in own))
        return tuple(terms)
