"""Token ids → vectors."""

from __future__ import annotations

from collections.abc import Iterator

from splade_os.errors import EncoderProcessError, EncodingError
from splade_os.ingest.runtime.queues import BoundedQueue, Taker
from splade_os.ingest.stages.context import StageContext
from splade_os.ingest.stages.items import Draft, Encoded, Event, Failed, drafts_memory
from splade_os.vectors import SparseBatch


class EncodeStage:
    """Encodes what has no vector yet.

    Attributes:
        encoded: documents that have got their vector.
    """

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self.encoded = 0

    def run(
        self,
        windows: BoundedQueue[list[Draft]],
        out: BoundedQueue[Encoded],
        events: BoundedQueue[Event],
    ) -> None:
        for first in windows:
            if self._context.cancellation.halted.is_set():
                continue
            drafts = [*first]
            if any(draft.vector is None for draft in first):
                drafts += self._more(windows, first)
            for encoded in self.vectors(drafts, events):
                self.encoded += len(encoded.drafts)
                out.put(encoded)
                if self._context.cancellation.halted.is_set():
                    break
        out.close()

    def _more(self, windows: BoundedQueue[list[Draft]], first: list[Draft]) -> list[Draft]:
        """What waits already: the more texts are sorted by length together, the less padding."""
        drafts: list[Draft] = []
        wanted = self._context.encoder.window - len(first)
        room = self._context.options.queue_bytes - drafts_memory(first)
        while len(drafts) < wanted and room > 0 and (window := windows.waiting()) is not None:
            drafts += window
            room -= drafts_memory(window)
        return drafts

    def vectors(self, drafts: list[Draft], events: Taker[Event]) -> Iterator[Encoded]:
        """Those that are known already, and those of the texts of the others."""
        known = [draft for draft in drafts if draft.vector is not None]
        if known:
            rows = [draft.vector for draft in known if draft.vector is not None]
            batch = SparseBatch.from_rows(rows, len(self._context.encoder.vocabulary))
            yield Encoded(known, batch)
        yield from self.encode([d for d in drafts if d.vector is None], events)

    def encode(self, drafts: list[Draft], events: Taker[Event]) -> Iterator[Encoded]:
        if not drafts:
            return
        todo = dict.fromkeys(range(len(drafts)))
        tokens = [draft.ids for draft in drafts if draft.ids is not None]
        try:
            for positions, batch in self._context.encoder.encode_batches(tokens):
                for i in positions:
                    del todo[i]
                yield Encoded([drafts[i] for i in positions], batch)
        except EncoderProcessError:
            raise
        except EncodingError as error:
            if len(drafts) == 1:
                events.put(Failed(drafts[0].record, error.message))
                return
            # one of them is the culprit: it is found by halves, the rest goes on
            left = [drafts[i] for i in todo]
            middle = max(1, len(left) // 2)
            yield from self.encode(left[:middle], events)
            yield from self.encode(left[middle:], events)
