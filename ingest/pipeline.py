"""The chain: records → windows → tokens → vectors → parcels → outcomes → report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from splade_os.encoding import DocumentEncoder
from splade_os.engines import DocumentRenderer, Engine, Outcome
from splade_os.errors import EncodingError, InputError
from splade_os.ingest.dead_letters import DeadLetters
from splade_os.ingest.records import DEFAULT_TEXT_FIELDS, Record, Rejected
from splade_os.ingest.sender import Parcel, Sender
from splade_os.ingest.target import ensure_index
from splade_os.statistics import TermStatistics
from splade_os.vectors import Ids

_WINDOW = 512  # documents sorted by length at a time


@dataclass(frozen=True)
class IngestReport:
    """What became of every record of a source.

    Attributes:
        index: where they went.
        read: records and damaged records read; = created + updated + dead.
        encoded: documents that have their vector.
        created, updated: documents acknowledged by the engine.
        dead: records in the dead letters.
        empty: documents indexed without any term (only BM25 finds them).
        count_before, count_after: documents in the index.
        encode_seconds, seconds: time spent encoding, and in all.
        dead_letters: file, if there is one.
    """

    index: str
    read: int = 0
    encoded: int = 0
    created: int = 0
    updated: int = 0
    dead: int = 0
    empty: int = 0
    count_before: int = 0
    count_after: int = 0
    encode_seconds: float = 0.0
    seconds: float = 0.0
    dead_letters: Path | None = None

    @property
    def indexed(self) -> int:
        """Documents acknowledged by the engine."""
        return self.created + self.updated

    @property
    def verified(self) -> bool:
        """Whether the index holds what was acknowledged, and every record is accounted for."""
        return (
            self.count_after == self.count_before + self.created
            and self.read == self.indexed + self.dead
        )


@dataclass
class _Run:
    """The moving parts of one ingest."""

    encoder: DocumentEncoder
    renderer: DocumentRenderer
    letters: DeadLetters
    report: IngestReport
    all_documents: TermStatistics
    new_documents: TermStatistics
    special: np.ndarray[tuple[int], np.dtype[np.bool_]] = field(init=False)

    def __post_init__(self) -> None:
        self.special = np.zeros(len(self.encoder.vocabulary), bool)
        self.special[list(self.encoder.vocabulary.special_ids)] = True

    def add(self, **counts: float) -> None:
        report = self.report
        self.report = replace(
            report, **{name: getattr(report, name) + count for name, count in counts.items()}
        )

    def acknowledge(self, parcel: Parcel, outcome: Outcome) -> None:
        if not outcome.ok:
            self.letters.fail(parcel.record, outcome.reason or "refused", outcome.status)
            self.add(dead=1)
            return
        created = outcome.result == "created"
        self.add(created=int(created), updated=int(not created))
        counts = [self.all_documents, self.new_documents] if created else [self.all_documents]
        for statistics in counts:
            statistics.count(parcel.tokens)

    def parcels(self, records: list[Record]) -> Iterator[Parcel]:
        """Encode one window; what cannot be encoded goes to the dead letters."""
        for record, ids, vector in self._encoded(records):
            try:
                lines = self.renderer.render(record.id, record.source, *vector)
            except (EncodingError, InputError) as error:
                self._dead(record, error)
                continue
            if not len(vector[0]):
                self.add(empty=1)
            yield Parcel(record, lines, ids[~self.special[ids]])

    def _encoded(
        self, records: list[Record]
    ) -> Iterator[tuple[Record, Ids, tuple[Ids, np.ndarray[tuple[int], np.dtype[np.float32]]]]]:
        start = time.perf_counter()
        todo = dict.fromkeys(range(len(records)))
        try:
            tokens = self.encoder.tokenize([record.text for record in records])
            for positions, batch in self.encoder.encode_batches(tokens):
                self.add(encode_seconds=time.perf_counter() - start)
                for i, row in zip(positions, batch, strict=True):
                    del todo[i]
                    self.add(encoded=1)
                    yield records[i], tokens[i], row
                start = time.perf_counter()
        except EncodingError as error:
            if len(records) == 1:
                self._dead(records[0], error)
                return
            # One of them is the culprit: the rest is encoded one by one, and goes on.
            for i in todo:
                yield from self._encoded([records[i]])

    def _dead(self, record: Record, error: EncodingError | InputError) -> None:
        self.letters.fail(record, error.message)
        self.add(dead=1)


def ingest_documents(
    records: Iterable[Record | Rejected],
    *,
    engine: Engine,
    index: str,
    encoder: DocumentEncoder,
    dead_letters: str | Path,
    text_fields: Iterable[str] = DEFAULT_TEXT_FIELDS,
    on_progress: Callable[[IngestReport], None] | None = None,
    max_bytes: int = 8_000_000,
    field_type: str | None = None,
) -> IngestReport:
    """Encode records and write them into an index, which is made if it is missing.

    Streams: at most one window of 512 documents and two bulk requests are in memory. Ids are
    explicit, so that running a source again overwrites and never duplicates. At the end the
    index is refreshed, counted, and its term statistics (for IDF queries) are stored.

    Args:
        records: of a source (`splade_os.ingest.sources.read_source`).
        engine, index: where to.
        encoder: what encodes them; an index made by another one is refused.
        dead_letters: file for what cannot be indexed.
        text_fields: fields that were joined into the text of each record.
        on_progress: called after every batch with the report so far.
        max_bytes: size of a bulk request.
        field_type: of a new index: how vectors are stored; default the engine's first.

    Raises:
        ModelMismatchError, IndexFormatError: the index is not for this encoder.
        EngineError: the engine failed as a whole; what was acknowledged is indexed.
        InputError: the source broke off; what came before is indexed.
    """
    start = time.perf_counter()
    meta = ensure_index(engine, index, encoder.identity, tuple(text_fields), field_type)
    engine.refresh(index)
    width = encoder.identity.vocabulary_size
    letters = DeadLetters(dead_letters)
    run = _Run(
        encoder,
        DocumentRenderer(encoder.vocabulary, meta.field, meta.feature_naming),
        letters,
        IngestReport(index, count_before=engine.count(index)),
        TermStatistics.empty(width),
        TermStatistics.empty(width),
    )

    def progress() -> None:
        if on_progress is not None:
            on_progress(replace(run.report, seconds=time.perf_counter() - start))

    with letters, Sender(engine, index, run.acknowledge, max_bytes=max_bytes) as sender:
        try:
            for window in _windows(records, run):
                for parcel in run.parcels(window):
                    sender.put(parcel)
                    progress()
        finally:  # a source that broke off, or Ctrl-C: what is encoded is not thrown away
            sender.flush()
            sender.settle()
            progress()
    engine.refresh(index)
    run.report = replace(run.report, count_after=engine.count(index))
    _store_statistics(engine, index, run)
    return replace(
        run.report,
        seconds=time.perf_counter() - start,
        dead_letters=letters.file if letters.count else None,
    )


def _windows(records: Iterable[Record | Rejected], run: _Run) -> Iterator[list[Record]]:
    stream = iter(records)
    while items := list(islice(stream, _WINDOW)):
        run.add(read=len(items))
        window = []
        for item in items:
            if isinstance(item, Rejected):
                run.letters.reject(item)
                run.add(dead=1)
            else:
                window.append(item)
        yield window


def _store_statistics(engine: Engine, index: str, run: _Run) -> None:
    """A run that saw every document of the index counted them all; else its new ones are added
    to what is stored."""
    statistics = run.all_documents
    if run.report.indexed < run.report.count_after:
        stored = engine.load_statistics(index)
        if stored is not None:
            statistics = stored + run.new_documents
    if statistics.documents:
        engine.save_statistics(index, statistics)
