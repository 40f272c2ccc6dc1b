"""What became of every record: counters, dead letters, term statistics, checkpoint."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise

from splade_os.errors import IngestError
from splade_os.ingest.documents.records import Record, Rejected
from splade_os.ingest.documents.stamps import DocumentStamp
from splade_os.ingest.log import log
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.runtime.in_flight import InFlightIds
from splade_os.ingest.stages.items import BulkResult, Event, Failed, Superseded, Unchanged
from splade_os.ingest.state.checkpoint import Checkpoint
from splade_os.ingest.state.dead_letters import DeadLetters
from splade_os.ingest.state.progress import Progress, item_hash
from splade_os.vectors import Ids

_EVERY = 0.5  # seconds between two saves of the checkpoint
_SAMPLE = 100
_SAMPLE_BYTES = 16_000_000


class ErrorLimitError(IngestError):
    """As many records could not be indexed as the user allows; a resumed ingest goes on."""


class NothingUsableError(IngestError):
    """None of the first records of a source can be indexed: most likely it is read wrongly."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            hint="Nothing is left behind. Is it read as it should be (--text, --id, --format)? "
            "`--dry-run` shows it. Where it is right that these fail: --max-errors N.",
        )


@dataclass(frozen=True)
class Written:
    """A document of the sample that is read back at the end."""

    id: str
    stamp: DocumentStamp
    lines: bytes


