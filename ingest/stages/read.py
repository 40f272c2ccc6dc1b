"""A source → windows of records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from splade_os.errors import SpladeError
from splade_os.ingest.documents.records import Record, Rejected
from splade_os.ingest.runtime.queues import BoundedQueue, Taker
from splade_os.ingest.runtime.windows import WindowReader
from splade_os.ingest.stages.context import StageContext
from splade_os.ingest.stages.items import Event, Failed
from splade_os.ingest.state.progress import OffsetTracker


class ReadStage:
    """Reads records, some at a time. Where the source breaks off, everything before that place goes
    on.

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
        self._reader: WindowReader[Record | Rejected] = WindowReader(
            context.cancellation,
            context.options.window,
            context.options.queue_bytes // 2,
            lambda record: record.memory(),
        )

    def run(
        self,
        records: Iterator[Record | Rejected],
        out: BoundedQueue[list[Record]],
        events: BoundedQueue[Event],
    ) -> None:
        for window in self._reader.windows(records):
            good = self.take(window, events)
            if good:
                out.put(good)
        error = self._reader.error
        if isinstance(error, SpladeError):
            self._context.cancellation.source_error = error
        elif error is not None:
            raise error
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

    def take(self, window: list[Record | Rejected], events: Taker[Event]) -> list[Record]:
        """Count a window; the records in it."""
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
        return good
