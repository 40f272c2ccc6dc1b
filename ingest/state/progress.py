"""How far an ingest is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from splade_os.ingest.report import COUNTERS
from splade_os.ingest.state.reasons import Reasons
from splade_os.statistics import BASE, Count, TermStatistics


class OffsetTracker:
    """A set of positions, 1 2 3 ..., that fills up from the beginning: a mark below which all
    are in, and the few above it.

    Args:
        mark: every position up to it is in the set.
        above: others.
    """

    def __init__(self, mark: int = 0, above: Iterable[int] = ()) -> None:
        self.mark, self.above = mark, set(above)

    def add(self, positions: Iterable[int]) -> None:
        self.above.update(positions)
        while self.mark + 1 in self.above:
            self.mark += 1
            self.above.remove(self.mark)

    def __contains__(self, position: int) -> bool:
        return position <= self.mark or position in self.above

    def packed(self) -> bytes:
        """``above`` as bytes."""
        return np.array(sorted(self.above), "<i8").tobytes()

    @classmethod
    def unpacked(cls, mark: int, above: bytes) -> OffsetTracker:
        """The inverse of `packed`."""
        values: npt.NDArray[np.int64] = np.frombuffer(above, "<i8")
        return cls(mark, values.tolist())


@dataclass
class Progress:
    """How far an ingest is.

    Attributes:
        positions: records of which it is known what became.
        counters: of the report (`COUNTERS`).
        created, updated: term statistics of the documents that were new, and of those that took
            the place of others.
        empty: documents of both that have no text, which are in neither.
        letters: length of the dead letters, bytes.
        nameless: records rejected without an id.
        reasons: of the dead letters.
    """

    created: TermStatistics
    updated: TermStatistics
    empty: list[int] = field(default_factory=lambda: [0, 0])
    positions: OffsetTracker = field(default_factory=OffsetTracker)
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    letters: int = 0
    nameless: int = 0
    reasons: Reasons = field(default_factory=Reasons)

    @property
    def indexed(self) -> int:
        """Records that the index holds."""
        return sum(self.counters[name] for name in ("created", "updated", "unchanged"))

    @property
    def wrote(self) -> int:
        """Documents written, each time that they were."""
        return self.created.documents + self.updated.documents + sum(self.empty)

    def count(self, run: str, lease: float = 0.0) -> Count:
        """What is counted, as the record of a run."""
        changed = self.counters["updated"] + self.counters["deleted"]
        return Count(run, self.created, self.empty[0], changed, lease=lease)

    def everything(self, run: str) -> Count:
        """The same of a run that has written all documents that there are."""
        return Count(BASE, self.created + self.updated, sum(self.empty), covers=(run,))
