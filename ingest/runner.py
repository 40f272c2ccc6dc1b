"""The threads of one ingest, and the bounded queues that carry back-pressure up to the reader."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from splade_os.ingest.documents.records import Record, Rejected
from splade_os.ingest.log import Notes, log_report
from splade_os.ingest.report import IngestReport
from splade_os.ingest.runtime.cancellation import AbortedError
from splade_os.ingest.runtime.queues import BoundedQueue
from splade_os.ingest.stages.context import StageContext
from splade_os.ingest.stages.encode import EncodeStage
from splade_os.ingest.stages.items import (
    BulkRequest,
    BulkResult,
    Draft,
    Encoded,
    Event,
    StageEnded,
    drafts_memory,
)
from splade_os.ingest.stages.read import ReadStage
from splade_os.ingest.stages.render import RenderStage
from splade_os.ingest.stages.send import SendStage
from splade_os.ingest.stages.tokenize import TokenizeStage
from splade_os.ingest.state.results import ResultRecorder

_TICK = 0.2  # seconds between two reports of progress
_LOG_EVERY = 10.0  # seconds between two of them in the log


def _memory(event: Event) -> int:
    return sum(item.memory() for item in event.items) if isinstance(event, BulkResult) else 0


class Runner:
    """Runs the chain of one ingest, from its records to its results.

    Args:
        context: of the stages.
        results: records what becomes of every record.
        on_progress: called several times a second with the report so far.
        heartbeat: seconds, and what is called that often.

    Attributes:
        start: `time.monotonic` at its beginning.
    """

    def __init__(
        self,
        context: StageContext,
        results: ResultRecorder,
        on_progress: Callable[[IngestReport], None] | None = None,
        heartbeat: tuple[float, Callable[[], None]] | None = None,
    ) -> None:
        self.context, self.results = context, results
        self._on_progress, self._heartbeat = on_progress, heartbeat
        self.start = self._logged = self._beaten = time.monotonic()
        self._notes = Notes()

    def run(self, records: Iterator[Record | Rejected], guard: str | None = None) -> None:
        """Run until every record is settled, or all was halted or aborted. Never raises: see
        the cancellation.

        Args:
            guard: the alias that documents are written through (`Engine.guard`).
        """
        self._begin(records, guard)
        reported = 0.0
        try:
            while self._take_next(_TICK):
                if time.monotonic() - reported > _TICK:
                    reported = time.monotonic()
                    self._tell(self.report())
        except AbortedError:
            pass
        except BaseException as error:
            self.context.cancellation.abort(error)
        finally:
            self._save()
        report = self.report()
        self._notes.look(report, ended=True)
        if self._on_progress:
            self._on_progress(report)

    def _begin(self, records: Iterator[Record | Rejected], guard: str | None) -> None:
        """Set everything going; returns at once."""
        raise NotImplementedError

    def _take_next(self, seconds: float) -> bool:
        """Record the next result, if one comes in so many seconds; ``False`` = all is over."""
        raise NotImplementedError

    @property
    def indexed_nothing(self) -> bool:
        """Whether it is known that the index holds no record of this ingest."""
        raise NotImplementedError

    def report(self) -> IngestReport:
        """So far."""
        raise NotImplementedError

    def _report(self, *, read: int, encoded: int, **others: Any) -> IngestReport:
        """What is said of every ingest, and ``others``."""
        results = self.results
        counters: dict[str, Any] = {**results.progress.counters, "read": read, "encoded": encoded}
        reasons = results.progress.reasons
        return IngestReport(
            index=self.context.index,
            count_before=results.checkpoint.count_before,
            seconds=time.monotonic() - self.start,
            dead_letters=results.dead_letters.file if counters["dead"] else None,
            reasons=reasons.counts(),
            first_dead=reasons.first,
            **others,
            **counters,
        )

    def _tell(self, report: IngestReport) -> None:
        self._notes.look(report)
        if self._heartbeat and time.monotonic() - self._beaten > self._heartbeat[0]:
            self._beaten = time.monotonic()
            self._heartbeat[1]()
        if time.monotonic() - self._logged > _LOG_EVERY:
            self._logged = time.monotonic()
            log_report("progress", report)
        if self._on_progress:
            self._on_progress(report)

    def _save(self) -> None:
        try:
            self.results.save()
        except BaseException as error:
            self.context.cancellation.abort(error)


class RunnerFactory(Protocol):
    """Makes a runner of the arguments of `Runner`."""

    def __call__(
        self,
        context: StageContext,
        results: ResultRecorder,
        on_progress: Callable[[IngestReport], None] | None,
        heartbeat: tuple[float, Callable[[], None]] | None,
        /,
    ) -> Runner: ...


class PipelineRunner(Runner):
    """The threads of one ingest, and the queues between them. Arguments: see `Runner`."""

    def __init__(
        self,
        context: StageContext,
        results: ResultRecorder,
        on_progress: Callable[[IngestReport], None] | None = None,
        heartbeat: tuple[float, Callable[[], None]] | None = None,
    ) -> None:
        super().__init__(context, results, on_progress, heartbeat)
        self._read = ReadStage(context, results.progress.positions)
        self.tokenize = TokenizeStage(context)
        self._encode = EncodeStage(context)
        self._render = RenderStage(context, self.tokenize.plain)
        self._send = SendStage(context)
        cancellation, options = context.cancellation, context.options
        most = options.queue_bytes
        self._events: BoundedQueue[Event] = BoundedQueue(cancellation, 1000, most, _memory)
        self._windows: BoundedQueue[list[Record]] = BoundedQueue(
            cancellation, 2, most, lambda window: sum(record.memory() for record in window)
        )
        ahead = max(2, context.encoder.window // options.window)
        self._drafts: BoundedQueue[list[Draft]] = BoundedQueue(
            cancellation, ahead, most, drafts_memory
        )
        self._encoded: BoundedQueue[Encoded] = BoundedQueue(
            cancellation, 32, most // 4, lambda encoded: encoded.memory()
        )
        self._requests: BoundedQueue[BulkRequest] = BoundedQueue(cancellation, 1)
        self._known = sum(
            results.progress.counters[name] for name in ("created", "updated", "unchanged", "dead")
        )

    def _begin(self, records: Iterator[Record | Rejected], guard: str | None) -> None:
        cancellation, events = self.context.cancellation, self._events
        self._send.guard = guard
        stages: dict[str, Callable[[], None]] = {
            "read": lambda: self._read.run(records, self._windows, events),
            "tokenise": lambda: self.tokenize.run(self._windows, self._drafts, events),
            "encode": lambda: self._encode.run(self._drafts, self._encoded, events),
            "render": lambda: self._render.run(self._encoded, self._requests, events),
        }
        for number in range(self.context.options.concurrency):
            stages[f"send-{number}"] = lambda: self._send.run(self._requests, events)
        for name, work in stages.items():
            cancellation.start(name, partial(self._stage, work))
        self._running = len(stages)

    def _take_next(self, seconds: float) -> bool:
        event = self._events.get(timeout=seconds)
        if isinstance(event, StageEnded):
            self._running -= 1
        elif event is not None:
            self.results.record(event)
        return self._running > 0

    @property
    def indexed_nothing(self) -> bool:
        """Whether it is known that the index holds no record of this ingest."""
        unanswered = self._send.begun > self.results.requests
        return not (self.results.progress.indexed or unanswered)

    def _stage(self, work: Callable[[], None]) -> None:
        work()
        self._events.put(StageEnded())

    def report(self) -> IngestReport:
        """So far."""
        return self._report(
            read=self._known + self._read.read,
            encoded=self._known + self._encode.encoded,
            queues={
                "tokenise": len(self._windows),
                "encode": len(self._drafts),
                "render": len(self._encoded),
                "send": len(self._requests),
            },
            requests=self.context.limiter.under_way,
            hashed=self._read.hashed,
            exports=dict(self._read.exports),
            text_fields=self._read.fields(),
        )
