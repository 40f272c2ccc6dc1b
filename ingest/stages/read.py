"""A source → windows of records."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from splade_os.errors import InputError
from splade_os.ingest.documents.records import Record, Rejected
from splade_os.ingest.runtime.queues import BoundedQueue
from splade_os.ingest.stages.context import StageContext
from splade_os.ingest.stages.items import Event, Failed
from splade_os.ingest.state.progress import OffsetTracker


class ReadStage:
    """Reads records, some at a time.

    Args:
        done: positions whose outcome is known from the run that this one goes on with.

    Attributes:
        read: records and damaged records so far.
    """

    def __init__(self, context: StageContext, done: OffsetTracker) -> None:
        self._context = context
        self._known = set(done.above)
        self.read = 0

    def run(
        self,
        records: Iterator[Record | Rejected],
        out: BoundedQueue[list[Record]],
        events: BoundedQueue[Event],
    ) -> None:
        cancellation, size = self._context.cancellation, self._context.options.window
        try:
            while not cancellation.halted.is_set():
                window = list(islice(records, size))
                if not window:
                    break
                items = [item for item in window if item.position not in self._known]
                for item in items:
                    if isinstance(item, Rejected):
                        events.put(Failed(item, item.reason))
                self.read += len(items)
                good = [item for item in items if isinstance(item, Record)]
                if good:
                    out.put(good)
        except InputError as error:
            cancellation.source_error = error
        out.close()
