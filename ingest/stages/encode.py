"""Token ids → vectors."""

from __future__ import annotations

from collections.abc import Iterator

from splade_os.errors import EncoderProcessError, EncodingError
from splade_os.ingest.runtime.queues import BoundedQueue, Taker
from splade_os.ingest.stages.context import StageContext
from splade_os.ingest.stages.items import Draft, Encoded, Event, Failed
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
                drafts += self._more(windows, self._context.encoder.window - len(first))
            known = [draft for draft in drafts if draft.vector is not None]
            if known:
                rows = [draft.vector for draft in known if draft.vector is not None]
                batch = SparseBatch.from_rows(rows, len(self._context.encoder.vocabulary))
                self.encoded += len(known)
                out.put(Encoded(known, batch))
            for encoded in self.encode([d for d in drafts if d.vector is None], events):
                self.encoded += len(encoded.drafts)
                out.put(encoded)
                if self._context.cancellation.halted.is_set():
                    break
        out.close()

    @staticmethod
    def _more(windows: BoundedQueue[list[Draft]], wanted: int) -> list[Draft]:
        """What waits already: the more texts are sorted by length together, the less padding."""
        drafts: list[Draft] = []
        while len(drafts) < wanted and (window := windows.waiting()) is not None:
            drafts += window
        return drafts

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
