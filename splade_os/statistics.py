"""Term statistics of a corpus: what an IDF table is computed from.

Of an index they are kept as records, one for each run that wrote into it: a run counts the
documents that it created, and writes its record as often as it likes, always whole. Nothing is
added to what is stored, and nothing subtracted, so nothing can drift: what was overwritten or
deleted stays counted, `Count.changed` says how much that is, and a recount makes one record of all
that is there.
"""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(eq=False)
class TermStatistics:
    """Document frequencies over a vocabulary.

    Attributes:
        documents: number of documents counted, ``N``.
        tokens: number of their tokens (for the mean length).
        frequencies: int64 ``(V,)``: in how many documents each token occurs.
    """

    documents: int
    tokens: int
    frequencies: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, width: int) -> TermStatistics:
        """Statistics of no document over ``width`` tokens."""
        return cls(0, 0, np.zeros(width, np.int64))

    @property
    def valid(self) -> bool:
        """Whether these can be the statistics of documents: 0 <= df <= N."""
        df = self.frequencies
        return (self.documents >= 0 and not len(df)) or 0 <= df.min() <= df.max() <= self.documents

    def count(self, ids: npt.NDArray[np.int32]) -> None:
        """Count one document, given as its token ids (repetitions allowed)."""
        self.count_many([ids])

    def count_many(self, documents: Sequence[npt.NDArray[np.int32]]) -> None:
        """Count documents, given as their token ids."""
        if not documents:
            return
        width = len(self.frequencies)
        lengths = [len(ids) for ids in documents]
        rows = np.repeat(np.arange(len(documents), dtype=np.int64), lengths)
        seen = np.unique(rows * width + np.concatenate(documents)) % width
        self.documents += len(documents)
        self.tokens += sum(lengths)
        self.frequencies += np.bincount(seen, minlength=width)

    def __add__(self, other: TermStatistics) -> TermStatistics:
        return TermStatistics(
            self.documents + other.documents,
            self.tokens + other.tokens,
            self.frequencies + other.frequencies,
        )


BASE = "base"
"""The run of a record that counts the whole index."""


@dataclass(frozen=True)
class Count:
    """What one run has counted of an index.

    Attributes:
        run: letters and digits; `BASE` = all documents that were there, whoever wrote them.
        statistics: of the documents that it created.
        empty: those of them that have no text: they are in no frequency.
        changed: documents that it overwrote or deleted, which are counted as they were before.
        covers: (`BASE`) runs whose documents are in it, should their records still be there.
        lease: (a run under way) time, in seconds of the epoch, until which it says so; 0 = ended.
        saved: when it was stored, in seconds of the epoch; 0 = not yet, or not known.
    """

    run: str
    statistics: TermStatistics
    empty: int = 0
    changed: int = 0
    covers: tuple[str, ...] = ()
    lease: float = 0.0
    saved: float = field(default=0.0, compare=False)

    @property
    def under_way(self) -> bool:
        """Whether the run goes on, as far as is known."""
        return self.lease > time.time()

    def packed(self) -> dict[str, Any]:
        """As JSON: the frequencies by planes of bytes, of which the upper ones are nearly empty, in
        base64 (250,000 of them in some 300 KB)."""
        planes = self.statistics.frequencies.astype("<i8").view(np.uint8).reshape(-1, 8).T
        return {
            "run": self.run,
            "documents": self.statistics.documents,
            "tokens": self.statistics.tokens,
            "empty": self.empty,
            "changed": self.changed,
            "covers": list(self.covers),
            "lease": self.lease,
            "saved": self.saved or time.time(),
            "frequencies": base64.b64encode(zlib.compress(planes.tobytes(), 6)).decode(),
        }

    @classmethod
    def unpacked(cls, record: Mapping[str, Any]) -> Count:
        """The inverse of `packed`; other keys are left alone."""
        planes = np.frombuffer(zlib.decompress(base64.b64decode(record["frequencies"])), np.uint8)
        frequencies = np.ascontiguousarray(planes.reshape(8, -1).T).view("<i8").reshape(-1)
        return cls(
            str(record["run"]),
            TermStatistics(
                int(record["documents"]), int(record["tokens"]), frequencies.astype(np.int64)
            ),
            int(record["empty"]),
            int(record["changed"]),
            tuple(record["covers"]),
            float(record["lease"]),
            float(record.get("saved", 0)),
        )


def age_of(counts: Iterable[Count]) -> int | None:
    """Seconds since the last of these was stored; ``None`` = none is, or it is not known."""
    saved = max((count.saved for count in counts), default=0.0)
    return round(time.time() - saved) if saved else None


def base_of(statistics: TermStatistics, counts: Sequence[Count], *, empty: int = 0) -> Count:
    """A record of all documents, in place of those that are there."""
    covers = tuple(sorted(count.run for count in counts if count.run != BASE))
    return Count(BASE, statistics, empty, covers=covers)


def total(counts: Sequence[Count]) -> Count | None:
    """What all records of an index say together, as one that covers them; ``None`` of none."""
    covered = {run for count in counts if count.run == BASE for run in count.covers}
    parts = [count for count in counts if count.run == BASE or count.run not in covered]
    if not parts:
        return None
    width = max(len(part.statistics.frequencies) for part in parts)
    whole = TermStatistics.empty(width)
    for part in parts:
        whole.documents += part.statistics.documents
        whole.tokens += part.statistics.tokens
        whole.frequencies[: len(part.statistics.frequencies)] += part.statistics.frequencies
    changed = sum(part.changed for part in parts)
    base = base_of(whole, counts, empty=sum(part.empty for part in parts))
    return replace(base, changed=changed)


def summed(counts: Iterable[Sequence[Count]]) -> TermStatistics | None:
    """Of several indices together; ``None`` where no document is counted, or where what is stored
    cannot be statistics."""
    of_each = [each for each in (total(some) for some in counts) if each is not None]
    whole = total([Count(f"{i}", each.statistics) for i, each in enumerate(of_each)])
    if whole is None or not whole.statistics.valid or not whole.statistics.documents:
        return None
    return whole.statistics
