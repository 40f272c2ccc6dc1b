"""A stream of changes → an index, in order; a run that was killed goes on where it was."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

from splade_os.errors import EngineError, IngestError
from splade_os.ingest.documents.records import Item, RecordReader, Rejected
from splade_os.ingest.load import Begin, dead_letters_file, goes_on
from splade_os.ingest.log import log
from splade_os.ingest.runtime.cancellation import AbortedError, Cancellation, interruptible
from splade_os.ingest.runtime.windows import WindowReader
from splade_os.ingest.sources import Source
from splade_os.ingest.state.checkpoint import Checkpoint, Job
from splade_os.ingest.state.dead_letters import DeadLetters
from splade_os.ingest.state.progress import Progress, item_hash
from splade_os.online.change_reader import ChangeReader, StreamedChange
from splade_os.online.changes import Delete
from splade_os.online.index import PAGE, Index
from splade_os.online.results import DocumentResult

_TICK = 0.2  # seconds between two looks at whether all is over
_LOG_EVERY = 10.0  # seconds between two lines of progress
_COUNTED = ("created", "updated", "deleted", "absent", "superseded", "dead")
_GO_ON = "What was applied is saved: the same command with --resume goes on."
_AGAIN = "Begin anew with --restart: what was applied is applied again, in the same order."
Read = StreamedChange | Rejected


@dataclass(frozen=True)
class ApplyReport:
    """What became of a stream of changes; counts are of all runs that went on with it.

    Attributes:
        index: that was written to.
        read: changes, in order from the beginning: it is the position up to which all are applied.
        created, updated, deleted: documents.
        absent: deletions of what was not there.
        superseded: changes of documents that the same batch deleted.
        dead: changes that could not be applied; they stand in the dead letters.
        interrupted: it was stopped before the end of the stream; it can go on.
        dead_letters: file, if there is one.
        reasons: reason → dead letters for it.
        first_dead: where the first one stood, and why.
        seconds: of this run.
    """

    index: str
    read: int = 0
    created: int = 0
    updated: int = 0
    deleted: int = 0
    absent: int = 0
    superseded: int = 0
    dead: int = 0
    interrupted: bool = False
    dead_letters: Path | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    first_dead: str | None = None
    seconds: float = 0.0


def apply_changes(
    source: Source,
    index: Index,
    *,
    reader: RecordReader,
    begin: Begin = "new",
    dead_letters: str | Path | None = None,
    on_progress: Callable[[ApplyReport], None] | None = None,
    named: str | None = None,
) -> ApplyReport:
    """Apply the changes of a source to an index, in their order.

    They are applied in batches as they come: what has been read waits for others for a second at
    most. After each batch its position is saved. A run that was killed in the middle of a batch
    repeats that one, which leaves the index as it was. On the main thread, the first Ctrl-C (or
    SIGTERM) ends after the batch under way; the second one raises KeyboardInterrupt.

    Args:
        source: of changes (`splade_os.ingest.sources.formats.CHANGES`).
        index: made or adopted if need be.
        reader: how documents are read.
        begin: ``new`` refuses where a run was interrupted, ``resume`` goes on with it, ``auto``
            does so if that can be, ``restart`` forgets it. Whoever goes on gives the stream from
            its beginning: it is compared, not applied, up to where the last run ended.
        dead_letters: file for what cannot be applied; default one in the working folder.
        on_progress: called after each batch.
        named: how the user named the source, by which an interrupted run is known again.

    Raises:
        IngestError: a run was interrupted before, or cannot go on; or the cluster takes nothing.
            What was applied is in the checkpoint.
        InputError: the source broke off; what came before is applied.
        SpladeError: the index cannot be opened.
    """
    meta = index.target()
    job = Job(
        url=index.engine.url,
        target=index.name,
        source=f"changes of {named or source.name}",
        selection={},
        fingerprint=source.fingerprint(),
        reader=asdict(reader),
        model=meta.model,
    )
    with job.checkpoint() as checkpoint:
        if not goes_on(checkpoint, job, begin, source, index.engine):
            letters = Path(dead_letters or dead_letters_file(index.name)).absolute()
            checkpoint.begin(job, index.name, letters)
        report = _Run(index, checkpoint, ChangeReader(reader), on_progress).run(source)
        if not report.interrupted:
            checkpoint.finish()
    return report


class _Run:
    def __init__(
        self,
        index: Index,
        checkpoint: Checkpoint,
        reader: ChangeReader,
        on_progress: Callable[[ApplyReport], None] | None,
    ) -> None:
        self._index, self._checkpoint, self._reader = index, checkpoint, reader
        self._on_progress = on_progress
        self._progress: Progress = checkpoint.load(0)
        self._letters = DeadLetters(
            checkpoint.dead_letters, index.name, checkpoint.run, kind="change"
        )
        if checkpoint.resumed:
            self._letters.forget(self._progress.positions)
        self._cancellation = Cancellation()
        self._start = self._logged = time.monotonic()

    def run(self, source: Source) -> ApplyReport:
        windows: WindowReader[Read] = WindowReader(self._cancellation, PAGE)
        with interruptible(self._cancellation), self._letters:
            for window in windows.windows(self._read(source)):
                self._apply(window)
                self._save(window)
            if windows.error is not None:
                raise windows.error
            halted = self._cancellation.halted.is_set()
        return self._report(interrupted=halted)

    def _read(self, source: Source) -> Iterator[Read]:
        items = source.items()
        done = self._progress.positions.mark
        if done:
            self._compare(islice(items, done), source.name)
        for position, item in enumerate(items, done + 1):
            yield self._reader.read(item, position)

    def _compare(self, items: Iterator[Item], name: str) -> None:
        """Whether the stream begins as it did before."""
        try:
            self._progress.positions.check(items, name)
        except IngestError as error:
            raise IngestError(error.message, hint=_AGAIN) from None

    def _apply(self, window: Sequence[Read]) -> None:
        deleted: set[str] = set()  # by what comes later: a batch that is repeated may not find it
        wanted: list[StreamedChange] = []
        for each in reversed(window):
            if isinstance(each, Rejected):
                continue
            if each.change.id in deleted:
                self._count("superseded")
                continue
            if isinstance(each.change, Delete):
                deleted.add(each.change.id)
            wanted.append(each)
        wanted.reverse()
        results = iter(self._results(self._index.begin([each.change for each in wanted])))
        applied = {each.position: next(results) for each in wanted}
        for each in window:
            if isinstance(each, Rejected):
                self._reject(each)
            elif each.position in applied:
                self._settle(each, applied[each.position])

    def _results(self, begun: Future[list[DocumentResult]]) -> list[DocumentResult]:
        while True:
            try:
                return begun.result(timeout=_TICK)
            except NotYetError:
                pass
            except EngineError as error:
                raise IngestError(error.message, hint=error.hint or _GO_ON) from error
            if self._cancellation.aborted.is_set():
                raise self._cancellation.error or AbortedError

    def _settle(self, each: StreamedChange, result: DocumentResult) -> None:
        match result.result:
            case "failed":
                self._reject(each.rejected(result.reason or "it was refused"))
            case "not_found" if isinstance(each.change, Delete):
                self._count("absent")
            case "not_found":
                self._reject(each.rejected("there is no document of this id to update"))
            case outcome:
                self._count("updated" if outcome == "unchanged" else outcome)

    def _reject(self, rejected: Rejected) -> None:
        self._count("dead")
        self._progress.reasons.add(rejected.where, rejected.reason, rejected.id)
        self._letters.reject(rejected)

    def _count(self, what: str) -> None:
        self._progress.counters[what] = self._progress.counters.get(what, 0) + 1

    def _save(self, window: Sequence[Read]) -> None:
        """Onto the disk, dead letters first."""
        positions = [each.position for each in window]
        hashes = [item_hash(each.position, each.item) for each in window]
        self._progress.positions.add(positions, hashes)
        self._letters.save()
        self._checkpoint.save(self._progress)
        report = self._report()
        if self._on_progress is not None:
            self._on_progress(report)
        if time.monotonic() - self._logged > _LOG_EVERY:
            self._logged = time.monotonic()
            told = f"{report.read:,} changes applied, {report.dead:,} dead letters"
            log(logging.INFO, "progress", told, **asdict(report))

    def _report(self, *, interrupted: bool = False) -> ApplyReport:
        counters, reasons = self._progress.counters, self._progress.reasons
        return ApplyReport(
            index=self._index.name,
            read=self._progress.positions.mark,
            **{name: counters.get(name, 0) for name in _COUNTED},
            interrupted=interrupted,
            dead_letters=self._letters.file if counters["dead"] else None,
            reasons=reasons.counts(),
            first_dead=reasons.first,
            seconds=time.monotonic() - self._start,
        )
