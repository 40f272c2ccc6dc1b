"""The narrow waist between splade-os and a cluster: the `Engine` protocol and its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from splade_os.engines.load_state import LoadState
from splade_os.errors import EngineError
from splade_os.identity import ModelIdentity
from splade_os.statistics import Count, TermStatistics
from splade_os.vectors import Weights

VECTOR_FIELD = "splade_os_vector"
"""Field of the vectors in a new index. These three names are none that documents have; what an
index calls its own stands in its `IndexMeta`."""
CONTENT_FIELD = "splade_os_content"
"""Field into which the text fields are copied, analysed for BM25."""
HASH_FIELD = "splade_os_hash"
"""Field with the hash of what was encoded, by which an ingest knows unchanged documents."""
_BEFORE_NAMES = {"content_field": "content", "hash_field": "splade_hash"}
"""What every index had before its record named them."""


Identity = frozenset[tuple[str, str]]
"""Name and UUID of every index that a name stands for."""


StatisticsVersion = frozenset[tuple[str, int, int]]
"""Id, sequence number and primary term of every record of statistics."""


class IndexMeta(BaseModel):
    """What an index remembers about itself, in its mapping's ``_meta.splade_os``.

    Attributes:
        format: version of this record.
        splade_os: version of the package that created the index.
        field: name of the field that holds the vectors.
        content_field: name of the field into which the text fields are copied, for BM25.
        hash_field: name of the field with the mark of what was written.
        field_type: how vectors are stored, e.g. ``rank_features``.
        feature_naming: rule from token to feature name (`splade_os.vocabulary`).
        text_fields: fields that were encoded, in order.
        bm25: fields that BM25 searches, with their weights (``title^3``); none = ``content_field``.
        impact_max: (field type ``impact``) the weight that is stored as 255
            (`splade_os.engines.fields.impacts`).
        model: what encoded them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    splade_os: str
    field: str = VECTOR_FIELD
    content_field: str = CONTENT_FIELD
    hash_field: str = HASH_FIELD
    field_type: str = "rank_features"
    feature_naming: str
    text_fields: tuple[str, ...] = ("title", "text")
    bm25: tuple[str, ...] = ()
    impact_max: float | None = Field(None, gt=0, allow_inf_nan=False)
    model: ModelIdentity

    @classmethod
    def read(cls, record: Any) -> IndexMeta:
        """The record of an index, as it is stored.

        Raises:
            ValidationError: it is damaged, or of a newer version.
        """
        if isinstance(record, Mapping):
            record = {**_BEFORE_NAMES, **record}
        return cls.model_validate(record)

    def record(self) -> dict[str, Any]:
        """The record as it is stored: what was added to it later only where it says something."""
        silent = {name for name in ("bm25", "impact_max") if not getattr(self, name)}
        return self.model_dump(mode="json", exclude=silent)

    @property
    def own_fields(self) -> frozenset[str]:
        """The fields that splade-os writes itself: no document may bring one of them."""
        return frozenset((self.field, self.content_field, self.hash_field))


@dataclass(frozen=True)
class IndexLayout:
    """What an index is made with.

    Attributes:
        settings: by name, without ``index.`` before it.
        mapping: ``properties``, ``dynamic`` ...; ``None`` = that of splade-os.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    mapping: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class EngineInfo:
    """What answers at the URL: ``opensearch 3.8.0``."""

    distribution: str
    version: str


@dataclass(frozen=True)
class IndexListing:
    """An index of ours: its name, its aliases, what it remembers (``None``: that is damaged)."""

    name: str
    aliases: tuple[str, ...]
    meta: IndexMeta | None


@dataclass(frozen=True)
class IndexStats:
    """Size of an index: searchable documents and bytes on disk."""

    documents: int
    bytes: int


_LARGEST = float(np.finfo(np.float32).max)
_DONE = frozenset({"created", "updated", "deleted"})


@dataclass(frozen=True)
class Outcome:
    """What became of one action of a bulk request.

    Attributes:
        id: document id.
        status: HTTP status of the item.
        result: ``created``, ``updated``, ``deleted`` ... or ``None`` if it failed.
        reason: the engine's reason if it failed.
    """

    id: str
    status: int
    result: str | None = None
    reason: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it was done. A status of success is not enough: what an ingest pipeline drops
        is answered with 200 and ``noop``."""
        return self.status < 300 and self.result in _DONE


