"""Records → token ids: what the index holds already is left out or reused on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import repeat

from splade_os.errors import EncodingError, InputError
from splade_os.ingest.documents.encoded_rows import EncodedRow
from splade_os.ingest.documents.given_vectors import Row, vector_of, vectors_of
from splade_os.ingest.documents.records import Record
from splade_os.ingest.documents.stamps import stored_stamp
from splade_os.ingest.runtime.queues import BoundedQueue, Taker
from splade_os.ingest.stages.context import StageContext
from splade_os.ingest.stages.items import Draft, Event, Failed, Superseded, Unchanged
from splade_os.vectors import Ids

_COUNTING = ("whole_text", "leading_space", "max_length")
"""Of a `ModelIdentity`: by what rules the tokens of a text are counted."""


class TokenizeStage:
    """Looks records up in the index, where it may hold some, and tokenizes their texts."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self._ids = context.encoder.vocabulary.ids
        self._features: dict[str, int] = {}  # ids of feature names

    def run(
        self,
        windows: BoundedQueue[list[Record]],
        out: BoundedQueue[list[Draft]],
        events: BoundedQueue[Event],
    ) -> None:
        for window in windows:
            if self._context.cancellation.halted.is_set():
                continue  # not begun: it is read again when the ingest is resumed
            self._admit(window, out, events)
        while not self._context.cancellation.halted.is_set() and self._context.in_flight.wait():
            self._admit([], out, events)
        out.close()

    def _admit(
        self, window: list[Record], out: BoundedQueue[list[Draft]], events: BoundedQueue[Event]
    ) -> None:
        admitted = self._context.in_flight.admit(window)
        for each in admitted:
            if each.superseded:
                events.put(Superseded(each.superseded, each.record.position))
        drafts = self.drafts([each.record for each in admitted], events)
        firsts = {each.record.position: each.superseded[0] for each in admitted if each.superseded}
        for draft in drafts if firsts else ():
            if draft.record.position in firsts:
                with suppress(InputError):
                    draft.first = self._context.stamper.of(firsts[draft.record.position])
        if drafts:
            out.put(drafts)

    def drafts(self, records: list[Record], events: Taker[Event]) -> list[Draft]:
        rows = self._rows([record.vector for record in records if record.vector is not None])
        drafts = []
        for record in records:
            row = next(rows) if record.vector is not None else None
            try:
                draft = Draft(record, self._context.stamper.of(record))
                if record.encoded is not None:
                    self._take(draft, record.encoded)
                if record.vector is not None:
                    draft.vector = vector_of(record.vector, self._ids) if row is None else row
            except InputError as error:
                events.put(Failed(record, error.message))
            else:
                drafts.append(draft)
        if self._context.look_up and drafts:
            drafts = self._unknown(drafts, events)
        wanted = [
            d
            for d in drafts
            if (d.vector is None and (d.written is None or self._context.options.count_terms))
            or (d.record.text and d.counted is None and self._context.options.count_terms)
        ]
        texts = [draft.record.text for draft in wanted]
        damaged = set()
        for draft, found in zip(wanted, self._tokenised(texts), strict=True):
            if isinstance(found, EncodingError):
                events.put(Failed(draft.record, found.message))
                damaged.add(draft.record.position)
            else:
                draft.ids, draft.lost = found
        if damaged:
            drafts = [draft for draft in drafts if draft.record.position not in damaged]
        return drafts

    def _take(self, draft: Draft, row: EncodedRow) -> None:
        """Vector and counted tokens of an encoded row; the index may count by another rule."""
        draft.vector = row.ids, row.weights
        mine, theirs = self._context.meta.model, row.record.model
        if all(getattr(mine, name) == getattr(theirs, name) for name in _COUNTING):
            draft.counted = row.tokens

    def _rows(self, vectors: list[Mapping[str, float]]) -> Iterator[Row | None]:
        """`vector_of` of many at once, which costs a third; ``None`` where one of them has to
        be looked at more closely."""
        try:
            return iter(vectors_of(vectors, self._ids))
        except (InputError, KeyError, TypeError, ValueError):
            return repeat(None, len(vectors))

    def _tokenised(self, texts: Sequence[str]) -> list[tuple[Ids, int] | EncodingError]:
        """Token ids and number of tokens cut off, of each text."""
        if not texts:
            return []
        try:
            return [*zip(*self._context.encoder.tokenize_documents(texts), strict=True)]
        except EncodingError as error:
            if len(texts) == 1:
                return [error]
            return [found for text in texts for found in self._tokenised([text])]

    def _unknown(self, drafts: list[Draft], events: Taker[Event]) -> list[Draft]:
        """Mark what exists, and leave out what is the same."""
        hash_field = self._context.meta.hash_field
        ids = [draft.record.id for draft in drafts]
        fields = [
            hash_field,
            *(self._context.meta.text_fields if self._context.options.skip_unchanged else ()),
        ]
        stored = self._context.retry_policy.call(
            lambda: self._context.engine.documents(self._context.index, ids, fields)
        )
        if not stored:
            return drafts
        kept, same, old = [], [], []
        for draft in drafts:
            found = stored.get(draft.record.id)
            mark = None if found is None else stored_stamp(found, hash_field)
            # our own write, of a run that was killed, or of an earlier record of this id: the
            # sender finds out which of the two is right
            if found is None or (mark is not None and mark.run == self._context.stamper.run):
                if self._context.resumed and mark and mark.position == draft.stamp.position:
                    draft.written = mark
                kept.append(draft)
            elif (
                self._context.options.skip_unchanged
                and mark
                and mark.same_document(draft.stamp)
                # the mark says what was written once; another program may have changed it since
                and all(found.get(f) == draft.record.source.get(f) for f in fields[1:])
            ):
                same.append(draft.record)
            else:
                draft.exists, draft.stored = True, mark
                old.append(draft)
                kept.append(draft)
        if same:
            events.put(Unchanged(same))
        if self._context.options.skip_unchanged:
            self._reuse(
                [
                    draft
                    for draft in old
                    if draft.vector is None
                    and (mark := stored_stamp(stored[draft.record.id], hash_field)) is not None
                    and mark.text == draft.stamp.text
                ]
            )
        return kept

    def _reuse(self, drafts: list[Draft]) -> None:
        """The same text in a changed document: its stored vector is still right."""
        if not drafts:
            return
        ids = [draft.record.id for draft in drafts]
        name = self._context.meta.field
        stored = self._context.retry_policy.call(
            lambda: self._context.engine.documents(self._context.index, ids, [name])
        )
        if not self._features:
            names = self._context.encoder.vocabulary.named(self._context.meta.feature_naming)
            self._features.update((name, i) for i, name in enumerate(names))
        for draft in drafts:
            vector = stored.get(draft.record.id, {}).get(name)
            if isinstance(vector, dict):
                draft.vector = vector_of(vector, self._features)

    def plain(self, ids: Ids) -> Ids:
        """What is counted of them, as all texts of this index were."""
        return self._context.encoder.counted(ids, self._context.meta.model)
