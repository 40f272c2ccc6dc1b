"""What walks through the pipeline between encoding and the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from splade_os.engines import Outcome
from splade_os.ingest.digests import Digest
from splade_os.ingest.records import Record, Rejected
from splade_os.vectors import Ids


@dataclass(slots=True)
class Parcel:
    """A document ready to be sent.

    Attributes:
        record: the document.
        lines: the two NDJSON lines of its action (one, if it is deleted).
        tokens: token ids of its text, without special ones; ``None`` = not counted.
        digest: the mark that the document carries.
        replaces: token ids of the document that it overwrites, where they are known.
        terms: length of its vector.
    """

    record: Record
    lines: bytes
    tokens: Ids | None
    digest: Digest
    replaces: Ids | None = None
    terms: int = 0

    def update(self) -> None:
        """Let it overwrite what is there, and say so in its mark."""
        plain, self.digest = self.digest, replace(self.digest, update=True)
        lines = self.lines.replace(str(plain).encode() + b'"', str(self.digest).encode() + b'"', 1)
        self.lines = b'{"index"' + lines.removeprefix(b'{"create"')


@dataclass(slots=True)
class Bulk:
    """Parcels of one request."""

    parcels: list[Parcel]
    size: int


@dataclass(slots=True)
class Settled:
    """A request whose documents have all got their answer.

    Attributes:
        duplicates: ids (of parcels) that this run had written before.
        retries: requests and documents that were sent again.
    """

    parcels: list[Parcel]
    outcomes: list[Outcome]
    duplicates: set[int] = field(default_factory=set)
    retries: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Dead:
    """A record that will not be indexed."""

    record: Record | Rejected
    reason: str
    status: int | None = None


@dataclass(slots=True)
class Unchanged:
    """Records that the index holds already, as they are."""

    records: list[Record]


@dataclass(slots=True)
class Overtaken:
    """Records that a later one of the same id, at ``position``, overtook before they were sent;
    what becomes of them depends on what becomes of it."""

    records: list[Record]
    position: int


@dataclass(slots=True)
class Ended:
    """A stage has no more to say."""


Event = Settled | Dead | Unchanged | Overtaken | Ended


class Positions:
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
    def unpacked(cls, mark: int, above: bytes) -> Positions:
        """The inverse of `packed`."""
        values: npt.NDArray[np.int64] = np.frombuffer(above, "<i8")
        return cls(mark, values.tolist())
