"""What a writer reports of a window: merged by the driver, in whatever order they come."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from splade_os.errors import SpladeError
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.runtime.cancellation import Cancellation
from splade_os.ingest.runtime.in_flight import InFlightIds
from splade_os.ingest.stages.items import Event
from splade_os.ingest.state.checkpoint import Checkpoint
from splade_os.ingest.state.dead_letters import CollectedLetters
from splade_os.ingest.state.progress import Progress
from splade_os.ingest.state.reasons import Reasons
from splade_os.ingest.state.results import ResultRecorder, Written
from splade_os.statistics import TermStatistics

_OF_WINDOW = 16  # documents of each that are read back at the end, until there are enough


@dataclass(frozen=True)
class Counted:
    """`TermStatistics` of a few documents: the tokens that occur, and in how many."""

    documents: int
    tokens: int
    ids: npt.NDArray[np.int32]
    frequencies: npt.NDArray[np.int32]

    @classmethod
    def of(cls, statistics: TermStatistics) -> Counted:
        ids = np.flatnonzero(statistics.frequencies).astype(np.int32)
        counts = statistics.frequencies[ids].astype(np.int32)
        return cls(statistics.documents, statistics.tokens, ids, counts)

    def add_to(self, statistics: TermStatistics) -> None:
        statistics.documents += self.documents
        statistics.tokens += self.tokens
        statistics.frequencies[self.ids] += self.frequencies


@dataclass(frozen=True)
class ReadCounts:
    """What `ReadStage` has counted of a window."""

    read: int = 0
    hashed: int = 0
    exports: Counter[str] = field(default_factory=Counter)
    text_fields: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Receipt:
    """What became of the records of one window.

    Attributes:
        counters: of the report.
        created, updated, empty: as in `Progress`.
        letters: lines of the dead letters.
        sample: some of the documents that were written.
        read: what was counted as it was read.
        error: what ended the work at it; the job ends with it.
        source_error: where the source broke off.
    """

    counters: dict[str, int] = field(default_factory=dict)
    created: Counted | None = None
    updated: Counted | None = None
    empty: tuple[int, int] = (0, 0)
    reasons: Reasons = field(default_factory=Reasons)
    letters: Sequence[bytes] = ()
    sample: Sequence[Written] = ()
    read: ReadCounts = field(default_factory=ReadCounts)
    error: SpladeError | None = None
    source_error: SpladeError | None = None


def receipt_of(
    events: Sequence[Event],
    read: ReadCounts,
    width: int,
    index: str,
    run: str,
    options: IngestOptions,
) -> Receipt:
    """The events of a window, recorded as those of a load on one machine are.

    Args:
        width: of the vocabulary.
        index: that dead letters name.
    """
    progress = Progress(TermStatistics.empty(width), TermStatistics.empty(width))
    letters = CollectedLetters(index, run)
    # how many errors are too many is for the driver to say
    alone = replace(options, on_error="continue", max_errors=None, unusable=None, sync=False)
    checkpoint = Checkpoint()
    recorder = ResultRecorder(progress, checkpoint, letters, InFlightIds(Cancellation()), alone)
    try:
        for event in events:
            recorder.record(event)
    finally:
        checkpoint.close()
    letters.save()
    counters = {name: count for name, count in progress.counters.items() if count}
    sample = random.sample(recorder.sample, min(_OF_WINDOW, len(recorder.sample)))
    return Receipt(
        counters,
        Counted.of(progress.created),
        Counted.of(progress.updated),
        (progress.empty[0], progress.empty[1]),
        progress.reasons,
        letters.lines,
        sample,
        read,
    )


@dataclass
class ReceiptRecorder(ResultRecorder):
    """Adds up receipts. The index itself is the checkpoint: nothing of a job is kept here."""

    read: int = 0
    hashed: int = 0
    exports: Counter[str] = field(default_factory=Counter)
    text_fields: Counter[str] = field(default_factory=Counter)

    def add(self, receipt: Receipt) -> None:
        """Add one.

        Raises:
            IngestError: that was one error too many, or the dead letters cannot be written.
        """
        self.requests += 1
        progress = self.progress
        self._count(**receipt.counters)
        if receipt.created is not None and receipt.updated is not None:
            receipt.created.add_to(progress.created)
            receipt.updated.add_to(progress.updated)
        for i in (0, 1):
            progress.empty[i] += receipt.empty[i]
        progress.reasons.merge(receipt.reasons)
        self.dead_letters.add_lines(receipt.letters)
        self.read += receipt.read.read
        self.hashed += receipt.read.hashed
        self.exports.update(receipt.read.exports)
        self.text_fields.update(receipt.read.text_fields)  # += would drop fields without any
        for written in receipt.sample:
            self.keep(written)
        if receipt.counters.get("dead"):
            dead, first = progress.counters["dead"], progress.reasons.first
            self._check_limits(f"{first}.", dead + progress.indexed)

    def save(self) -> None:
        self.dead_letters.save()