@dataclass(frozen=True)
class StoredDocument:
    """A document as it was last written.

    Attributes:
        source: its fields, those that were asked for.
        version: sequence number and primary term: a write that names them (``if_seq_no``,
            ``if_primary_term``) is refused where the document has changed since.
    """

    source: Mapping[str, Any]
    version: tuple[int, int]


@dataclass(frozen=True)
class TermsQuery:
    """A weighted term query: score = Σ weight × stored weight of the feature.

    Attributes:
        features: feature names, at least one, each once.
        weights: float32 of the same length, finite, > 0.
    """

    features: Sequence[str]
    weights: Weights


@dataclass(frozen=True)
class MatchQuery:
    """A BM25 query over the text fields.

    Attributes:
        text: plain words.
        boost: by which the score is multiplied.
        cut: words at the end of the text that are left out already: more than the server takes.
    """

    text: str
    boost: float = 1.0
    cut: int = 0


@dataclass(frozen=True)
class SumQuery:
    """Both in one query: score = score of ``terms`` + score of ``match``, exactly. A document that
    only one of them finds is found."""

    terms: TermsQuery
    match: MatchQuery


@dataclass(frozen=True)
class TextQuery:
    """Plain text that the engine encodes itself (OpenSearch with a deployed query encoder).

    Attributes:
        text: at least one character.
        pipeline: the search pipeline that names the encoder (`Engine.query_pipeline`).
    """

    text: str
    pipeline: str


@dataclass(frozen=True)
class HybridQuery:
    """Both, fused by the engine (OpenSearch with the neural-search plugin).

    Attributes:
        terms, match: its two parts, in this order.
        pipeline: the search pipeline that fuses their scores, as a request body holds it.
        depth: hits of each part, of every shard, that are fused.
    """

    terms: TermsQuery
    match: MatchQuery
    pipeline: Mapping[str, Any]
    depth: int = 100


@dataclass(frozen=True)
class IdsQuery:
    """Documents by id, in any order, those that a search can see; all score the same."""

    ids: Sequence[str]


@dataclass(frozen=True)
class TwoPhase:
    """Score with the heavy terms first, with all of them only what came out on top.

    Attributes:
        first: number of heavy terms in the query proper; below 1 the share of the heaviest
            weight that a heavy term has at least.
        window: best documents per shard that are scored with all terms, at least ``k``.
    """

    first: float = 10
    window: int = 50

    def heavy(self, weights: Weights) -> int:
        """How many of the terms are heavy."""
        if self.first >= 1:
            return int(self.first)
        return int((weights >= weights.max() * np.float32(self.first)).sum())


@dataclass(frozen=True)
class Cursor:
    """Where a page ended; an empty one asks for the first page of a stable view.

    Attributes:
        pit: id of the point in time.
        after: sort values of the last hit.
    """

    pit: str = ""
    after: tuple[Any, ...] = ()


