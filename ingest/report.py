"""What is reported of an ingest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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
        conflicts: those of them that are another document than the record of this id before
            them.
        deleted: documents removed because the source has them no more.
        dead: records in the dead letters.
        empty: documents indexed without any term (only BM25 finds them): without content, or of
            nothing that the model weighs.
        cut: documents encoded of which tokens were cut off at the maximum length.
        retries: requests that were sent again.
        tokens: tokens of the documents encoded, as far as they are acknowledged.
        tokens_lost: tokens that were cut off.
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
        reasons: reason → dead letters for it; of reasons that differ in numbers and ids, the
            first one.
        first_dead: where the first dead letter stood, and why.
        hashed: records read in this run that have no id: theirs is a hash of the record.
        exports: kind of export (hits of a search, MongoDB's Extended JSON) → records read in this
            run whose document was taken out of it.
        text_fields: text field → records read in this run that held text in it.
        statistics_lag: what is not right with the term statistics; ``None`` = they are exact.
        removed: nothing was indexed, so the index, which was made by this ingest, was deleted.
        alias: for which the index was built.
        live: the alias stands for it now.
        deleted_indices: older ones, of the alias.
    """

    index: str
    read: int = 0
    encoded: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicates: int = 0
    conflicts: int = 0
    deleted: int = 0
    dead: int = 0
    empty: int = 0
    cut: int = 0
    retries: int = 0
    tokens: int = 0
    tokens_lost: int = 0
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
    reasons: dict[str, int] = field(default_factory=dict)
    first_dead: str | None = None
    hashed: int = 0
    exports: dict[str, int] = field(default_factory=dict)
    text_fields: dict[str, int] = field(default_factory=dict)
    statistics_lag: str | None = None
    removed: bool = False
    alias: str | None = None
    live: bool = False
    deleted_indices: tuple[str, ...] = ()

    @property
    def indexed(self) -> int:
        """Documents acknowledged by the engine."""
        return self.created + self.updated

    @property
    def lost_share(self) -> float:
        """The part of all tokens of the documents encoded that was cut off, 0 to 1."""
        return self.tokens_lost / max(1, self.tokens + self.tokens_lost)

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
    "read", "encoded", "created", "updated", "unchanged", "duplicates", "conflicts", "deleted",
    "dead", "empty", "cut", "retries", "tokens", "tokens_lost", "bytes",
)  # fmt: skip
"""Fields of a report that add up over the runs of a resumed ingest."""
