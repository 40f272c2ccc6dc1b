"""What can be chosen about an ingest, and what is reported of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class IngestOptions:
    """How an ingest runs.

    Attributes:
        max_bytes: size of a bulk request at most.
        max_documents: documents of a bulk request at most.
        concurrency: bulk requests under way at most; how many there are adapts to the cluster.
        flush_seconds: a request is sent at the latest after this time, full or not.
        patience: seconds for which a cluster may not answer, or put documents off, before the
            ingest stops (it can be resumed).
        window: documents that are read, looked up and tokenised together.
        on_error: ``continue`` after a document that cannot be indexed, or ``abort``.
        max_errors: dead letters after which the ingest stops.
        skip_unchanged: look up what the index holds, and leave out what is the same.
        load_settings: ``on`` = no refresh and no replicas while loading; ``auto`` = where the
            index is empty at the beginning; ``off``.
        count_terms: keep the term statistics of the index, for IDF queries.
        sync: at the end, delete from the index what the source has no more.
    """

    max_bytes: int = 8_000_000
    max_documents: int = 5_000
    concurrency: int = 4
    flush_seconds: float = 5.0
    patience: float = 600.0
    window: int = 512
    on_error: Literal["continue", "abort"] = "continue"
    max_errors: int | None = None
    skip_unchanged: bool = False
    load_settings: Literal["auto", "on", "off"] = "auto"
    count_terms: bool = True
    sync: bool = False


@dataclass(frozen=True)
class IngestReport:
    """What became of every record of a source; while an ingest runs, so far.

    Attributes:
        index: where they went.
        read: records and damaged records read; = created + updated + unchanged + dead.
        encoded: documents that have their vector.
        created, updated: documents acknowledged by the engine.
        unchanged: documents that the index held already, left alone.
        duplicates: records (among ``updated``) whose id this run had written before; the last
            of them is kept.
        deleted: documents removed because the source has them no more.
        dead: records in the dead letters.
        empty: documents indexed without any term (only BM25 finds them).
        retries: requests that were sent again.
        tokens: tokens of the documents encoded.
        bytes: of the bulk requests.
        count_before, count_after: documents in the index.
        seconds: time spent in this run.
        queues: stage → what waits before it.
        requests: bulk requests under way.
        interrupted: stopped before the end of the source, resumable.
        checked: documents that were read back and searched for at the end, a random sample.
        faults: what was wrong with them.
        lost_canaries: queries of the user's that do not find what they must, and why.
        dead_letters: file, if there is one.
    """

    index: str
    read: int = 0
    encoded: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicates: int = 0
    deleted: int = 0
    dead: int = 0
    empty: int = 0
    retries: int = 0
    tokens: int = 0
    bytes: int = 0
    count_before: int = 0
    count_after: int = 0
    seconds: float = 0.0
    queues: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    interrupted: bool = False
    checked: int = 0
    faults: tuple[str, ...] = ()
    lost_canaries: tuple[str, ...] = ()
    dead_letters: Path | None = None

    @property
    def indexed(self) -> int:
        """Documents acknowledged by the engine."""
        return self.created + self.updated

    @property
    def settled(self) -> int:
        """Records of which it is known what became."""
        return self.indexed + self.unchanged + self.dead

    @property
    def verified(self) -> bool:
        """Whether the index holds what was acknowledged, every record is accounted for, the
        sample was found as it was written, and so was what the user's canaries look for."""
        counted = self.count_after >= self.expected and self.read == self.settled
        return counted and not self.faults and not self.lost_canaries

    @property
    def expected(self) -> int:
        """Documents that the index must hold; more, if others write to it too."""
        return self.count_before + self.created - self.deleted


COUNTERS = (
    "read", "encoded", "created", "updated", "unchanged", "duplicates", "deleted", "dead",
    "empty", "retries", "tokens", "bytes",
)  # fmt: skip
"""Fields of a report that add up over the runs of a resumed ingest."""