@dataclass(frozen=True)
class SearchRequest:
    """One search.

    Attributes:
        query: what to look for.
        k: number of hits, >= 1.
        source: fields to return; ``None`` = all but the vector, ``()`` = none.
        with_vector: also return the stored vector of each hit.
        highlight: (match queries) also return the words that matched.
        filter: clauses of the engine's query language that every hit fulfils; no score.
        offset: hits to leave out at the beginning.
        after: instead of an offset: the page after that one. It is not rescored.
        min_score: leave out hits below it.
        timeout: seconds that the search may take.
        total: count all hits: ``True``, ``False``, or up to a number.
        two_phase: how to spare work; ``None`` scores all documents with all terms.
        shape: spelling of the query, of those that the field has; ``None`` = the default.
        token_pruning: (Elasticsearch's ``sparse_vector`` query) let it drop frequent tokens.
        method_parameters: (OpenSearch's ``sparse_vector`` field) of SEISMIC.
        allow_partial: take the hits that there are where shards fail, are on no node, or run out of
            time; `SearchResponse.partial` says so.
        dfs: count words over all shards before BM25 scores them
            (``search_type=dfs_query_then_fetch``), so that scores do not depend on the shards.
        body: sections of the engine's own beside the query (``sort``, ``aggs``, ``highlight`` ...),
            that none of the others says; ``sort`` as a list.
        parameters: of the URL: ``routing``, ``preference``.
        internal: a question of the tool's own: not through the search pipeline that the index has
            by default, nor through the filter of an alias.
    """

    query: TermsQuery | MatchQuery | SumQuery | TextQuery | HybridQuery | IdsQuery
    k: int = 10
    source: Sequence[str] | None = None
    with_vector: bool = False
    highlight: bool = False
    filter: Sequence[Mapping[str, Any]] = ()
    offset: int = 0
    after: Cursor | None = None
    min_score: float | None = None
    timeout: float | None = None
    total: bool | int = False
    two_phase: TwoPhase | None = None
    shape: str | None = None
    token_pruning: bool = False
    method_parameters: Mapping[str, Any] | None = None
    allow_partial: bool = False
    dfs: bool = False
    body: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False

    @property
    def terms(self) -> TermsQuery | None:
        """The weighted terms of the query, where it has any."""
        query = self.query
        found = query.terms if isinstance(query, HybridQuery | SumQuery) else query
        return found if isinstance(found, TermsQuery) else None

    @property
    def match(self) -> MatchQuery | None:
        """The words for BM25 of the query, where it has any."""
        query = self.query
        found = query.match if isinstance(query, HybridQuery | SumQuery) else query
        return found if isinstance(found, MatchQuery) else None

    @property
    def phases(self) -> TwoPhase | None:
        """The two phases, where they are for this page.

        They are for the first page alone: what stands behind the window has only been ranked by
        the heavy terms, so that later pages would repeat hits and lose others. And what is below
        ``min_score`` can only be told, and counted, by the engine that has scored all terms.
        Engines refuse them beside another order or groups, and aggregations are of all that match.
        """
        plan = self.two_phase
        if plan is None or self.after is not None or self.min_score is not None:
            return None
        if not self.body.keys().isdisjoint(("sort", "collapse", "aggs")):
            return None
        return None if self.offset or self.k > plan.window else plan


@dataclass(frozen=True)
class EngineHit:
    """One hit as the engine returns it.

    Attributes:
        index: that holds it: behind an alias several do, and their ids are their own.
        vector: feature name → stored weight.
        more: what else the engine says of it, by its names: ``highlight``, ``sort``, ``fields`` ...
    """

    id: str
    score: float
    source: Mapping[str, Any]
    vector: Mapping[str, float] | None = None
    matched_words: tuple[str, ...] = ()
    index: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.score > _LARGEST:  # an engine's float32 sum runs over; JSON has no infinity
            object.__setattr__(self, "score", _LARGEST)

    @property
    def key(self) -> tuple[str, str]:
        """What no other document has: index and id."""
        return self.index, self.id


@dataclass(frozen=True)
class SearchResponse:
    """Hits, best first.

    Attributes:
        hits: at most ``k``.
        took_ms: the engine's own time in milliseconds.
        body: the request body as sent (JSON), where the engine has one.
        total: number of all hits, where it was asked for.
        following: where the next page begins; ``None`` after the last one, or where no
            cursor was asked for.
        index: the index behind the name that was searched, where there are hits.
        terms: of a weighted term query that took part, the heaviest; ``None`` = all.
        words_cut: words at the end of a BM25 query that took no part.
        partial: what is lacking, where that was allowed; ``None`` = nothing.
        window: best documents per shard that a second phase scored; ``None`` = there was none.
        more: sections of the answer to those of `SearchRequest.body`: ``aggregations`` ...
    """

    hits: Sequence[EngineHit]
    took_ms: float
    body: bytes | None = field(default=None, repr=False)
    total: int | None = None
    following: Cursor | None = None
    index: str | None = None
    terms: int | None = None
    words_cut: int = 0
    partial: str | None = None
    window: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QueryPipeline:
    """What encodes the queries of an index in the engine.

    Attributes:
        name: of the search pipeline.
        model_id: of the query encoder that it names now.
        content_hash: of the model whose documents the encoder is for; ``None`` where somebody
            else deployed it.
    """

    name: str
    model_id: str
    content_hash: str | None = None


