"""What became of every record: counters, dead letters, term statistics, ledger."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from splade_os.errors import IngestError
from splade_os.ingest.dead_letters import DeadLetters
from splade_os.ingest.digests import Digest
from splade_os.ingest.flights import Flights
from splade_os.ingest.ledger import Ledger, Progress
from splade_os.ingest.parcel import Dead, Event, Overtaken, Parcel, Settled, Unchanged
from splade_os.ingest.records import Record, Rejected
from splade_os.ingest.report import IngestOptions
from splade_os.vectors import Ids

_EVERY = 0.5  # seconds between two saves of the ledger
_SAMPLE = 100


@dataclass(frozen=True)
class Written:
    """A document of the sample that is read back at the end."""

    id: str
    digest: Digest
    lines: bytes


@dataclass
class Accounts:
    """Takes events, one at a time, from one thread.

    Attributes:
        progress: so far, of this run and of those that it goes on with.
        sample: some of the documents written by this process.
    """

    progress: Progress
    ledger: Ledger
    letters: DeadLetters
    flights: Flights
    options: IngestOptions
    sample: list[Written] = field(default_factory=list)
    _overtaken: dict[int, list[Record]] = field(default_factory=dict)  # by whom
    _seen: list[int] = field(default_factory=list)
    _saved: float = field(default_factory=time.monotonic)
    _written: int = 0

    def take(self, event: Event) -> None:
        """Book an event.

        Raises:
            IngestError: that was one error too many, or a file cannot be written.
        """
        match event:
            case Settled():
                self._settle(event)
            case Unchanged(records):
                self._count(unchanged=len(records))
                self._done(records)
            case Overtaken(records, position):
                self._overtaken[position] = records
            case Dead(record, reason, status):
                self._dead(record, reason, status)
        if time.monotonic() - self._saved > _EVERY:
            self.save()

    def save(self) -> None:
        """Bring everything onto the disk, dead letters first."""
        self.progress.letters = self.letters.save()
        self.ledger.save(self.progress, self._seen)
        self._seen = []
        self._saved = time.monotonic()

    def count_again(self, taken_out: list[Ids]) -> None:
        """Documents were deleted, with these tokens."""
        self.progress.statistics.count_many(taken_out, sign=-1)

    def _settle(self, event: Settled) -> None:
        created = updated = empty = 0
        new: list[Ids] = []
        old: list[Ids] = []
        good: list[Record] = []
        refused: list[Dead] = []
        for parcel, outcome in zip(event.parcels, event.outcomes, strict=True):
            if not outcome.ok:
                reason = outcome.reason or "refused"
                refused.append(Dead(parcel.record, reason, outcome.status))
                continue
            good.append(parcel.record)
            if outcome.result == "created":
                created += 1
            else:
                updated += 1
                if parcel.replaces is not None:
                    old.append(parcel.replaces)
            empty += not parcel.terms
            if parcel.tokens is not None:
                new.append(parcel.tokens)
            self._keep(parcel)
        self._count(
            created=created,
            updated=updated,
            empty=empty,
            duplicates=len(event.duplicates),
            retries=event.retries,
            bytes=sum(len(parcel.lines) for parcel in event.parcels),
        )
        self.progress.statistics.count_many(new)
        self.progress.statistics.count_many(old, sign=-1)
        self._done(good)
        for dead in refused:
            self._dead(dead.record, dead.reason, dead.status)

    def _keep(self, parcel: Parcel) -> None:
        """A sample in which every document is as likely as any other (reservoir)."""
        self._written += 1
        place = len(self.sample)
        if place >= _SAMPLE:
            place = random.randrange(self._written)
            if place >= _SAMPLE:
                return
            self.sample[place] = Written(parcel.record.id, parcel.digest, parcel.lines)
            return
        self.sample.append(Written(parcel.record.id, parcel.digest, parcel.lines))

    def _dead(self, record: Record | Rejected, reason: str, status: int | None) -> None:
        lost = [record]
        if isinstance(record, Rejected):
            self.letters.reject(record)
            self.progress.nameless += record.id is None
        else:
            # the records that it overtook would have been indexed
            for earlier in self._overtaken.pop(record.position, []):
                self.letters.fail(earlier, f"overtaken by {record.where}, which failed: {reason}")
                lost.append(earlier)
            self.letters.fail(record, reason, status)
        self._count(dead=len(lost))
        self._book(lost)
        dead, most = self.progress.counters["dead"], self.options.max_errors
        if self.options.on_error == "abort" or (most is not None and dead > most):
            limit = "" if self.options.on_error == "abort" else f" {dead:,} are more than {most:,}."
            raise IngestError(
                f"{record.where} could not be indexed: {reason}.{limit}",
                hint=f"It stands in {self.letters.file}. To go on after it: --resume.",
            )

    def _done(self, records: list[Record]) -> None:
        """These are in the index, and so is nothing of those that they overtook."""
        if self._overtaken:
            earlier = [
                each for record in records for each in self._overtaken.pop(record.position, [])
            ]
            self._count(updated=len(earlier), duplicates=len(earlier))
            records = records + earlier
        self._book(records)

    def _book(self, records: Sequence[Record | Rejected]) -> None:
        self.progress.positions.add(record.position for record in records)
        self.flights.land(record.id for record in records if isinstance(record, Record))
        if self.options.sync:
            self._seen += [id_hash(record.id) for record in records if record.id is not None]

    def _count(self, **counts: int) -> None:
        for name, count in counts.items():
            self.progress.counters[name] += count


def id_hash(identifier: str) -> int:
    """63 bits of a document id."""
    digest = blake2b(identifier.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
