"""What a search can be asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypedDict
from urllib.parse import urlencode

import numpy as np

from splade_os.encoding.query import QUERY_TF, QueryTf
from splade_os.engines import Cursor, TwoPhase
from splade_os.errors import SettingsError
from splade_os.search.engine_body import (
    OWN_SECTIONS,
    Highlight,
    Sort,
    check_json,
    engine_body,
)
from splade_os.search.marks import Marks
from splade_os.vectors import Ids, Weights

Mode = Literal["idf", "encoder", "engine", "bm25", "hybrid", "raw"]
DEFAULT_MODE: Mode = "hybrid"
"""Of a search that names none."""
MODES: tuple[Mode, ...] = ("idf", "encoder", "engine", "bm25", "hybrid", "raw")
MAX_K = 10_000
"""Hits of one page: ``index.max_result_window`` of an index that does not say otherwise."""


@dataclass(frozen=True)
class QueryPruning:
    """How a sparse query spares work. ``QueryPruning()`` spares none: all documents are scored
    with all terms.

    Attributes:
        top: only that many terms, the heaviest; ``None`` = all.
        max_ratio: only terms of at least this share of the heaviest's weight, 0 to 1.
        two_phase: find with the heavy terms, then score what came out on top with all terms.
            The scores of the hits stay exact; a hit with light terms alone is missed.

    Raises:
        SettingsError: a value that makes no sense.
    """

    top: int | None = None
    max_ratio: float = 0.0
    two_phase: TwoPhase | None = None

    def __post_init__(self) -> None:
        if self.top is not None and self.top < 1:
            raise SettingsError(f"A query of the {self.top} heaviest terms finds nothing.")
        if not 0 <= self.max_ratio <= 1:
            raise SettingsError(f"max_ratio is {self.max_ratio}; it must be 0 to 1.")
        plan = self.two_phase
        if plan is not None and (
            plan.first <= 0 or plan.window < 1 or (plan.first > 1 and plan.first % 1)
        ):
            raise SettingsError(
                f"Two-phase search with the {plan.first:g} heaviest terms in a window of "
                f"{plan.window}: it needs a number of terms, or a share below 1 of the heaviest "
                "weight, and a window of at least 1."
            )

    def apply(self, ids: Ids, weights: Weights) -> tuple[Ids, Weights]:
        """The terms that are left of those, heaviest first."""
        order = (-weights).argsort(kind="stable")[: self.top]
        ids, weights = ids[order], weights[order]
        if self.max_ratio and len(weights):
            kept = weights >= weights[0] * np.float32(self.max_ratio)
            return ids[kept], weights[kept]
        return ids, weights


EXACT = QueryPruning()
DEFAULT_PRUNING: Mapping[str, QueryPruning] = {
    # chosen by measurement: docs/search.md, "What a query costs"
    "encoder": QueryPruning(top=64, two_phase=TwoPhase(first=10, window=50)),
}
"""By mode; a mode that is not here is exact."""


FusionMethod = Literal["sum", "rrf", "min_max"]
FUSION_METHODS: tuple[FusionMethod, ...] = ("sum", "rrf", "min_max")


@dataclass(frozen=True)
class Fusion:
    """How a hybrid search makes one ranking of two.

    Attributes:
        method: ``sum``: one query with both parts, score = Σ weight × score of the part, with
            everything that one query can do (filters, pages, cursors, counts); ``rrf``: reciprocal
            rank fusion of two rankings (Cormack et al., SIGIR 2009), score = Σ weight /
            (rank_constant + rank); ``min_max``: scores scaled to 0..1 within each ranking, then
            their weighted mean.
        weights: of the sparse and of the BM25 part; default 1 and 1.
        rank_constant: of RRF.
        depth: hits of each list that are fused, 1 to 10,000; on the first page at least ``k``. All
            pages fuse the same lists, so that together they are one ranking: of at most twice
            ``depth`` hits.
        sparse: mode of the sparse half, ``idf`` or ``encoder``.
        engine: let OpenSearch do it, with its ``hybrid`` query and a search pipeline (needs the
            plugin neural-search); else the client does, on any engine.

    Raises:
        SettingsError: a value that makes no sense.
    """

    method: FusionMethod = "sum"
    weights: tuple[float, float] = (1.0, 1.0)
    rank_constant: int = 60
    depth: int = 100
    sparse: Literal["idf", "encoder"] = "idf"
    engine: bool = False

    def __post_init__(self) -> None:
        if self.method not in FUSION_METHODS:
            raise SettingsError(
                f"There is no fusion {self.method!r}.", hint=f"One of {', '.join(FUSION_METHODS)}."
            )
        finite = all(map(math.isfinite, self.weights))
        if not finite or len(self.weights) != 2 or min(self.weights) < 0 or sum(self.weights) <= 0:
            raise SettingsError(
                f"The weights of a fusion are {self.weights}.",
                hint="Two numbers, none negative, not both 0: of the sparse and the BM25 list.",
            )
        if self.rank_constant < 1 or self.depth < 1:
            raise SettingsError("rank_constant and depth of a fusion must be at least 1.")
        if self.depth > MAX_K:
            raise SettingsError(f"depth is {self.depth:,}; an engine gives at most {MAX_K:,}.")
        if self.sparse not in ("idf", "encoder"):
            raise SettingsError(f"The sparse half is 'idf' or 'encoder', not {self.sparse!r}.")
        if self.engine and self.method == "sum":
            raise SettingsError(
                "A sum is one query, which every engine runs: there is nothing to fuse.",
                hint="Leave engine (--fuse-in-engine) out, or fuse by rrf or min_max.",
            )


class SearchKeywords(TypedDict, total=False):
    """Keywords of every search; what they mean stands at `SearchOptions`."""

    source: Sequence[str] | None
    filter: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
    offset: int
    after: Cursor | None
    min_score: float | None
    timeout: float | None
    allow_partial: bool
    dfs: bool
    total: bool | int
    explain: bool
    query_pruning: QueryPruning | None
    fusion: Fusion
    query_tf: QueryTf
    shape: str | None
    token_pruning: bool
    method_parameters: Mapping[str, Any] | None
    body: Mapping[str, Any] | None
    sort: Sort | None
    aggs: Mapping[str, Any] | None
    highlight: Highlight | None
    collapse: Mapping[str, Any] | None
    post_filter: Mapping[str, Any] | None
    routing: str | None
    preference: str | None


def check_scan(options: SearchKeywords) -> None:
    """Whether a scan, which gives hits alone, can do what is asked.

    Raises:
        SettingsError: it cannot.
    """
    asked = {*options, *(options.get("body") or {})} & {"aggs", "aggregations", "suggest"}
    if asked:
        raise SettingsError(
            f"A scan gives hits alone, and no {', '.join(sorted(asked))}.",
            hint="Ask for them with a search: client.search(text, 1, aggs=...).",
        )


@dataclass(frozen=True)
class SearchOptions:
    """Everything about a search but its text.

    Attributes:
        k: number of hits, 1 to 10,000.
        mode: ``hybrid`` (BM25 and a sparse half; the default), ``idf`` (a table; no model runs),
            ``encoder`` (the full model), ``engine`` (a query
            encoder deployed in the cluster), ``bm25`` or
            ``raw`` (weights instead of a text).
        source: fields to return; ``None`` = all but the vector, ``()`` = none.
        filter: one or several clauses of the engine's query language that every hit fulfils;
            they add nothing to the score. ``None`` = no filter.
        offset: hits to leave out at the beginning; ``offset + k`` is at most 10,000.
        after: the page after this cursor (`Results.following`); ``Cursor()`` = the first one.
            Every page is of the same view of the index, and exact.
        min_score: leave out hits with a lower score.
        timeout: seconds that the search may take; over it, an `EngineTimeoutError`.
        allow_partial: where shards fail, are on no node, or run out of ``timeout``, return the hits
            of the others (`Results.partial` says what is lacking) instead of an error.
        dfs: (``bm25``, ``hybrid``) score by the words of all shards, not of each by itself
            (``search_type=dfs_query_then_fetch``): a round trip more, and scores that do not
            depend on the number of shards.
        total: count all hits: ``True``, ``False``, or up to a number. Costs time. A fused ranking
            has a total only where all that matches was fused (`Results.reason` says so).
        explain: which terms matched, and what each adds to the score.
        query_pruning: ``None`` = the mode's default (`DEFAULT_PRUNING`); ``EXACT`` = none.
        fusion: of a hybrid search.
        query_tf: (``idf``) what a token that occurs tf times in the query counts: ``log``, that
            is 1 + ln tf; ``none``, once; ``raw``, tf times.
        shape: spelling of the query, of those that the index's field has; ``None`` = default.
        token_pruning: let Elasticsearch's ``sparse_vector`` query drop frequent tokens.
        method_parameters: of SEISMIC (OpenSearch's ``sparse_vector``): ``top_n``,
            ``heap_factor`` ...
        body: any other sections of the engine's request body: ``fields``, ``script_fields``,
            ``suggest``, ``runtime_mappings`` ...; what the engine answers to them stands in
            `Results.more` and `Hit.more`. The query, and what keywords here say, have no place in
            it.
        sort: another order than that of the scores: ``"price:desc"``, or as in a body. All hits
            have their scores all the same.
        aggs: aggregations, as in a body: `Results.aggregations`.
        highlight: names of fields, ``True`` for the text fields, or `Marks`: what matched is
            marked in their stored text, words of BM25 and tokens of a sparse query
            (`Hit.highlight`). A ``highlight`` section of a body is for the engine's own
            highlighter, which knows words alone; in the sparse modes the client marks what it
            asks for.
        collapse: one hit for each value of a field, as in a body.
        post_filter: a clause that hits fulfil and aggregations need not.
        routing, preference: which shards and copies are asked.

        These seven and ``body`` are for searches of one request: a ranking that is fused of two
        (``rrf``, ``min_max``) takes ``routing`` and ``preference`` alone.

    Raises:
        SettingsError: a value that makes no sense, or two that exclude each other.
    """

    k: int = 10
    mode: Mode = DEFAULT_MODE
    source: Sequence[str] | None = None
    filter: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = ()
    offset: int = 0
    after: Cursor | None = None
    min_score: float | None = None
    timeout: float | None = None
    allow_partial: bool = False
    dfs: bool = False
    total: bool | int = False
    explain: bool = False
    query_pruning: QueryPruning | None = None
    fusion: Fusion = Fusion()
    query_tf: QueryTf = "log"
    shape: str | None = None
    token_pruning: bool = False
    method_parameters: Mapping[str, Any] | None = None
    body: Mapping[str, Any] | None = None
    sort: Sort | None = None
    aggs: Mapping[str, Any] | None = None
    highlight: Highlight | None = None
    collapse: Mapping[str, Any] | None = None
    post_filter: Mapping[str, Any] | None = None
    routing: str | None = None
    preference: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise SettingsError(
                f"There is no mode {self.mode!r}.", hint=f"One of {', '.join(MODES)}."
            )
        if not 1 <= self.k <= MAX_K:
            raise SettingsError(f"k is {self.k}; it must be 1 to {MAX_K:,}.")
        if self.offset < 0 or self.offset + self.k > MAX_K:
            raise SettingsError(
                f"offset + k is {self.offset + self.k:,}; an engine gives at most {MAX_K:,}.",
                hint="Page with after=results.following, or take scan(), to go deeper.",
            )
        if self.query_tf not in QUERY_TF:
            raise SettingsError(
                f"There is no query term frequency {self.query_tf!r}.",
                hint=f"One of {', '.join(QUERY_TF)}.",
            )
        fused = self.mode == "hybrid" and self.fusion.method != "sum"
        if fused and self.offset and self.k > self.fusion.depth:
            raise SettingsError(
                f"A page of {self.k:,} hits at offset {self.offset:,} needs more than the "
                f"{self.fusion.depth:,} hits of each half that are fused.",
                hint=f"Fuse more on every page: fusion=Fusion(depth={self.offset + self.k}), "
                "--fusion-depth.",
            )
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise SettingsError(f"min_score is {self.min_score}; it must be a finite number.")
        if self.timeout is not None and self.timeout <= 0:
            raise SettingsError(f"timeout is {self.timeout} s; it must be more than 0.")
        if self.after is not None and (self.offset or fused):
            raise SettingsError(
                "A page after a cursor takes no offset, and a fused ranking has no cursor.",
                hint="Leave after= out, or the other; a sum (Fusion('sum')) has one.",
            )
        if self.mode == "engine" and (self.explain or self.query_pruning is not None):
            raise SettingsError(
                "In the mode engine the cluster alone knows the terms of a query: they cannot be "
                "explained or pruned here.",
                hint="Mode idf can. (Two phases in the cluster: splade-os deploy --two-phase.)",
            )
        if isinstance(self.source, str):
            raise SettingsError(f"source is a list of fields, like [{self.source!r}].")
        self._check_filter()
        asked = [name for name in ("body", *OWN_SECTIONS) if getattr(self, name) is not None]
        if asked:
            self._check_own(asked, fused)

    @property
    def in_url(self) -> str:
        """What the URL of the search says beside the body, as `curl` needs it: ``?dfs...``."""
        parameters = self.parameters
        if self.allow_partial:
            parameters["allow_partial_search_results"] = "true"
        if self.dfs:
            parameters["search_type"] = "dfs_query_then_fetch"
        return f"?{urlencode(parameters)}" if parameters else ""

    def _check_filter(self) -> None:
        if self.filter:
            if not all(isinstance(clause, Mapping) for clause in self.filters):
                raise SettingsError(
                    f"filter is {self.filter!r}.",
                    hint='It is a clause, or several: {"term": {"lang": "en"}}.',
                )
            check_json(self.filters, "filter")
        for name in ("routing", "preference"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise SettingsError(f"{name} is {value!r}; it is a text.")

    def _check_own(self, asked: Sequence[str], fused: bool) -> None:
        own, marks = self.engine_body, self.marks
        if fused:
            raise SettingsError(
                f"A ranking that is fused of two ({self.fusion.method}) has no {', '.join(asked)}: "
                "each half has hits, scores and facets of its own.",
                hint="Take the sum, which is one request: Fusion('sum'), --fusion sum.",
            )
        if self.after is not None and "collapse" in own:
            raise SettingsError(
                "Groups (collapse) have no pages after a cursor.", hint="Page with offset=."
            )
        if marks is not None and self.mode == "engine":
            raise SettingsError(
                "In the mode engine the cluster alone knows what matched: it cannot be marked.",
                hint="Mode idf can; or give the engine's highlighter a highlight_query.",
            )
        if self.explain and "highlight" in own and self.mode in ("bm25", "hybrid"):
            raise SettingsError(
                "explain and a highlight section both need the engine's highlighter.",
                hint="Name the fields alone, which goes with explain: highlight=['title'].",
            )

    @cached_property
    def engine_body(self) -> Mapping[str, Any]:
        """The sections of a body that go to the engine as they are."""
        sections = {name: getattr(self, name) for name in OWN_SECTIONS}
        if self.body is None and not any(sections.values()):
            return {}
        whole = engine_body(self.body, **sections)
        given = whole.get("highlight")
        if given is not None and (not isinstance(given, Mapping) or self._by_client(given)):
            del whole["highlight"]
        elif given is not None and "highlight_query" not in given:
            # BM25 may search a copy of the text
            whole["highlight"] = {"require_field_match": False, **given}
        return whole

    @cached_property
    def marks(self) -> Marks | None:
        """What the client marks in the hits."""
        given = self.highlight
        if given is None and self.body is not None:
            given = self.body.get("highlight")
        if given is None or given is False:
            return None
        if isinstance(given, Marks):
            return given
        if isinstance(given, Mapping):
            return Marks.read(given) if self._by_client(given) else None
        if given is True:
            return Marks(())  # of the text fields, which the index knows
        if isinstance(given, str) or not all(isinstance(name, str) and name for name in given):
            raise SettingsError(f"highlight is {given!r}; it is a list of fields.")
        return Marks(tuple(given))

    def _by_client(self, section: Mapping[str, Any]) -> bool:
        """Whether the engine's highlighter would find nothing to mark."""
        return self.mode not in ("bm25", "hybrid") and "highlight_query" not in section

    @property
    def parameters(self) -> dict[str, str]:
        """Of the URL, of the engine's own."""
        given = {"routing": self.routing, "preference": self.preference}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def filters(self) -> tuple[Mapping[str, Any], ...]:
        """The filter as a sequence of clauses."""
        if self.filter is None:
            return ()
        return (self.filter,) if isinstance(self.filter, Mapping) else tuple(self.filter)

    def pruning(self, mode: str) -> QueryPruning:
        """What is asked for, or the default of a mode."""
        if self.query_pruning is not None:
            return self.query_pruning
        return DEFAULT_PRUNING.get(mode, EXACT)