class Engine(Protocol):
    """A place that stores documents with sparse vectors and finds them again.

    Every method raises `EngineUnavailableError`, `AuthenticationError` or `EngineError`;
    those that take an index raise `IndexNotFoundError` where it is missing.
    """

    url: str
    own_body: bool
    """Whether it takes sections of a request body, and several indices at once
    (`SearchRequest.body`, ``parameters``)."""

    def info(self) -> EngineInfo:
        """Distribution and version."""

    def ping(self) -> bool:
        """Whether it answers now: asked anew, once, for a few seconds.

        Raises:
            AuthenticationError: it answers, and takes no credentials of ours.
        """

    def create_index(
        self,
        index: str,
        meta: IndexMeta,
        settings: Mapping[str, Any] | None = None,
        mapping: Mapping[str, Any] | None = None,
    ) -> None:
        """Create an empty index; `IndexExistsError` if there is one.

        Args:
            settings: of the index, over those of splade-os.
            mapping: one of the user's own, which gets the fields of `adopt`; default the one of
                splade-os.
        """

    def layout(self, index: str) -> IndexLayout:
        """Mapping and settings of one index, for another one like it: what splade-os has added,
        and what is of that very index, left out."""

    def delete_index(self, index: str) -> None:
        """Delete an index and its statistics."""

    def index_meta(self, index: str) -> IndexMeta:
        """What the index remembers; `IndexFormatError` if it is none of ours."""

    def stats(self, index: str) -> IndexStats:
        """Documents and bytes, as of the last refresh."""

    def bulk(
        self, index: str, body: bytes, *, attempts: int = 5, guard: str | None = None
    ) -> list[Outcome]:
        """Send NDJSON actions (``index``, ``create``, ``update`` with ``doc``, or ``delete``), with
        ``_id``, and ``if_seq_no`` and ``if_primary_term`` where they shall be refused (409) if the
        document has changed (`StoredDocument.version`).

        Args:
            attempts: how often the whole request is sent when it is put off or lost.
            guard: of the index (`guard`): the request is refused where the name stands for
                another one now; without it, an engine may make a missing index anew.

        Returns:
            Outcomes, in the order of the actions.
        """

    def refresh(self, index: str) -> None:
        """Make everything written so far searchable."""

    def active_copies(self, index: str) -> Sequence[int]:
        """Of each shard of an index, how many copies can answer; empty where the engine has no
        shards, or shows none (a serverless service)."""

    def merge(self, index: str, segments: int = 1) -> None:
        """Rewrite what is stored of an index in as few parts: a search of it costs less, and what
        was deleted or overwritten takes up no room any more. It ends when that is done.

        Raises:
            EngineError: the engine merges by itself (a serverless service).
        """

    def count(self, index: str) -> int:
        """Number of searchable documents."""

    def field_types(self) -> Sequence[str]:
        """Ways of storing vectors that it has (`IndexMeta.field_type`), the default first."""

    def feature_naming(self, field_type: str) -> str:
        """The rule from token to feature name that a way of storing vectors needs."""

    def search(self, index: str, request: SearchRequest) -> SearchResponse:
        """Run one search."""

    def query_pipeline(self, index: str) -> QueryPipeline:
        """What encodes queries of the index in the engine; `DeploymentError` if nothing does."""

    def documents(
        self, index: str, ids: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, Mapping[str, Any]]:
        """Stored documents by id, those that exist, as last written (refreshed or not).

        Args:
            fields: to return; ``None`` = all, ``()`` = none.
        """

    def stored(
        self, index: str, ids: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, StoredDocument]:
        """`documents` with their versions."""

    def scan(
        self,
        index: str,
        fields: Sequence[str] | None = None,
        *,
        page: int = 1000,
        filter: Sequence[Mapping[str, Any]] = (),
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Id and stored fields of every document that passes the filter, as of the last refresh."""

    def settings(self, index: str) -> Mapping[str, Any]:
        """Settings of one index that were set explicitly, e.g. ``refresh_interval``."""

    def update_settings(self, index: str, settings: Mapping[str, Any]) -> None:
        """Change settings of an index; ``None`` = back to the default."""

    def update_meta(self, index: str, meta: IndexMeta) -> None:
        """Let an index that holds no documents remember something else, of the same fields of its
        own; text fields that it lacks are mapped."""

    def properties(self, index: str) -> Mapping[str, str]:
        """Path → type of every field that the index maps."""

    def adopt(self, index: str, meta: IndexMeta) -> None:
        """Give an index that somebody else made the fields and the record of ours, in place."""

    def load_state(self, index: str) -> LoadState | None:
        """What the index says of the loads into it; ``None`` if it says nothing (it was made
        before indices did so)."""

    def save_load_state(self, index: str, state: LoadState) -> None:
        """Let the index say that of the loads into it."""

    def check_writable(self, index: str, meta: IndexMeta) -> None:
        """Whether a name takes documents that can be read back as they were written.

        Raises:
            IndexFormatError: it does not, and why.
        """

    def indices(self, pattern: str) -> list[str]:
        """Names of the indices that match ``products-*``, sorted."""

    def overview(self) -> list[IndexListing]:
        """All indices that can be searched here: made or adopted; those of others are left out."""

    def alias_targets(self, alias: str) -> list[str]:
        """The indices that an alias stands for; none if there is no such alias."""

    def describe(self, index: str) -> tuple[IndexMeta, Identity]:
        """`index_meta` and `identity` at once; the identity is empty where the user may not ask."""

    def identity(self, index: str) -> Identity:
        """Name and identity of every index that a name stands for: an index that was deleted and
        made anew has another one.

        Raises:
            IndexNotFoundError: it stands for none.
        """

    def guard(self, index: str) -> str | None:
        """What lets `bulk` write into this very index alone, even when it is deleted and made anew:
        on a cluster an alias, which `remove_alias` takes away; ``None`` where the user may not
        make one, or where it would change what is written."""

    def remove_alias(self, alias: str, index: str) -> None:
        """Let an alias stand for an index no longer."""

    def point_alias(self, alias: str, index: str) -> None:
        """Let an alias stand for one index alone, in one step that no search can notice."""

    def search_many(
        self, index: str, requests: Sequence[SearchRequest]
    ) -> list[SearchResponse | EngineError]:
        """Run several in one request; what failed is in its place in the list."""

    def render(self, index: str, request: SearchRequest) -> bytes | None:
        """The body that `search` would send, or ``None`` where the engine has none."""

    def close_cursor(self, cursor: Cursor) -> None:
        """Release what a cursor holds, before its last page was read."""

    def counts(self, index: str) -> list[Count]:
        """The records of the term statistics of one index, of every run that wrote into it."""

    def save_count(self, index: str, count: Count) -> None:
        """Store the record of one run, in place of what it stored before."""

    def save_base(self, index: str, base: Count) -> None:
        """Store a record of all documents, and remove those of the runs that it covers."""

    def save_statistics(self, index: str, statistics: TermStatistics) -> None:
        """Store statistics of all documents of an index, in place of all records."""

    def load_statistics(
        self, index: str, identity: Identity = frozenset()
    ) -> TermStatistics | None:
        """The statistics of an index, or of all indices of an alias together; ``None`` if no
        document is counted, or if what is stored cannot be true (df < 0, df > N).

        Args:
            identity: of the index, where it is known already: one question less.
        """

    def statistics_version(self, index: str, identity: Identity = frozenset()) -> StatisticsVersion:
        """What changes with every change of the statistics of an index, and is cheap to ask for.

        Args:
            identity: as of `load_statistics`.
        """

    def close(self) -> None:
        """Release connections."""
