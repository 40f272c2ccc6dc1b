"""What the actors of a job do: encode windows, send what came of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from splade_os.distributed.attempts import guarded
from splade_os.distributed.reading import Connect
from splade_os.distributed.receipts import ReadCounts, Receipt, receipt_of
from splade_os.distributed.throttle import SharedLimiter
from splade_os.encoding import DocumentEncoder
from splade_os.engines import DocumentRenderer, Engine, IndexMeta, Outcome
from splade_os.errors import ModelMismatchError, SpladeError
from splade_os.identity import ModelIdentity
from splade_os.ingest.documents.encoded_rows import EncodingRecord, encoder_of
from splade_os.ingest.documents.records import Record, Rejected
from splade_os.ingest.documents.stamps import Stamper
from splade_os.ingest.index.same_index import require_same_index
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.runtime.cancellation import Cancellation
from splade_os.ingest.runtime.in_flight import InFlightIds
from splade_os.ingest.runtime.limiter import AdaptiveLimiter
from splade_os.ingest.runtime.queues import Collected
from splade_os.ingest.runtime.retry_policy import RetryPolicy
from splade_os.ingest.stages.context import StageContext
from splade_os.ingest.stages.encode import EncodeStage
from splade_os.ingest.stages.items import BulkItem, BulkResult, Draft, Event, Failed
from splade_os.ingest.stages.read import ReadStage
from splade_os.ingest.stages.render import RenderStage
from splade_os.ingest.stages.send import SendStage
from splade_os.ingest.stages.tokenize import TokenizeStage
from splade_os.ingest.state.checkpoint import Checkpoint
from splade_os.ingest.state.progress import OffsetTracker

POISON = (
    "the process that encoded it ended {} times, with this document alone (out of memory, or a "
    "fault of a native library)"
)


@dataclass(frozen=True)
class EncoderSpec:
    """How a worker gets the encoder that the driver has.

    Attributes:
        model: folder or name; the same on every node.
        running: ``device``, ``dtype``, ``backend``, ``batch_tokens``.
        identity: that the encoder must have, all that is measured included.
        encoding: of documents that are encoded already; nothing is loaded but a vocabulary then.
    """

    model: str
    running: dict[str, Any]
    identity: ModelIdentity
    encoding: EncodingRecord | None = None

    def load(self) -> DocumentEncoder:
        """Raises ModelMismatchError: what lies under that name on this node is another model."""
        if self.encoding is not None:
            return encoder_of(self.encoding, self.model)
        options = self.identity.options().model_dump()
        encoder = DocumentEncoder.load(self.model, **self.running, **options)
        difference = self.identity.difference(encoder.identity)
        if difference:
            raise ModelMismatchError(
                f"The model {self.model} of a worker is not that of the driver: {difference}.",
                hint="Every node needs the same model: in the image, on a shared file system, or "
                "by its name on the hub.",
            )
        encoder.identity, encoder.left_open = self.identity, frozenset()
        return encoder


@dataclass(frozen=True)
class JobSpec:
    """What every actor of one load knows.

    Attributes:
        connect: opens the engine.
        index, meta: that is written to.
        guard, uuid: the alias that guards it, and which index it is.
        run: of the marks.
        target: that dead letters name.
        look_up, resumed: see `StageContext`.
    """

    encoder: EncoderSpec
    connect: Connect
    index: str
    meta: IndexMeta
    guard: str | None
    uuid: str | None
    run: str
    target: str
    options: IngestOptions
    look_up: bool
    resumed: bool

    def context(
        self, encoder: DocumentEncoder, engine: Engine, limiter: AdaptiveLimiter
    ) -> StageContext:
        """Of the stages: those of a load on one machine, called one after the other."""
        cancellation = Cancellation()
        checkpoint = Checkpoint()
        checkpoint.uuid = self.uuid
        return StageContext(
            encoder=encoder,
            engine=engine,
            index=self.index,
            meta=self.meta,
            options=self.options,
            stamper=Stamper(self.encoder.identity, self.run),
            cancellation=cancellation,
            retry_policy=RetryPolicy(engine, cancellation, self.options.patience),
            limiter=limiter,
            in_flight=InFlightIds(cancellation),
            look_up=self.look_up,
            several=True,
            resumed=self.resumed,
            check_index=lambda: require_same_index(engine, self.index, checkpoint),
        )


@dataclass
class Work:
    """A window on its way to a writer."""

    events: list[Event] = field(default_factory=list)
    items: list[BulkItem] = field(default_factory=list)
    read: ReadCounts = field(default_factory=ReadCounts)
    error: SpladeError | None = None
    source_error: SpladeError | None = None


class EncodeWorker:
    """An actor: windows of records → bulk items."""

    def __init__(self, job: JobSpec, attempts: Any, most: int) -> None:
        self._attempts, self._most = attempts, most
        self._failed: SpladeError | None = None
        try:
            encoder = job.encoder.load()
            engine = job.connect()
        except SpladeError as error:  # an actor that cannot start is started again for ever
            self._failed = error
            return
        options = job.options
        limiter = AdaptiveLimiter(1, options.max_bytes)
        self._context: StageContext = job.context(encoder, engine, limiter)
        self._tokenize, self._encode = TokenizeStage(self._context), EncodeStage(self._context)
        self._render = RenderStage(self._context, self._tokenize.plain)
        self._renderer = DocumentRenderer.for_index(encoder.vocabulary, job.meta)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        from ray import cloudpickle

        return {"work": [cloudpickle.dumps(w) for w in self._work_of(batch["window"].tolist())]}

    def _work_of(self, windows: Sequence[bytes]) -> list[Work]:
        from ray import cloudpickle

        found: list[Work] = []
        for packed in windows:
            if self._failed is not None:
                found.append(Work(error=self._failed))
                continue
            items = cloudpickle.loads(packed)
            if items and isinstance(items[-1], SpladeError):
                found.append(Work(source_error=items.pop()))
            found += guarded(self._attempts, self._most, items, self._work, self._poison)
        return found

    def _work(self, window: Sequence[Record | Rejected]) -> Work:
        try:
            return self.work(window)
        except SpladeError as error:
            return Work(error=error)

    def _poison(self, item: Record | Rejected) -> Work:
        reading = ReadStage(self._context, OffsetTracker())
        reading.take([item], Collected())
        reason = POISON.format(self._most)
        return Work([Failed(item, reason)], read=_counts(reading))

    def work(self, window: Sequence[Record | Rejected]) -> Work:
        """The stages of the chain up to the sender, one after the other."""
        events: Collected[Event] = Collected()
        reading = ReadStage(self._context, OffsetTracker())
        records = reading.take(list(window), events)
        drafts = self._tokenize.drafts(records, events)
        there = [draft for draft in drafts if draft.written is not None]
        if there:
            events.put(self._written(there))
        todo = [draft for draft in drafts if draft.written is None]
        items = [
            item
            for part in self._encode.vectors(todo, events)
            for item in self._render.items(part, self._renderer, events)
        ]
        return Work(list(events), items, _counts(reading))

    def _written(self, drafts: Sequence[Draft]) -> BulkResult:
        """What an earlier process of this run has written: acknowledged, and counted."""
        items, outcomes = [], []
        for draft in drafts:
            mark = draft.written
            assert mark is not None
            tokens = draft.counted
            if draft.ids is not None and draft.record.text:
                tokens = self._tokenize.plain(draft.ids)
            # (its vector is in the index: what is known here is whether it can have one)
            terms = len(draft.vector[0]) if draft.vector else 0 if tokens is None else len(tokens)
            items.append(BulkItem(draft.record, b"", tokens, mark, terms))
            result = (200, "updated") if mark.update else (201, "created")
            outcomes.append(Outcome(draft.record.id, *result))
        return BulkResult(items, outcomes)


def _counts(reading: ReadStage) -> ReadCounts:
    return ReadCounts(reading.read, reading.hashed, reading.exports, Counter(reading.fields()))


class SendWorker:
    """An actor: bulk items → receipts, one bulk request at a time."""

    def __init__(self, job: JobSpec, throttle: Any) -> None:
        import ray

        self._job = job
        engine = job.connect()
        # the same after it was killed and started again, so that its place is not lost
        name = ray.get_runtime_context().get_actor_id()
        self._limiter = SharedLimiter(throttle, name, job.options.max_bytes)
        # of a model, a sender needs nothing
        context = job.context(None, engine, self._limiter)  # type: ignore[arg-type]
        self._send = SendStage(context)
        self._send.guard = job.guard

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        from ray import cloudpickle

        found = [self._receipt(cloudpickle.loads(packed)) for packed in batch["work"].tolist()]
        return {"receipt": [cloudpickle.dumps(receipt) for receipt in found]}

    def _receipt(self, work: Work) -> Receipt:
        if work.error is not None or work.source_error is not None:
            return Receipt(error=work.error, source_error=work.source_error)
        job = self._job
        events = list(work.events)
        try:
            events += map(self._send.send, self._requests(work.items))
        except SpladeError as error:
            return Receipt(error=error)
        width = job.encoder.identity.vocabulary_size
        return receipt_of(events, work.read, width, job.target, job.run, job.options)

    def _requests(self, items: Sequence[BulkItem]) -> list[list[BulkItem]]:
        requests: list[list[BulkItem]] = []
        size = 0
        for item in items:
            full = requests and len(requests[-1]) >= self._job.options.max_documents
            if not requests or full or size + len(item.lines) > self._limiter.max_bytes:
                requests.append([])
                size = 0
            requests[-1].append(item)
            size += len(item.lines)
        return requests
