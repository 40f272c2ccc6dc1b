"""Vectors → bulk items, put together into requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from splade_os.engines import DocumentRenderer
from splade_os.errors import SpladeError
from splade_os.ingest.runtime.queues import BoundedQueue, Taker
from splade_os.ingest.stages.context import StageContext
from splade_os.ingest.stages.items import BulkItem, BulkRequest, Encoded, Event, Failed
from splade_os.vectors import Ids

_HELD = 0.02  # seconds without a document, after which records that wait for others are heeded


class RenderStage:
    """Writes the lines of every document, once.

    Args:
        plain: token ids as they are counted.
    """

    def __init__(self, context: StageContext, plain: Callable[[Ids], Ids]) -> None:
        self._context, self._plain = context, plain

    def run(
        self,
        encoded: BoundedQueue[Encoded],
        out: BoundedQueue[BulkRequest],
        events: BoundedQueue[Event],
    ) -> None:
        """Bulk items, put together into requests of the size that the limiter wants."""
        renderer = DocumentRenderer.for_index(self._context.encoder.vocabulary, self._context.meta)
        waiting: list[BulkItem] = []
        size, memory, since = 0, 0, time.monotonic()
        most = self._context.options.queue_bytes
        while True:
            try:
                found = encoded.get(timeout=_HELD if self._context.in_flight.held else 0.5)
            except StopIteration:
                break
            for item in self.items(found, renderer, events) if found is not None else ():
                full = size + len(item.lines) > self._context.limiter.max_bytes or memory > most
                if waiting and (full or len(waiting) >= self._context.options.max_documents):
                    out.put(BulkRequest(waiting, size))
                    waiting, size, memory = [], 0, 0
                if not waiting:
                    since = time.monotonic()
                waiting.append(item)
                size += len(item.lines)
                memory += item.memory()
            # perhaps records wait for others of their id that wait here
            idle = found is None and self._context.in_flight.held
            late = time.monotonic() - since > self._context.options.flush_seconds
            if waiting and (idle or late):
                out.put(BulkRequest(waiting, size))
                waiting, size, memory = [], 0, 0
        if waiting:
            out.put(BulkRequest(waiting, size))
        out.close()

    def items(
        self, encoded: Encoded, renderer: DocumentRenderer, events: Taker[Event]
    ) -> Iterator[BulkItem]:
        documents = [(draft.record.id, draft.record.source) for draft in encoded.drafts]
        marks = [str(draft.stamp) for draft in encoded.drafts]
        rendered = renderer.render_many(documents, encoded.batch, operation="create", marks=marks)
        terms = encoded.batch.active_dims().tolist()
        for draft, lines, count in zip(encoded.drafts, rendered, terms, strict=True):
            if isinstance(lines, SpladeError):
                events.put(Failed(draft.record, lines.message))
                continue
            tokens = draft.counted if self._context.options.count_terms else None
            if draft.record.text and draft.ids is not None and self._context.options.count_terms:
                tokens = self._plain(draft.ids)
            item = BulkItem(
                draft.record, lines, tokens, draft.stamp, count, draft.first, draft.stored
            )
            if draft.vector is None and draft.ids is not None:
                item.length, item.lost = len(draft.ids) - draft.lost, draft.lost
            if draft.exists and not self._context.several:
                item.update()
            yield item
