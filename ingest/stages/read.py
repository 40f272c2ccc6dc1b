"""A source → windows of records."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator

from splade_os.errors import SpladeError
from splade_os.ingest.documents.records import Record, Rejected
from splade_os.ingest.runtime.queues import BoundedQueue
from splade_os.ingest.stages.context import StageContext
from splade_os.ingest.stages.items import Event, Failed
from splade_os.ingest.state.progress import OffsetTracker

_TICK = 0.2  # seconds between two looks at whether all is over
_LATEST = 1.0  # seconds after which a window goes on, full or not


class ReadStage:
    """Reads records, some at a time.

    The source is read by a thread of its own: while it waits (a pipe that pauses), what came
    before goes on, and the ingest can be interrupted. Where the source breaks off, everything
    before that place goes on as well.

    Args:
        done: positions whose outcome is known from the run that this one goes on with.

    Attributes:
        read: records and damaged records so far.
        hashed: records so far whose id is a hash, because they have none.
        exports: kind of export → records so far that were taken out of it.
    """

    def __init__(self, context: StageContext, done: OffsetTracker) -> None:
        self._context = context
        self._known = set(done.above)
        self.read = self.hashed = 0
        self.exports: Counter[str] = Counter()
        self._present: Counter[int | None] = Counter()
        self._changed = threading.Condition()
        self._window: list[Record | Rejected] = []
        self._ended = False
        self._error: BaseException | None = None

    def run(
        self,
        records: Iterator[Record | Rejected],
        out: BoundedQueue[list[Record]],
        events: BoundedQueue[Event],
    ) -> None:
        cancellation = self._context.cancellation
        cancellation.start("source", lambda: self._pull(records))
        while (window := self._next()) and not cancellation.halted.is_set():
            self._put(window, out, events)
        if isinstance(self._error, SpladeError):
            cancellation.source_error = self._error
        elif self._error is not None:
            raise self._error
        out.close()

    def fields(self) -> dict[str, int]:
        """Text field → records so far that held text in it; of records that say so."""
        names = self._context.meta.text_fields
        masks = {mask: n for mask, n in self._present.copy().items() if mask is not None}
        if not masks:
            return {}
        return {
            name: sum(n for mask, n in masks.items() if mask >> i & 1)
            for i, name in enumerate(names)
        }

    def _pull(self, records: Iterator[Record | Rejected]) -> None:
        cancellation, size = self._context.cancellation, self._context.options.window
        error: BaseException | None = None
        try:
            for record in records:
                with self._changed:
                    while len(self._window) >= size and not cancellation.halted.is_set():
                        self._changed.wait(_TICK)
                    if cancellation.halted.is_set():
                        break  # it is read again when the ingest is resumed
                    self._window.append(record)
                    if len(self._window) in (1, size):
                        self._changed.notify_all()
        except BaseException as caught:
            error = caught
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def _next(self) -> list[Record | Rejected]:
        """A window, full if the source is quick enough; empty at the end."""
        cancellation, size = self._context.cancellation, self._context.options.window
        with self._changed:
            while not (self._window or self._ended or cancellation.halted.is_set()):
                self._changed.wait(_TICK)
            latest = time.monotonic() + _LATEST
            while len(self._window) < size and not self._ended:
                left = latest - time.monotonic()
                if left <= 0 or cancellation.halted.is_set():
                    break
                self._changed.wait(min(left, _TICK))
            window, self._window = self._window, []
            self._changed.notify_all()
        return window

    def _put(
        self,
        window: list[Record | Rejected],
        out: BoundedQueue[list[Record]],
        events: BoundedQueue[Event],
    ) -> None:
        good = []
        for item in window:
            if item.position in self._known:
                continue
            self.read += 1
            if isinstance(item, Rejected):
                events.put(Failed(item, item.reason))
                continue
            self._present[item.present] += 1
            self.hashed += item.hashed
            if item.export is not None:
                self.exports[item.export] += 1
            good.append(item)
        if good:
            out.put(good)