@dataclass
class ResultRecorder:
    """Takes events, one at a time, from one thread.

    Attributes:
        progress: so far, of this run and of those that it goes on with.
        requests: bulk requests recorded.
        sample: some of the documents written by this process.
    """

    progress: Progress
    checkpoint: Checkpoint
    dead_letters: DeadLetters
    in_flight: InFlightIds
    options: IngestOptions
    sample: list[Written] = field(default_factory=list)
    requests: int = 0
    _superseded: dict[int, list[Record]] = field(default_factory=dict)  # by whom
    _seen: list[int] = field(default_factory=list)
    _saved: float = field(default_factory=time.monotonic)
    _written: int = 0
    _capacity: int = _SAMPLE
    _sample_bytes: int = 0

    def record(self, event: Event) -> None:
        """Record an event.

        Raises:
            IngestError: that was one error too many, or a file cannot be written.
        """
        match event:
            case BulkResult():
                self.requests += 1
                self._acknowledge(event)
            case Unchanged(records):
                self._count(unchanged=len(records))
                self._note_unchanged(records)
                self._done(records)
            case Superseded(records, position):
                self._superseded[position] = records
            case Failed(record, reason, status):
                self._fail(record, reason, status)
        if time.monotonic() - self._saved > _EVERY:
            self.save()

    def save(self) -> None:
        """Bring everything onto the disk, dead letters first."""
        self.dead_letters.save()
        self.checkpoint.save(self.progress, self._seen)
        self._seen = []
        self._saved = time.monotonic()

    def _acknowledge(self, event: BulkResult) -> None:
        created = updated = empty = cut = 0
        tokens: tuple[list[Ids], list[Ids]] = [], []
        good: list[Record] = []
        refused: list[Failed] = []
        for item, outcome in zip(event.items, event.outcomes, strict=True):
            if not outcome.ok:
                reason = outcome.reason or "refused"
                refused.append(Failed(item.record, reason, outcome.status))
                continue
            good.append(item.record)
            new = outcome.result == "created"
            created, updated = created + new, updated + (not new)
            empty += not item.terms
            cut += item.lost > 0
            if item.tokens is not None:
                tokens[not new].append(item.tokens)
            else:
                self.progress.empty[not new] += 1
            if item.lines:  # else an earlier process wrote it
                self.keep(Written(item.record.id, item.stamp, item.lines))
        self._add_repeated(event)
        self._count(
            created=created,
            updated=updated,
            empty=empty,
            cut=cut,
            tokens=sum(item.length for item in event.items),
            tokens_lost=sum(item.lost for item in event.items),
            duplicates=len(event.duplicates),
            conflicts=len(event.conflicts),
            retries=event.retries,
            bytes=sum(len(item.lines) for item in event.items),
        )
        self.progress.created.count_many(tokens[0])
        self.progress.updated.count_many(tokens[1])
        self._done(good)
        for failed in refused:
            self._fail(failed.record, failed.reason, failed.status)

    def _note_unchanged(self, records: list[Record]) -> None:
        """Note ids of which a record was left as it was, and count those that have been noted."""
        numbers = {_as_unchanged(record.id): record for record in records}
        for number in self._noted(numbers):
            record = numbers[number]
            first = next(iter(self._superseded.get(record.position, ())), record)
            self._count(duplicates=1, conflicts=not first.same_content(record))
        self._seen += numbers

    def _add_repeated(self, event: BulkResult) -> None:
        """Count items that overwrote a document whose id is noted as unchanged."""
        overwrote = {
            _as_unchanged(item.record.id): i
            for i, (item, outcome) in enumerate(zip(event.items, event.outcomes, strict=True))
            if outcome.ok and item.stored is not None and i not in event.duplicates
        }
        for i in map(overwrote.__getitem__, self._noted(overwrote)):
            item = event.items[i]
            event.duplicates.add(i)
            if item.stored and not item.stored.same_document(item.first or item.stamp):
                event.conflicts.add(i)

    def _noted(self, numbers: Mapping[int, object]) -> set[int]:
        if not (numbers and self.options.skip_unchanged):
            return set()
        return self.checkpoint.has_seen(numbers) | numbers.keys() & set(self._seen)

    def keep(self, kept: Written) -> None:
        """A sample in which every document is as likely as any other (reservoir); the smaller,
        the larger the documents are."""
        self._written += 1
        place = random.randrange(self._written)
        if len(self.sample) < self._capacity:
            self.sample.append(kept)
        elif place < self._capacity:
            self._sample_bytes -= len(self.sample[place].lines)
            self.sample[place] = kept
        else:
            return
        self._sample_bytes += len(kept.lines)
        while self._sample_bytes > _SAMPLE_BYTES and len(self.sample) > 1:
            gone = self.sample.pop(random.randrange(len(self.sample)))
            self._sample_bytes -= len(gone.lines)
            self._capacity = len(self.sample)

    def _fail(self, record: Record | Rejected, reason: str, status: int | None) -> None:
        lost = [record]
        self.progress.reasons.add(record.where, reason, record.id)
        if isinstance(record, Rejected):
            self.dead_letters.reject(record)
            self.progress.nameless += record.id is None
        else:
            # the records that it superseded would have been indexed
            for earlier in self._superseded.pop(record.position, []):
                told = f"superseded by {record.where}, which failed: {reason}"
                self.progress.reasons.add(earlier.where, told, earlier.id)
                self.dead_letters.fail(earlier, told)
                lost.append(earlier)
            self.dead_letters.fail(record, reason, status)
        if not self.progress.counters["dead"]:
            first = self.progress.reasons.first
            log(logging.WARNING, "dead_letter", f"First dead letter: {first}", id=record.id)
        self._count(dead=len(lost))
        self._account(lost)
        told = f"{record.where} could not be indexed: {reason}."
        self._check_limits(told, self.progress.positions.mark)

    def _check_limits(self, told: str, settled: int) -> None:
        """Whether the load may go on after a dead letter, of which ``told`` speaks; ``settled``
        records are through."""
        dead, most = self.progress.counters["dead"], self.options.max_errors
        if self.options.on_error == "abort" or (most is not None and dead > most):
            limit = "" if self.options.on_error == "abort" else f" {dead:,} are more than {most:,}."
            raise ErrorLimitError(
                told + limit,
                hint=f"It stands in {self.dead_letters.file}. To go on after it: --resume.",
            )
        wanted = self.options.unusable if most is None else None
        if wanted is not None and settled >= wanted and not self.progress.indexed:
            why = self.progress.reasons.first
            raise NothingUsableError(f"None of the first {settled:,} records can be indexed. {why}")

    def _done(self, records: list[Record]) -> None:
        """These are in the index, and so is nothing of those that they superseded."""
        if self._superseded:
            chains = [[*self._superseded.pop(r.position, []), r] for r in records]
            earlier = [record for chain in chains for record in chain[:-1]]
            conflicts = sum(not a.same_content(b) for chain in chains for a, b in pairwise(chain))
            self._count(updated=len(earlier), duplicates=len(earlier), conflicts=conflicts)
            records = records + earlier
        self._account(records)

    def _account(self, records: Sequence[Record | Rejected]) -> None:
        self.progress.positions.add(
            (record.position for record in records),
            (item_hash(record.position, record.item) for record in records),
        )
        self.in_flight.release(record.id for record in records if isinstance(record, Record))
        if self.options.sync:
            seen = [id_hash(record.id) for record in records if record.id is not None]
            self._seen += seen
            self.progress.noted += len(seen)

    def _count(self, **counts: int) -> None:
        for name, count in counts.items():
            self.progress.counters[name] += count


def _as_unchanged(identifier: str) -> int:
    """Notes that a record was left as it was, beside what notes that there is one."""
    return ~id_hash(identifier)


def id_hash(identifier: str) -> int:
    """63 bits of a document id."""
    stamp = blake2b(identifier.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(stamp) >> 1
