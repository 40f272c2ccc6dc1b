"""Hard negatives from a live index: what a search finds for a training query, but should not.

Reads only: nothing in the cluster is made, changed or deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from splade_os.errors import EngineError, InputError, SettingsError
from splade_os.search.client import SearchClient
from splade_os.search.options import Mode
from splade_os.training.data import Rows

_AT_ONCE = 32  # queries per request

Score = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""Scores of query i with document i, of a teacher."""


@dataclass(frozen=True)
class Window:
    """Which hits may become negatives.

    Attributes:
        first, last: ranks, from 1; the first ones are often relevant and not judged.
        count: negatives per query; rows with fewer are left out.
        margin: (with a teacher) a hit is dropped when the teacher's score lies less than this below
            that of the relevant document: it is likely relevant itself.
        text: fields that make the text of a hit.
    """

    first: int = 5
    last: int = 100
    count: int = 8
    margin: float | None = None
    text: tuple[str, ...] = ("title", "text")

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last:
            raise SettingsError(f"Ranks {self.first} to {self.last} are no window.")
        if self.last - self.first + 1 < self.count:
            raise SettingsError(
                f"Ranks {self.first} to {self.last} cannot give {self.count} negatives."
            )


@dataclass
class MiningReport:
    """What came of it.

    Attributes:
        rows: written.
        short: queries with fewer negatives than asked for, left out.
        positives: hits dropped because they are a relevant document of the query.
        near: hits dropped because the teacher holds them relevant.
        failed: queries whose search failed, with the reason of the last.
    """

    rows: int = 0
    short: int = 0
    positives: int = 0
    near: int = 0
    failed: int = 0
    reason: str = field(default="")


def mine(
    rows: Rows,
    client: SearchClient,
    report: MiningReport,
    *,
    window: Window | None = None,
    mode: Mode = "idf",
    score: Score | None = None,
) -> Iterator[dict[str, Any]]:
    """Search every query, and keep what ranks high and is not relevant.

    A hit is relevant when its text is that of a relevant document of the same query in any row
    (case and white space aside), or, with a teacher, when it scores like one.

    Args:
        rows: queries, and their relevant document as the first one.
        client: of the index; both engines, with whatever authentication it was made with.
        report: counted into.
        window: ranks, number, margin.
        mode: of the search.
        score: a teacher; its scores are written as well, and a KL or MarginMSE run takes them.

    Yields:
        ``query``, ``positive``, ``negatives``, with a teacher ``scores`` (positive first).

    Raises:
        InputError: hits have none of the fields that make a text.
        EngineError: the first search failed.
    """
    window = window or Window()
    relevant: dict[str, set[str]] = {}
    for i in range(len(rows)):
        row = rows[i]
        relevant.setdefault(row.query, set()).add(_plain(row.documents[0]))
    for start in range(0, len(rows), _AT_ONCE):
        batch = [rows[i] for i in range(start, min(start + _AT_ONCE, len(rows)))]
        found = client.search_many([row.query for row in batch], window.last, mode)
        for row, results in zip(batch, found, strict=True):
            if isinstance(results, EngineError):
                if not report.rows and not report.failed:
                    raise results
                report.failed, report.reason = report.failed + 1, str(results)
                continue
            texts = [_text(hit.source, window.text) for hit in list(results)[window.first - 1 :]]
            kept = _unlike(texts, relevant[row.query], report)
            scores: list[float] = []
            if score is not None:
                kept, scores = _judged(row.query, row.documents[0], kept, score, window, report)
            if len(kept) < window.count:
                report.short += 1
                continue
            report.rows += 1
            made: dict[str, Any] = {"query": row.query, "positive": row.documents[0]}
            made |= {"negatives": kept[: window.count]}
            yield made | ({"scores": scores[: 1 + window.count]} if scores else {})


def _unlike(texts: Sequence[str], relevant: set[str], report: MiningReport) -> list[str]:
    """Texts that are no relevant document, each once."""
    seen: set[str] = set()
    kept = []
    for text in texts:
        plain = _plain(text)
        if plain in relevant:
            report.positives += 1
        elif plain not in seen:
            seen.add(plain)
            kept.append(text)
    return kept


def _judged(
    query: str, positive: str, texts: list[str], score: Score, window: Window, report: MiningReport
) -> tuple[list[str], list[float]]:
    own, *others = score([query] * (1 + len(texts)), [positive, *texts])
    limit = float("inf") if window.margin is None else own - window.margin
    kept = [(text, value) for text, value in zip(texts, others, strict=True) if value <= limit]
    report.near += len(texts) - len(kept)
    return [text for text, _ in kept], [own, *(value for _, value in kept)]


def _text(source: Any, names: Sequence[str]) -> str:
    found = [str(source[name]) for name in names if source.get(name)]
    if not found:
        raise InputError(
            f"A hit has none of the fields {', '.join(names)}; it has {', '.join(source)}.",
            hint="Name those that hold the text with --text.",
        )
    return " ".join(found)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
