"""Records → tokens → vectors → parcels: three stages, each in its own thread."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np

from splade_os.encoding import DocumentEncoder
from splade_os.engines import HASH_FIELD, DocumentRenderer, Engine, IndexMeta
from splade_os.errors import EncoderProcessError, EncodingError, InputError, SpladeError
from splade_os.ingest.channel import Channel, Flow
from splade_os.ingest.digests import Digest, Digests, stored_digest
from splade_os.ingest.flights import Flights
from splade_os.ingest.given_vectors import Row, vector_of, vectors_of
from splade_os.ingest.parcel import Bulk, Dead, Event, Overtaken, Parcel, Unchanged
from splade_os.ingest.patience import Patience
from splade_os.ingest.records import Record
from splade_os.ingest.report import IngestOptions
from splade_os.ingest.sending import stored_text
from splade_os.ingest.throttle import Throttle
from splade_os.vectors import Ids, SparseBatch


@dataclass(slots=True)
class Draft:
    """A record on its way to its vector.

    Attributes:
        record: the document.
        digest: its mark.
        ids: token ids, special ones included; ``None`` if nothing needs them.
        vector: if it is known already.
        exists: whether the index holds a document of this id.
        replaces: token ids of that one.
    """

    record: Record
    digest: Digest
    ids: Ids | None = None
    vector: Row | None = None
    exists: bool = False
    replaces: Ids | None = None


@dataclass(slots=True)
class Encoded:
    """Drafts and their vectors, in the same order."""

    drafts: list[Draft]
    batch: SparseBatch


@dataclass
class Preparation:
    """The stages before the sender.

    Attributes:
        look_up: ask the index for every document first, because it may hold some already.
        encoded, tokens: documents that have got their vector, and tokens of those encoded here.
    """

    encoder: DocumentEncoder
    engine: Engine
    index: str
    meta: IndexMeta
    options: IngestOptions
    digests: Digests
    flow: Flow
    patience: Patience
    throttle: Throttle
    flights: Flights
    look_up: bool
    encoded: int = 0
    tokens: int = 0
    _special: np.ndarray[Any, np.dtype[np.bool_]] = field(init=False)
    _ids: Mapping[str, int] = field(init=False)  # of tokens
    _features: dict[str, int] = field(default_factory=dict)  # ids of feature names

    def __post_init__(self) -> None:
        vocabulary = self.encoder.vocabulary
        self._special = np.zeros(len(vocabulary), bool)
        self._special[list(vocabulary.special_ids)] = True
        self._ids = {token: i for i, token in enumerate(vocabulary.tokens)}

    # tokenise

    def tokenise(
        self, windows: Channel[list[Record]], out: Channel[list[Draft]], events: Channel[Event]
    ) -> None:
        for window in windows:
            if self.flow.halted.is_set():
                continue  # not begun: it is read again when the ingest is resumed
            self._admit(window, out, events)
        while not self.flow.halted.is_set() and self.flights.wait():
            self._admit([], out, events)
        out.close()

    def _admit(
        self, window: list[Record], out: Channel[list[Draft]], events: Channel[Event]
    ) -> None:
        turns = self.flights.admit(window)
        for turn in turns:
            if turn.overtaken:
                events.put(Overtaken(turn.overtaken, turn.record.position))
        drafts = self._drafts([turn.record for turn in turns], events)
        if drafts:
            out.put(drafts)

    def _drafts(self, records: list[Record], events: Channel[Event]) -> list[Draft]:
        rows = self._rows([record.vector for record in records if record.vector is not None])
        drafts = []
        for record in records:
            row = next(rows) if record.vector is not None else None
            try:
                draft = Draft(record, self.digests.of(record))
                if record.vector is not None:
                    draft.vector = vector_of(record.vector, self._ids) if row is None else row
            except InputError as error:
                events.put(Dead(record, error.message))
            else:
                drafts.append(draft)
        if self.look_up and drafts:
            drafts = self._unknown(drafts, events)
        wanted = [d for d in drafts if d.vector is None or (d.record.text and self._counts)]
        texts = [draft.record.text for draft in wanted]
        damaged = set()
        for draft, ids in zip(wanted, self._tokenised(texts), strict=True):
            if isinstance(ids, EncodingError):
                events.put(Dead(draft.record, ids.message))
                damaged.add(draft.record.position)
            else:
                draft.ids = ids
        if damaged:
            drafts = [draft for draft in drafts if draft.record.position not in damaged]
        return drafts

    def _rows(self, vectors: list[Mapping[str, float]]) -> Iterator[Row | None]:
        """`vector_of` of many at once, which costs a third; ``None`` where one of them has to
        be looked at more closely."""
        try:
            return iter(vectors_of(vectors, self._ids))
        except (InputError, KeyError, TypeError, ValueError):
            return repeat(None, len(vectors))

    @property
    def _counts(self) -> bool:
        return self.options.count_terms

    def _tokenised(self, texts: Sequence[str]) -> list[Ids | EncodingError]:
        try:
            return [*self.encoder.tokenize(texts)]
        except EncodingError as error:
            if len(texts) == 1:
                return [error]
            return [ids for text in texts for ids in self._tokenised([text])]

    def _unknown(self, drafts: list[Draft], events: Channel[Event]) -> list[Draft]:
        """Mark what exists, and leave out what is the same."""
        ids = [draft.record.id for draft in drafts]
        fields = [HASH_FIELD, *(self.meta.text_fields if self._counts else ())]
        stored = self.patience.call(lambda: self.engine.documents(self.index, ids, fields))
        if not stored:
            return drafts
        kept, same, old = [], [], []
        for draft in drafts:
            found = stored.get(draft.record.id)
            mark = None if found is None else stored_digest(found)
            # our own write, of a run that was killed, or of an earlier record of this id: the
            # sender finds out which of the two is right
            if found is None or (mark is not None and mark.run == self.digests.run):
                kept.append(draft)
            elif self.options.skip_unchanged and mark and mark.same_document(draft.digest):
                same.append(draft.record)
            else:
                draft.exists = True
                old.append(draft)
                kept.append(draft)
        if same:
            events.put(Unchanged(same))
        if self._counts:
            texts = [stored_text(stored[draft.record.id], self.meta.text_fields) for draft in old]
            for draft, replaced in zip(old, self.plain_tokens(texts), strict=True):
                draft.replaces = replaced
        if self.options.skip_unchanged:
            self._reuse(
                [
                    draft
                    for draft in old
                    if draft.vector is None
                    and (mark := stored_digest(stored[draft.record.id])) is not None
                    and mark.text == draft.digest.text
                ]
            )
        return kept

    def _reuse(self, drafts: list[Draft]) -> None:
        """The same text in a changed document: its stored vector is still right."""
        if not drafts:
            return
        ids = [draft.record.id for draft in drafts]
        name = self.meta.field
        stored = self.patience.call(lambda: self.engine.documents(self.index, ids, [name]))
        if not self._features:
            names = self.encoder.vocabulary.named(self.meta.feature_naming)
            self._features.update((name, i) for i, name in enumerate(names))
        for draft in drafts:
            vector = stored.get(draft.record.id, {}).get(name)
            if isinstance(vector, dict):
                draft.vector = vector_of(vector, self._features)

    def plain_tokens(self, texts: Sequence[str]) -> list[Ids | None]:
        """Token ids without special ones; ``None`` for a text that is empty or damaged."""
        found = self._tokenised(texts) if texts else []
        return [
            None if not text or isinstance(ids, EncodingError) else self._plain(ids)
            for text, ids in zip(texts, found, strict=True)
        ]

    def _plain(self, ids: Ids) -> Ids:
        return ids[~self._special[ids]]

    # encode

    def encode(
        self, windows: Channel[list[Draft]], out: Channel[Encoded], events: Channel[Event]
    ) -> None:
        for first in windows:
            if self.flow.halted.is_set():
                continue
            drafts = [*first]
            if any(draft.vector is None for draft in first):
                drafts += self._more(windows, self.encoder.window - len(first))
            known = [draft for draft in drafts if draft.vector is not None]
            if known:
                rows = [draft.vector for draft in known if draft.vector is not None]
                batch = SparseBatch.from_rows(rows, self.encoder.identity.vocabulary_size)
                self.encoded += len(known)
                out.put(Encoded(known, batch))
            for encoded in self._encoded([d for d in drafts if d.vector is None], events):
                self.encoded += len(encoded.drafts)
                self.tokens += sum(len(d.ids) for d in encoded.drafts if d.ids is not None)
                out.put(encoded)
                if self.flow.halted.is_set():
                    break
        out.close()

    @staticmethod
    def _more(windows: Channel[list[Draft]], wanted: int) -> list[Draft]:
        """What waits already: the more texts are sorted by length together, the less padding."""
        drafts: list[Draft] = []
        while len(drafts) < wanted and (window := windows.waiting()) is not None:
            drafts += window
        return drafts

    def _encoded(self, drafts: list[Draft], events: Channel[Event]) -> Iterator[Encoded]:
        if not drafts:
            return
        todo = dict.fromkeys(range(len(drafts)))
        tokens = [draft.ids for draft in drafts if draft.ids is not None]
        try:
            for positions, batch in self.encoder.encode_batches(tokens):
                for i in positions:
                    del todo[i]
                yield Encoded([drafts[i] for i in positions], batch)
        except EncoderProcessError:
            raise
        except EncodingError as error:
            if len(drafts) == 1:
                events.put(Dead(drafts[0].record, error.message))
                return
            # one of them is the culprit: it is found by halves, the rest goes on
            left = [drafts[i] for i in todo]
            middle = max(1, len(left) // 2)
            yield from self._encoded(left[:middle], events)
            yield from self._encoded(left[middle:], events)

    # render

    def render(self, encoded: Channel[Encoded], out: Channel[Bulk], events: Channel[Event]) -> None:
        """Parcels, put together into requests of the size that the throttle wants."""
        renderer = DocumentRenderer(
            self.encoder.vocabulary, self.meta.field, self.meta.feature_naming
        )
        waiting: list[Parcel] = []
        size, since = 0, time.monotonic()
        while True:
            try:
                found = encoded.get(timeout=0.5)
            except StopIteration:
                break
            for parcel in self._parcels(found, renderer, events) if found is not None else ():
                full = size + len(parcel.lines) > self.throttle.max_bytes
                if waiting and (full or len(waiting) >= self.options.max_documents):
                    out.put(Bulk(waiting, size))
                    waiting, size = [], 0
                if not waiting:
                    since = time.monotonic()
                waiting.append(parcel)
                size += len(parcel.lines)
            if waiting and time.monotonic() - since > self.options.flush_seconds:
                out.put(Bulk(waiting, size))
                waiting, size = [], 0
        if waiting:
            out.put(Bulk(waiting, size))
        out.close()

    def _parcels(
        self, encoded: Encoded, renderer: DocumentRenderer, events: Channel[Event]
    ) -> Iterator[Parcel]:
        documents = [
            (d.record.id, {**d.record.source, HASH_FIELD: str(d.digest)}) for d in encoded.drafts
        ]
        rendered = renderer.render_many(documents, encoded.batch, operation="create")
        terms = encoded.batch.active_dims().tolist()
        for draft, lines, count in zip(encoded.drafts, rendered, terms, strict=True):
            if isinstance(lines, SpladeError):
                events.put(Dead(draft.record, lines.message))
                continue
            tokens = None
            if draft.record.text and draft.ids is not None and self._counts:
                tokens = self._plain(draft.ids)
            parcel = Parcel(draft.record, lines, tokens, draft.digest, draft.replaces, count)
            if draft.exists:
                parcel.update()
            yield parcel
