"""What goes through the pipeline: drafts, encoded documents, bulk items and requests, results."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from splade_os.engines import Outcome
from splade_os.ingest.documents.given_vectors import Row
from splade_os.ingest.documents.records import Record, Rejected
from splade_os.ingest.documents.stamps import DocumentStamp
from splade_os.vectors import Ids, SparseBatch


@dataclass(slots=True)
class Draft:
    """A record on its way to its vector.

    Attributes:
        record: the document.
        stamp: its mark.
        ids: token ids, special ones included; ``None`` if nothing needs them.
        vector: if it is known already.
        counted: token ids as the term statistics count them, if they are known already.
        exists: whether the index holds a document of this id.
        stored: the mark of that one, if it has one.
        first: the mark of the first record that this one superseded as it waited.
        lost: tokens that were cut off, because the text is longer than the model takes.
        written: the mark with which an earlier process of this run has written it.
    """

    record: Record
    stamp: DocumentStamp
    ids: Ids | None = None
    vector: Row | None = None
    counted: Ids | None = None
    exists: bool = False
    stored: DocumentStamp | None = None
    first: DocumentStamp | None = None
    lost: int = 0
    written: DocumentStamp | None = None


def drafts_memory(drafts: list[Draft]) -> int:
    """Bytes that they take."""
    return sum(
        draft.record.memory() + (0 if draft.ids is None else draft.ids.nbytes) for draft in drafts
    )


@dataclass(slots=True)
class Encoded:
    """Drafts and their vectors, in the same order."""

    drafts: list[Draft]
    batch: SparseBatch

    def memory(self) -> int:
        """Bytes that it takes."""
        return drafts_memory(self.drafts) + self.batch.indices.nbytes + self.batch.values.nbytes


@dataclass(slots=True)
class BulkItem:
    """A document ready to be sent.

    Attributes:
        record: the document.
        lines: the two NDJSON lines of its action (one, if it is deleted).
        tokens: token ids of its text, without special ones; ``None`` = not counted.
        stamp: the mark that the document carries.
        terms: length of its vector.
        first: the mark of the first record that this one superseded as it waited.
        stored: the mark of the document that it overwrites, if it was looked up.
        length, lost: tokens that its vector was made of, and tokens that were cut off; 0 where it
            was not encoded by this run.
        guarded: it overwrites one version of the document alone.
    """

    record: Record
    lines: bytes
    tokens: Ids | None
    stamp: DocumentStamp
    terms: int = 0
    first: DocumentStamp | None = None
    stored: DocumentStamp | None = None
    length: int = 0
    lost: int = 0
    guarded: bool = False

    def memory(self) -> int:
        """Bytes that it takes."""
        counted = 0 if self.tokens is None else self.tokens.nbytes
        return self.record.memory() + len(self.lines) + counted

    def update(self, version: tuple[int, int] | None = None) -> None:
        """Let it overwrite what is there, and say so in its mark.

        Args:
            version: overwrite this version alone (`StoredDocument.version`).
        """
        plain, self.stamp = self.stamp, replace(self.stamp, update=True)
        lines = self.lines
        if not plain.update:
            lines = lines.replace(str(plain).encode() + b'"', str(self.stamp).encode() + b'"', 1)
        if version is not None:
            action, newline, document = lines.partition(b"\n")
            action = action.partition(b',"if_seq_no"')[0].removesuffix(b"}}")
            number, term = version
            guard = b',"if_seq_no":%d,"if_primary_term":%d}}' % (number, term)
            lines, self.guarded = action + guard + newline + document, True
        self.lines = b'{"index"' + lines.removeprefix(b'{"create"').removeprefix(b'{"index"')


@dataclass(slots=True)
class BulkRequest:
    """Bulk items of one request."""

    items: list[BulkItem]
    size: int


@dataclass(slots=True)
class BulkResult:
    """A request whose documents have all got their answer.

    Attributes:
        duplicates: numbers of the items whose id this run had written before.
        conflicts: those of them that were another document then.
        retries: requests and documents that were sent again.
    """

    items: list[BulkItem]
    outcomes: list[Outcome]
    duplicates: set[int] = field(default_factory=set)
    conflicts: set[int] = field(default_factory=set)
    retries: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Failed:
    """A record that will not be indexed."""

    record: Record | Rejected
    reason: str
    status: int | None = None


@dataclass(slots=True)
class Unchanged:
    """Records that the index holds already, as they are."""

    records: list[Record]


@dataclass(slots=True)
class Superseded:
    """Records that a later one of the same id, at ``position``, superseded before they were sent;
    what becomes of them depends on what becomes of it."""

    records: list[Record]
    position: int


@dataclass(slots=True)
class StageEnded:
    """A stage has no more to say."""


Event = BulkResult | Failed | Unchanged | Superseded | StageEnded
