"""What a URL of the page says: every state has one, which can be shared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from splade_os.search.options import Fusion, Mode, QueryPruning, SearchKeywords

PAGE_MODES: tuple[Mode, ...] = ("bm25", "idf", "hybrid", "encoder")
TITLES = {"bm25": "BM25", "idf": "IDF", "hybrid": "Hybrid", "encoder": "Encoder"}
MOST_WAYS = 4
_SIZES = (5, 10, 20, 50)


@dataclass(frozen=True)
class Way:
    """One column: a mode, and the index that it searches."""

    mode: Mode
    index: str

    @property
    def name(self) -> str:
        """As a URL spells it."""
        return f"{self.mode}@{self.index}"

    @property
    def title(self) -> str:
        """For people."""
        return TITLES[self.mode]


@dataclass(frozen=True)
class PageState:
    """What is looked at.

    Attributes:
        q: the query.
        ways: the columns, at most `MOST_WAYS`.
        k: hits of each.
        prune: only query terms of at least this share of the heaviest's weight (`QueryPruning`).
        bm25: weight of BM25 in the sum of a hybrid search.
        filters: field and value; a value ``10..20`` is a range.
        sort: ``field:asc``, ``field:desc``, or nothing: by score.
        complaints: what the URL says that makes no sense, and was left out.
    """

    q: str = ""
    ways: tuple[Way, ...] = ()
    k: int = 10
    prune: float = 0.0
    bm25: float = 1.0
    filters: tuple[tuple[str, str], ...] = ()
    sort: str = ""
    complaints: tuple[str, ...] = ()

    @classmethod
    def read(cls, pairs: Iterable[tuple[str, str]], indices: Sequence[str]) -> PageState:
        """From a query string; what makes no sense is a complaint, not an error.

        Args:
            pairs: of the query string.
            indices: that are served; the first is the default.
        """
        given: dict[str, list[str]] = {}
        for name, value in pairs:
            given.setdefault(name, []).append(value)
        complaints: list[str] = []

        def number(name: str, default: float, most: float, least: float = 0) -> float:
            text = given.get(name, [""])[-1]
            try:
                value = float(text) if text else default
            except ValueError:
                value = -1.0
            if not least <= value <= most:
                complaints.append(f"{name} is {text[:40]!r}; it is {least:g} to {most:g}.")
                return default
            return value

        ways: list[Way] = []
        for name in ",".join(given.get("ways", [])).split(","):
            mode, _, index = name.partition("@")
            index = index or indices[0]
            if not name:
                continue
            if mode not in PAGE_MODES or index not in indices:
                complaints.append(f"There is no way {name[:80]!r} here.")
            elif Way(mode, index) not in ways:
                ways.append(Way(mode, index))
        if len(ways) > MOST_WAYS:
            left_out = ", ".join(way.name for way in ways[MOST_WAYS:])
            complaints.append(f"{MOST_WAYS} ways fit side by side; left out: {left_out}.")
        filters = []
        for text in given.get("f", []):
            field, colon, value = text.partition(":")
            if field and colon and value:
                filters.append((field, value))
            elif text:
                complaints.append(f"{text[:80]!r} is no filter: it is field:value.")
        k = int(number("k", 10, 50, 1))
        return cls(
            given.get("q", [""])[-1],
            tuple(ways[:MOST_WAYS]) or default_ways(indices),
            k,
            number("prune", 0.0, 1.0),
            number("bm25", 1.0, 10.0),
            tuple(dict.fromkeys(filters)),
            given.get("sort", [""])[-1],
            tuple(complaints),
        )

    def url(self, **changes: Any) -> str:
        """Of the page in this state, or with changes; what is as always is left out."""
        state = replace(self, **changes)
        pairs = [("q", state.q)] if state.q else []
        pairs += [("ways", ",".join(way.name for way in state.ways))]
        pairs += [("k", str(state.k))] if state.k != 10 else []
        pairs += [("prune", f"{state.prune:g}")] if state.prune else []
        pairs += [("bm25", f"{state.bm25:g}")] if state.bm25 != 1 else []
        pairs += [("f", f"{field}:{value}") for field, value in state.filters]
        pairs += [("sort", state.sort)] if state.sort else []
        return "/?" + urlencode(pairs)

    def with_filter(self, field: str, value: str) -> str:
        """The URL with a filter more, or without it where it is on."""
        one = (field, value)
        if one in self.filters:
            return self.url(filters=tuple(each for each in self.filters if each != one))
        return self.url(filters=(*self.filters, one))

    def clauses(self) -> list[dict[str, Any]]:
        """The filters in the engines' query language."""
        found: list[dict[str, Any]] = []
        for field, value in self.filters:
            low, dots, high = value.partition("..")
            if dots:
                bounds = {"gte": low, "lte": high}
                number = {name: _number(text) for name, text in bounds.items() if text}
                found.append({"range": {field: number}})
            else:
                found.append({"term": {field: value}})
        return found

    def keywords(self, mode: Mode) -> SearchKeywords:
        """Of `SearchClient.search`, as they concern a mode."""
        options: SearchKeywords = {}
        if self.filters:
            options["filter"] = self.clauses()
        if self.sort:
            options["sort"] = self.sort
        if self.prune and mode != "bm25":
            options["query_pruning"] = QueryPruning(max_ratio=self.prune)
        if mode == "hybrid" and self.bm25 != 1:
            options["fusion"] = Fusion(weights=(1.0, self.bm25))
        return options

    @property
    def sizes(self) -> tuple[int, ...]:
        """To choose from."""
        return tuple(sorted({*_SIZES, self.k}))


def default_ways(indices: Sequence[str]) -> tuple[Way, ...]:
    """BM25, IDF and their sum; of several indices the sum of each."""
    if len(indices) > 1:
        return tuple(Way("hybrid", index) for index in indices[:3])
    return tuple(Way(mode, indices[0]) for mode in PAGE_MODES[:3])


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
