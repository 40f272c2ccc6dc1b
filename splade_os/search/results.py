"""What a search returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, overload


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
        id, score: as the engine has them.
        rank: from 1.
        source: the stored fields, without the vector.
        terms: (``explain=True``) what matched, largest share first.
        matched_words: (``explain=True``, bm25) words of the text that matched.
    """

    id: str
    score: float
    rank: int
    source: Mapping[str, Any]
    terms: tuple[Term, ...] = ()
    matched_words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Results(Sequence[Hit]):
    """Hits, best first, and how they were found.

    Attributes:
        hits: at most ``k``.
        mode: ``idf``, ``encoder`` or ``bm25``.
        query: (sparse modes) token → weight, as sent, heaviest first.
        took_ms: the engine's own time, milliseconds.
        reason: why there are no hits, where no request was sent.
        body: the request body (JSON), where the engine has one.
    """

    hits: tuple[Hit, ...]
    mode: str
    query: Mapping[str, float]
    took_ms: float = 0.0
    reason: str | None = None
    body: bytes | None = None

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
            "query": dict(self.query),
            "hits": [asdict(hit) for hit in self.hits],
        }
