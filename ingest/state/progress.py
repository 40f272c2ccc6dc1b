"""How far an ingest is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import repeat

import numpy as np
import numpy.typing as npt

from splade_os.errors import IngestError
from splade_os.ingest.documents.records import Item
from splade_os.ingest.report import COUNTERS
from splade_os.ingest.state.reasons import Reasons
from splade_os.statistics import Count, TermStatistics

_MASK = 2**63 - 1


class OffsetTracker:
    """A set of positions, 1 2 3 ..., that fills up from the beginning: a mark below which all
    are in, and the few above it.

    Args:
        mark: every position up to it is in the set.
        above: others, and the hashes of what stood there.
        digest: sum of the hashes of what stood up to the mark; ``None`` = not known.
    """

    def __init__(
        self, mark: int = 0, above: Mapping[int, int] | None = None, digest: int | None = 0
    ) -> None:
        self.mark, self.above, self.digest = mark, dict(above or {}), digest

    def add(self, positions: Iterable[int], hashes: Iterable[int] | None = None) -> None:
        """Args:
        hashes: `item_hash` of what stands there.
        """
        self.above.update(zip(positions, hashes or repeat(0), strict=False))
        while (found := self.above.pop(self.mark + 1, None)) is not None:
            self.mark += 1
            if self.digest is not None:
                self.digest = (self.digest + found) & _MASK

    def __contains__(self, position: object) -> bool:
        return isinstance(position, int) and (position <= self.mark or position in self.above)

    def packed(self) -> tuple[bytes, bytes]:
        """``above`` as bytes: positions, hashes."""
        order = sorted(self.above)
        hashes = [self.above[position] for position in order]
        return np.array(order, "<i8").tobytes(), np.array(hashes, "<i8").tobytes()

    @classmethod
    def unpacked(
        cls, mark: int, above: bytes, hashes: bytes | None, digest: int | None
    ) -> OffsetTracker:
        """The inverse of `packed`; checkpoints of before have no hashes."""
        positions: npt.NDArray[np.int64] = np.frombuffer(above, "<i8")
        if hashes is None:
            return cls(mark, dict.fromkeys(positions.tolist(), 0), None)
        found: npt.NDArray[np.int64] = np.frombuffer(hashes, "<i8")
        return cls(mark, dict(zip(positions.tolist(), found.tolist(), strict=True)), digest)

    def check(self, items: Iterable[Item], source: str) -> None:
        """Whether the source still begins with what was read up to the mark.

        Raises:
            IngestError: it does not.
        """
        digest = read = 0
        for read, item in enumerate(items, 1):
            digest = (digest + item_hash(read, item)) & _MASK
        if read == self.mark and self.digest in (None, digest):
            return
        changed = (
            f"{source} has {read:,} records, and {self.mark:,} were read of it before"
            if read < self.mark
            else f"the first {self.mark:,} records of {source} are not those of before"
        )
        raise IngestError(
            f"The ingest cannot go on: {changed}.",
            hint="Begin anew with --restart (--skip-unchanged encodes nothing twice).",
        )


def item_hash(position: int, item: Item | None) -> int:
    """63 bits of what stands at a position of a source."""
    if item is None:
        return 0
    content = item.raw or repr(item.value).encode("utf-8", "surrogatepass")
    digest = blake2b(content, digest_size=8, key=position.to_bytes(8, "little")).digest()
    return int.from_bytes(digest) & _MASK


@dataclass
class Progress:
    """How far an ingest is.

    Attributes:
        positions: records of which it is known what became.
        counters: of the report (`COUNTERS`).
        created, updated: term statistics of the documents that were new, and of those that took
            the place of others.
        empty: documents of both that have no text, which are in neither.
        nameless: records rejected without an id.
        noted: records whose ids are noted, for --sync.
        reasons: of the dead letters.
    """

    created: TermStatistics
    updated: TermStatistics
    empty: list[int] = field(default_factory=lambda: [0, 0])
    positions: OffsetTracker = field(default_factory=OffsetTracker)
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    nameless: int = 0
    noted: int = 0
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
