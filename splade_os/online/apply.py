"""Changes → bulk actions → results, in one thread.

A whole document is written, and one is deleted, as it is asked for. A partial update goes in
rounds: each reads what is there, decides what to send, and sends it on condition that nothing has
changed in between (``if_seq_no``); what has, goes through another round. So no change of somebody
else is overwritten, and no vector is of another text than the one that is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast
from uuid import uuid4

import orjson

from splade_os.encoding import DocumentEncoder
from splade_os.engines import DocumentRenderer, Engine, IndexMeta, Outcome, StoredDocument
from splade_os.errors import EngineError, IngestError, InputError
from splade_os.ingest.documents.records import Record, stored_text
from splade_os.ingest.documents.stamps import DocumentStamp, Stamper, stored_stamp
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.runtime.cancellation import Cancellation
from splade_os.ingest.runtime.in_flight import InFlightIds
from splade_os.ingest.runtime.limiter import AdaptiveLimiter
from splade_os.ingest.runtime.queues import BoundedQueue
from splade_os.ingest.runtime.retry_policy import RetryPolicy
from splade_os.ingest.stages.context import StageContext
from splade_os.ingest.stages.encode import EncodeStage
from splade_os.ingest.stages.items import BulkItem, BulkResult, Event, Failed
from splade_os.ingest.stages.render import RenderStage
from splade_os.ingest.stages.send import SendStage
from splade_os.ingest.stages.tokenize import TokenizeStage
from splade_os.online.changes import Change, Delete, Enrich, Update, Upsert
from splade_os.online.results import DocumentResult, WriteOutcome
from splade_os.statistics import Count, TermStatistics
from splade_os.text_fields import merged

T = TypeVar("T")
_ROUNDS = 12  # in each somebody else has been faster
_CONFLICT, _MISSING = 409, 404
_EVENTS = 100_000  # one for each document at most


@dataclass(slots=True)
class _Open:
    """A change under way.

    Attributes:
        item: its bulk action, once the vector is known.
        text: of which that vector is.
        clearing: this round only takes the old vector away: a partial update would merge the new
            one into it.
        known: whether the document was one of ours when it was first seen.
    """

    change: Change
    item: BulkItem | None = None
    text: str | None = None
    clearing: bool = False
    known: bool | None = None


class ChangeApplier:
    """Applies changes to one index, by the same stages as an ingest.

    Args:
        engine, index, meta: where.
        encoder: what encodes.
        patience: seconds for which the cluster may not answer, or put documents off.

    Attributes:
        run: of the record in which documents are counted.
        created, empty, changed: what is counted of the documents written (`Count`).
    """

    def __init__(
        self,
        engine: Engine,
        index: str,
        meta: IndexMeta,
        encoder: DocumentEncoder,
        patience: float,
    ) -> None:
        cancellation = Cancellation()
        options = IngestOptions(patience=patience, concurrency=1)
        self._context = StageContext(
            encoder=encoder,
            engine=engine,
            index=index,
            meta=meta,
            options=options,
            stamper=Stamper(encoder.identity, uuid4().hex[:12]),
            cancellation=cancellation,
            retry_policy=RetryPolicy(engine, cancellation, patience),
            limiter=AdaptiveLimiter(1, options.max_bytes),
            in_flight=InFlightIds(cancellation),
            look_up=False,
        )
        self._tokenize = TokenizeStage(self._context)
        self._encode = EncodeStage(self._context)
        self._render = RenderStage(self._context, self._tokenize.plain)
        self._send = SendStage(self._context)
        self._renderer = DocumentRenderer.for_index(encoder.vocabulary, meta)
        self._events: BoundedQueue[Event] = BoundedQueue(cancellation, _EVENTS)
        self._position = 0
        self.meta, self.encoder = meta, encoder
        self.new_run()

    def apply(self, changes: Sequence[Change]) -> list[DocumentResult]:
        """Apply changes in their order: of several of one id each finds what the one before left.

        Raises:
            EngineError: the cluster did not take them. Those that it had taken by then stay.
        """
        results: dict[int, DocumentResult] = {}
        waiting = list(range(len(changes)))
        try:
            while waiting:
                now: dict[str, int] = {}
                for i in waiting:
                    now.setdefault(changes[i].id, i)
                self._settle({i: _Open(changes[i]) for i in now.values()}, results)
                waiting = [i for i in waiting if i not in results]
        except IngestError as error:
            raise EngineError(error.message) from error
        return [results[i] for i in range(len(changes))]

    def patiently(self, request: Callable[[], T]) -> T:
        """A request that is sent again while the cluster does not answer."""
        try:
            return self._context.retry_policy.call(request)
        except IngestError as error:
            raise EngineError(error.message) from error

    def new_run(self) -> None:
        """Begin a new record: what the last one has counted may be part of a recount."""
        self.run = uuid4().hex[:12]
        self.created = TermStatistics.empty(self.encoder.identity.vocabulary_size)
        self.empty = self.changed = 0

    def count(self) -> Count:
        """What was counted, as the record of this writer."""
        return Count(self.run, self.created, self.empty, self.changed)

    def _settle(self, open_: dict[int, _Open], results: dict[int, DocumentResult]) -> None:
        upserts = {i: o.change.record for i, o in open_.items() if isinstance(o.change, Upsert)}
        self._prepare(open_, results, {i: (record, None) for i, record in upserts.items()})
        for _ in range(_ROUNDS):
            left = {i: o for i, o in open_.items() if i not in results}
            if not left:
                return
            self._round(left, results)
        for i, o in open_.items():
            if i not in results:
                reason = "it was changed by others again and again as it was written"
                results[i] = DocumentResult(o.change.id, "failed", reason)

    def _round(self, open_: dict[int, _Open], results: dict[int, DocumentResult]) -> None:
        partial = {i: o for i, o in open_.items() if isinstance(o.change, Update | Enrich)}
        stored = self._stored([o.change.id for o in partial.values()])
        todo: dict[int, tuple[Record, DocumentStamp | None]] = {}
        for i, o in partial.items():
            found = stored.get(o.change.id)
            if found is None:
                results[i] = DocumentResult(o.change.id, "not_found")
                continue
            try:
                self._decide(i, o, found, todo, results)
            except InputError as error:
                results[i] = DocumentResult(o.change.id, "failed", error.message)
        self._prepare(open_, results, todo)
        sent = {
            i: self._action(o, stored.get(o.change.id))
            for i, o in open_.items()
            if i not in results
        }
        if not sent:
            return
        result = BulkResult(list(sent.values()), [Outcome("", 0)] * len(sent))
        self._send.deliver(list(range(len(sent))), result)
        for i, outcome in zip(sent, result.outcomes, strict=True):
            self._done(i, open_[i], outcome, results)

    def _stored(self, ids: list[str]) -> dict[str, StoredDocument]:
        context = self._context
        if not ids:
            return {}
        return context.retry_policy.call(lambda: context.engine.stored(context.index, ids))

    def _decide(
        self,
        i: int,
        o: _Open,
        found: StoredDocument,
        todo: dict[int, tuple[Record, DocumentStamp | None]],
        results: dict[int, DocumentResult],
    ) -> None:
        """What a partial update has to write, now that the document is known."""
        change, own = o.change, self.meta.own_fields
        fields = dict(change.fields) if isinstance(change, Update) else {}
        taken = own.intersection(fields)
        if taken:
            raise InputError(f"the field {min(taken)!r} is one that splade-os writes itself")
        source = merged({n: v for n, v in found.source.items() if n not in own}, fields)
        text = stored_text(source, self.meta.text_fields)
        record = Record(self._next(), "an update", change.id, text, source)
        stamp = self._context.stamper.of(record)
        mark = stored_stamp(found.source, self.meta.hash_field)
        if o.known is None:
            o.known = mark is not None
        vector = found.source.get(self.meta.field)
        fresh = mark is not None and mark.text == stamp.text and (vector or not text)
        if fresh and isinstance(change, Enrich):
            results[i] = DocumentResult(change.id, "unchanged")
            return
        if fresh:  # the vector stays
            document = {**fields, self.meta.hash_field: str(replace(stamp, update=True))}
            o.item = _partial(record, stamp, document)
            return
        o.clearing = bool(vector) and self.meta.impact_max is None
        if o.clearing:
            o.item = _partial(record, stamp, {self.meta.field: [], self.meta.hash_field: ""})
        elif o.item is None or o.text != text:
            todo[i] = replace(record, source=fields), stamp

    def _prepare(
        self,
        open_: dict[int, _Open],
        results: dict[int, DocumentResult],
        todo: Mapping[int, tuple[Record, DocumentStamp | None]],
    ) -> None:
        """Encode and render; a stamp is that of a partial update."""
        if not todo:
            return
        records = [replace(record, position=i) for i, (record, _) in todo.items()]
        drafts = self._tokenize.drafts(records, self._events)
        for draft in drafts:
            stamp = todo[draft.record.position][1]
            if stamp is not None:
                draft.stamp = replace(stamp, update=True)
        for encoded in self._encode.vectors(drafts, self._events):
            for item in self._render.items(encoded, self._renderer, self._events):
                i = item.record.position
                if todo[i][1] is not None:
                    item.lines = b'{"update":{"_id":%s}}\n{"doc":%s}\n' % (
                        orjson.dumps(item.record.id),
                        item.lines.split(b"\n")[1],
                    )
                open_[i].item, open_[i].text = item, item.record.text
        while (event := self._events.waiting()) is not None:
            if isinstance(event, Failed):
                identifier = str(event.record.id)
                results[event.record.position] = DocumentResult(identifier, "failed", event.reason)

    def _action(self, o: _Open, found: StoredDocument | None) -> BulkItem:
        """What is sent; of a partial update on condition that the document is as it was found."""
        if isinstance(o.change, Delete):
            record = Record(self._next(), "a deletion", o.change.id, "", {})
            stamp = DocumentStamp("", "", "", record.position)
            return BulkItem(record, _action_line("delete", o.change.id), None, stamp)
        assert o.item is not None
        item = replace(o.item)
        if found is None:
            item.lines = b'{"index"' + item.lines.removeprefix(b'{"create"')
            return item
        action, rest = item.lines.split(b"\n", 1)
        guard = b',"if_seq_no":%d,"if_primary_term":%d}}\n' % found.version
        item.lines = action[:-2] + guard + rest
        return item

    def _done(self, i: int, o: _Open, outcome: Outcome, results: dict[int, DocumentResult]) -> None:
        partial = isinstance(o.change, Update | Enrich)
        if partial and outcome.status in (_CONFLICT, _MISSING):
            return  # changed in between: the next round sees how
        if outcome.status == _MISSING and isinstance(o.change, Delete):
            results[i] = DocumentResult(o.change.id, "not_found")
        elif not outcome.ok:
            reason = outcome.reason or f"the cluster answered {outcome.status}"
            results[i] = DocumentResult(o.change.id, "failed", reason)
        elif o.clearing:
            o.clearing = False  # and now the new one
        else:
            results[i] = DocumentResult(o.change.id, cast(WriteOutcome, outcome.result))
            self._count(o, new=outcome.result == "created" or (partial and not o.known))

    def _count(self, o: _Open, *, new: bool) -> None:
        tokens = None if o.item is None else o.item.tokens
        if not new:
            self.changed += 1
        elif tokens is None:
            self.empty += 1
        else:
            self.created.count_many([tokens])

    def _next(self) -> int:
        self._position += 1
        return self._position


def _action_line(operation: str, identifier: str) -> bytes:
    return b'{"%s":{"_id":%s}}\n' % (operation.encode(), orjson.dumps(identifier))


def _partial(record: Record, stamp: DocumentStamp, document: Mapping[str, Any]) -> BulkItem:
    """A partial update of these fields.

    Raises:
        InputError: they cannot be written as JSON.
    """
    try:
        body = orjson.dumps({"doc": document})
    except (TypeError, orjson.JSONEncodeError) as error:
        raise InputError(f"the fields cannot be written as JSON: {error}") from None
    return BulkItem(record, _action_line("update", record.id) + body + b"\n", None, stamp)
