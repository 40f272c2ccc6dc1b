"""The runner of a load on Ray: read, encode and send in actors, and add up what they report."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from splade_os.distributed.attempts import Attempts
from splade_os.distributed.cluster import READER_CPUS, RayOptions, keeper, quiet_context
from splade_os.distributed.reading import Connect, Part, WindowReader
from splade_os.distributed.receipts import Receipt, ReceiptRecorder
from splade_os.distributed.throttle import Throttle
from splade_os.distributed.worker import EncoderSpec, EncodeWorker, JobSpec, SendWorker
from splade_os.errors import IngestError
from splade_os.ingest.documents.records import Record, RecordReader, Rejected
from splade_os.ingest.report import IngestReport
from splade_os.ingest.runner import Runner
from splade_os.ingest.sources import Selection
from splade_os.ingest.stages.context import StageContext
from splade_os.ingest.state.results import ResultRecorder

_AN_ERROR = re.compile(r"^[\w.]+(?:Error|Exception): .+", re.M)


@dataclass(frozen=True)
class Input:
    """What a job reads, and how."""

    parts: list[Part]
    reader: RecordReader
    selection: Selection


def encoded_dataset(
    ray: Any,
    options: RayOptions,
    source: Input,
    window: int,
    connect: Connect | None,
    work: Any,
    arguments: dict[str, Any],
) -> tuple[Any, Any]:
    """A dataset of what the actors ``work`` make of windows of records, and the handle of the actor
    that counts their attempts.

    Args:
        work: a class; its instances take a batch of windows.
        arguments: of the class, beside ``attempts`` and ``most``.
    """
    from ray import cloudpickle

    quiet_context(ray)
    attempts = keeper(ray, Attempts)
    parts = [{"part": cloudpickle.dumps(part)} for part in source.parts]
    windows = ray.data.from_items(parts, override_num_blocks=len(parts)).map_batches(
        WindowReader(source.reader, source.selection, window, connect),
        batch_size=1,
        num_cpus=READER_CPUS,
    )
    found = windows.map_batches(
        work,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=options.workers),
        num_cpus=options.cpus,
        num_gpus=options.gpus,
        fn_constructor_kwargs={**arguments, "attempts": attempts, "most": options.attempts},
    )
    return found, attempts


class RayRunner(Runner):
    """Takes the place of the threads of `PipelineRunner`; the load around it is the same.

    Args:
        ray: of `connected`.
        cluster, source, encoder, connect: of the job.
        context, results, on_progress, heartbeat: see `Runner`.
    """

    results: ReceiptRecorder

    def __init__(
        self,
        ray: Any,
        cluster: RayOptions,
        source: Input,
        encoder: EncoderSpec,
        connect: Connect,
        context: StageContext,
        results: ResultRecorder,
        on_progress: Callable[[IngestReport], None] | None = None,
        heartbeat: tuple[float, Callable[[], None]] | None = None,
    ) -> None:
        self._ray, self._cluster, self._source = ray, cluster, source
        self._encoder, self._connect = encoder, connect
        receipts = ReceiptRecorder(
            results.progress,
            results.checkpoint,
            results.dead_letters,
            results.in_flight,
            results.options,
        )
        super().__init__(context, receipts, on_progress, heartbeat)
        self._began = False
        self._came: queue.SimpleQueue[Receipt | BaseException | None] = queue.SimpleQueue()

    def _begin(self, records: Iterator[Record | Rejected], guard: str | None) -> None:
        """The records are read by tasks of the cluster; ``records`` has only been looked into."""
        self._began = True
        threading.Thread(
            target=self._consume, args=(guard,), name="splade-os-ray", daemon=True
        ).start()

    def _take_next(self, seconds: float) -> bool:
        if self.context.cancellation.halted.is_set():
            return False
        try:
            came = self._came.get(timeout=seconds)
        except queue.Empty:
            return True
        if came is not None:
            self._take(came)
        return came is not None

    def _take(self, came: Receipt | BaseException) -> None:
        if isinstance(came, BaseException):
            raise came
        if came.error is not None:
            raise came.error
        if came.source_error is not None:
            self.context.cancellation.source_error = came.source_error
            return
        self.results.add(came)

    def _consume(self, guard: str | None) -> None:
        """Receipts, as they come."""
        from ray import cloudpickle
        from ray.exceptions import RayError

        try:
            for batch in self._receipts(guard).iter_batches(batch_size=None, prefetch_batches=0):
                for packed in batch["receipt"].tolist():
                    self._came.put(cloudpickle.loads(packed))
                if self.context.cancellation.halted.is_set():
                    return
            self._came.put(None)
        except RayError as error:
            hint = (
                "What was acknowledged is in the index. The same command with --resume goes on: "
                "what is there is not encoded again."
            )
            self._came.put(job_error(error, hint))
        except BaseException as error:
            self._came.put(error)

    def _receipts(self, guard: str | None) -> Any:
        ray, cluster, context = self._ray, self._cluster, self.context
        checkpoint, options = self.results.checkpoint, context.options
        job = JobSpec(
            encoder=self._encoder,
            connect=self._connect,
            index=context.index,
            meta=context.meta,
            guard=guard,
            uuid=checkpoint.uuid,
            run=checkpoint.run,
            target=self.results.dead_letters.index or context.index,
            options=replace(options, layout=None),
            look_up=checkpoint.resumed or (options.skip_unchanged and context.look_up),
            resumed=checkpoint.resumed,
        )
        throttle = keeper(ray, Throttle, cluster.writers, options.max_bytes)
        found, attempts = encoded_dataset(
            ray, cluster, self._source, options.window, self._connect, EncodeWorker, {"job": job}
        )
        self._actors = throttle, attempts  # they live as long as somebody has their handles
        return found.map_batches(
            SendWorker,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=cluster.writers),
            num_cpus=READER_CPUS,
            fn_constructor_kwargs={"job": job, "throttle": throttle},
        )

    @property
    def indexed_nothing(self) -> bool:
        """Whether it is known that the index holds no record of this ingest."""
        return not self._began

    def report(self) -> IngestReport:
        """So far: what receipts have said."""
        results, counters = self.results, self.results.progress.counters
        return self._report(
            read=results.read,
            encoded=counters["created"] + counters["updated"],
            hashed=results.hashed,
            exports=dict(results.exports),
            text_fields=dict(results.text_fields),
        )


def job_error(error: BaseException, hint: str) -> IngestError:
    """An error of Ray as one of ours: what was at the bottom of it."""
    # a worker's error comes as the text of its traceback, with Ray's own advice behind it
    found = _AN_ERROR.search(str(error))
    reason = found[0] if found is not None else type(error).__name__
    told = IngestError(f"The job on Ray ended before its time: {reason}", hint=hint)
    told.__cause__ = error
    return told
