"""What a search returns."""

from __future__ import annotations

import html
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, overload

from splade_os.engines import Cursor
from splade_os.errors import SettingsError


@dataclass(frozen=True)
class Term:
    """One term of a query that a hit matched.

    Attributes:
        token: the vocabulary's token.
        query_weight, stored_weight: what was multiplied.
        share: their product; the shares of a hit add up to its score.
        expansion: the document's text does not contain the token: the model added it.
    """

    token: str
    query_weight: float
    stored_weight: float
    share: float
    expansion: bool


@dataclass(frozen=True)
class Hit:
    """A document that was found.

    Attributes:
        id, score: as the engine has them; the score of a hybrid search is the fused one.
        rank: from 1.
        source: the stored fields, without the vector.
        terms: (``explain=True``) what matched, largest share first.
        matched_words: (``explain=True``, bm25) words of the text that matched.
        scores: (hybrid, fused by the client) its score in each half that found it; (``sum``, with
            ``explain=True``) what each half adds to its score.
        index: that holds it; behind an alias ids are only unique within each.
        highlight: field → its texts or parts of them, with marks (``highlight=``).
        sort: (``sort=``) the values that it was sorted by.
        more: what else the engine says of it, by its names, in answer to ``body``: ``fields``,
            ``inner_hits``, ``matched_queries`` ...
    """

    id: str
    score: float
    rank: int
    source: Mapping[str, Any]
    terms: tuple[Term, ...] = ()
    matched_words: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    index: str = ""
    highlight: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sort: tuple[Any, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    def at_rank(self, rank: int) -> Hit:
        """The same hit on another rank."""
        return replace(self, rank=rank)


@dataclass(frozen=True)
class UsedTerms:
    """How much of a query took part in a search.

    Attributes:
        terms: number that took part: those of `Results.query`.
        of: number that the query had before it was pruned.
        finding: the heaviest of them, which alone find documents (two phases); else all.
        window: (two phases) best documents of every shard that are scored with all ``terms``.
        tokens_cut: tokens at the end of the text behind the model's maximum length.
        words_cut: (bm25, hybrid) words at its end that are more than the server takes.
    """

    terms: int = 0
    of: int = 0
    finding: int = 0
    window: int | None = None
    tokens_cut: int = 0
    words_cut: int = 0

    def __str__(self) -> str:
        parts = [f"{self.terms:,} of {self.of:,} terms"] if self.of or not self.words_cut else []
        if self.window is not None:
            parts.append(
                f"the {self.finding:,} heaviest find, all {self.terms:,} score the best "
                f"{self.window:,} of every shard"
            )
        if self.tokens_cut:
            parts.append(
                f"the last {self.tokens_cut:,} tokens of the text are behind the maximum length"
            )
        if self.words_cut:
            parts.append(f"the last {self.words_cut:,} words are more than the server takes")
        return "; ".join(parts)

    @property
    def cut(self) -> bool:
        """Whether anything of the query was left out of the search for documents."""
        return self.finding < self.of or self.tokens_cut > 0 or self.words_cut > 0


@dataclass(frozen=True)
class Results(Sequence[Hit]):
    """Hits, best first, and how they were found.

    Attributes:
        hits: at most ``k``.
        mode: ``idf``, ``encoder``, ``engine``, ``bm25``, ``hybrid`` or ``raw``.
        query: (sparse modes but ``engine``) token → weight, after pruning, heaviest first.
        took_ms: the engine's own time, milliseconds.
        reason: why there are no hits, where no request was sent; what a hybrid search leaves out.
        weights_from: where the weights of the query come from: ``index``, ``model`` ...
        used: how many terms of the query took part, of how many (sparse modes but ``engine``), and
            words (bm25).
        total: number of all hits, where it was asked for (hybrid: and all that match were fused).
        partial: what is lacking, where shards failed or ran out of time and `allow_partial` took
            the hits of the others; ``None`` = nothing.
        depth_ended: (hybrid) the last page of what was fused, and more may match.
        following: (searches with ``after``) where the next page begins; ``None`` = the end.
        aggregations: (``aggs=``) as the engine answers them.
        more: other sections of the engine's answer to ``body``: ``suggest``, ``profile`` ...
        bodies: the request bodies (JSON), where the engine has any: two of a hybrid search
            that the client fuses (not what fetched the stored fields of its hits).
        endpoint: the URL that they were posted to.
    """

    hits: tuple[Hit, ...]
    mode: str
    query: Mapping[str, float]
    took_ms: float = 0.0
    reason: str | None = None
    weights_from: str = ""
    used: UsedTerms = UsedTerms()
    total: int | None = None
    partial: str | None = None
    depth_ended: bool = False
    following: Cursor | None = None
    aggregations: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    bodies: tuple[bytes, ...] = field(default=(), repr=False)
    endpoint: str = field(default="", repr=False)

    @overload
    def __getitem__(self, item: int) -> Hit: ...
    @overload
    def __getitem__(self, item: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, item: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[item]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "mode": self.mode,
            "took_ms": self.took_ms,
            "reason": self.reason,
            "weights_from": self.weights_from,
            "used": asdict(self.used),
            "total": self.total,
            "partial": self.partial,
            "depth_ended": self.depth_ended,
            "query": dict(self.query),
            "aggregations": dict(self.aggregations),
            "more": dict(self.more),
            "hits": self.to_dicts(),
        }

    def to_dicts(self) -> list[dict[str, Any]]:
        """The hits, ready for JSON."""
        return [asdict(hit) for hit in self.hits]

    def to_pandas(self) -> Any:
        """A DataFrame: rank, id, score, and a column for each stored field; ``stored_id`` ... for
        fields of these names."""
        import pandas

        rows = []
        for hit in self.hits:
            row: dict[str, Any] = {"rank": hit.rank, "id": hit.id, "score": hit.score}
            for name, value in hit.source.items():
                while name in row:
                    name = f"stored_{name}"
                row[name] = value
            rows.append(row)
        columns = None if rows else ["rank", "id", "score"]
        return pandas.DataFrame(rows, columns=columns)

    def to_trec(self, query_id: str, tag: str = "splade-os") -> str:
        """Lines of a TREC run file: ``query Q0 document rank score tag``."""
        lines = [f"{query_id} Q0 {h.id} {h.rank} {h.score!r} {tag}\n" for h in self.hits]
        return "".join(lines)

    def curl(self) -> str:
        """The same search as commands for a shell, one per request.

        Raises:
            SettingsError: nothing was sent, or the engine is none that curl can ask.
        """
        if not self.bodies:
            raise SettingsError(self.reason or "SQLite takes no request that curl could send.")
        return "\n".join(curl_command(self.endpoint, body) for body in self.bodies)

    def _repr_html_(self) -> str:
        """A table, in notebooks."""
        rows = []
        for hit in self.hits:
            text = " · ".join(str(value) for value in hit.source.values() if value is not None)
            terms = " ".join(f"{t.token} {t.share:.2f}" for t in hit.terms[:8])
            cells = [str(hit.rank), f"{hit.score:.4g}", hit.id, text[:300]]
            cells += [terms or " ".join(hit.matched_words)]
            rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
        head = "".join(f"<th>{n}</th>" for n in ("rank", "score", "id", "document", "matched"))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        said = self.reason or f"{len(self)} hits by {self.mode}, {self.took_ms:g} ms"
        if self.used.cut:
            said += f" ({self.used})"
        return f"<table><caption>{html.escape(said)}</caption><tr>{head}</tr>{body}</table>"


def curl_command(url: str, body: bytes) -> str:
    """A POST of JSON for a shell."""
    return (
        f"curl -sS -XPOST {shlex.quote(url)} -H 'Content-Type: application/json' "
        f"-d {shlex.quote(body.decode())}"
    )
