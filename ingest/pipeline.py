"""The chain: records → tokens → vectors → bulk items → outcomes → report. Each stage runs in a
thread of its own; bounded queues between them carry back-pressure up to the reader."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from splade_os.encoding import DocumentEncoder
from splade_os.engines import Engine, IndexMeta
from splade_os.errors import IngestError, SpladeError
from splade_os.ingest.documents.records import DEFAULT_TEXT_FIELDS, Record, Rejected
from splade_os.ingest.documents.stamps import Stamper
from splade_os.ingest.index.average_length import settle
from splade_os.ingest.index.leftovers import leave_nothing, note_new_index, remove_empty_index
from splade_os.ingest.index.load_settings import loading
from splade_os.ingest.index.load_state import note_whole
from splade_os.ingest.index.same_index import note_index, require_same_index
from splade_os.ingest.index.sync import delete_absent
from splade_os.ingest.index.target import ensure_index
from splade_os.ingest.index.verify import check_meta, check_sample
from splade_os.ingest.log import log, log_report
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.report import IngestReport
from splade_os.ingest.runner import PipelineRunner, Runner, RunnerFactory
from splade_os.ingest.runtime.cancellation import AbortedError, Cancellation, interruptible
from splade_os.ingest.runtime.in_flight import InFlightIds
from splade_os.ingest.runtime.limiter import AdaptiveLimiter
from splade_os.ingest.runtime.retry_policy import RetryPolicy
from splade_os.ingest.stages.context import StageContext
from splade_os.ingest.state.checkpoint import Checkpoint
from splade_os.ingest.state.dead_letters import DeadLetters
from splade_os.ingest.state.results import ResultRecorder
from splade_os.ingest.state.statistics import LEASE, end_count, save_count

__all__ = ["IngestOptions", "IngestReport", "ingest_documents"]


def ingest_documents(
    records: Iterable[Record | Rejected],
    *,
    engine: Engine,
    index: str,
    encoder: DocumentEncoder,
    dead_letters: str | Path,
    text_fields: Iterable[str] = DEFAULT_TEXT_FIELDS,
    options: IngestOptions | None = None,
    checkpoint: Checkpoint | None = None,
    on_progress: Callable[[IngestReport], None] | None = None,
    field_type: str | None = None,
    check: Callable[[], Sequence[str]] | None = None,
    begun: Callable[[], None] | None = None,
    publish: Callable[[IngestReport], IngestReport] | None = None,
    target: str | None = None,
    make_runner: RunnerFactory = PipelineRunner,
) -> IngestReport:
    """Encode records and write them into an index, which is made if it is missing.

    Streams: what is in memory at a time is bounded (a few windows of documents, and the bulk
    requests under way). A document is indexed, or it stands in the dead letters. At the end
    the index is refreshed and counted, a sample is read back and searched for, and the term
    statistics (for IDF queries) are brought up to date.

    On the main thread, the first Ctrl-C (or SIGTERM) finishes what is under way and returns a
    report that is ``interrupted``; the second one raises KeyboardInterrupt.

    Args:
        records: of a source (`splade_os.ingest.sources.read_source`), their positions counting
            up by one, from 1 or from where the checkpoint ends.
        engine, index: where to.
        encoder: what encodes them; an index made by another one is refused.
        dead_letters: file for what cannot be indexed.
        text_fields: fields of the index that hold the text.
        options: how it runs.
        checkpoint: by which it can be resumed; closed at the end.
        on_progress: called several times a second with the report so far.
        field_type: of a new index: how vectors are stored; default the engine's first.
        check: called when everything is loaded; says what is wrong with the index. The checkpoint
            is kept then, so that a resumed ingest has nothing to do but check again.
        begun: called when the index is there, before anything is written.
        publish: called with the report when everything is loaded, verified and checked; makes it
            live, and says so in the report. The checkpoint is kept until then: if it fails, a
            resumed ingest only does it again.
        target: what dead letters name, for a later retry: the alias that ``index`` is built
            for; default ``index``.
        make_runner: of what runs the chain; default threads of this process.

    Raises:
        ModelMismatchError, IndexFormatError: the index is not for this encoder.
        IngestError: it was stopped (too many errors, no answer from the cluster, no writing
            possible); what was acknowledged is in the checkpoint. A run that indexed nothing
            leaves nothing: no checkpoint, no index.
        EngineError: the engine failed as a whole.
        InputError: the source broke off; what came before is indexed.
    """
    options = options or IngestOptions()
    if encoder.identity.external:  # nothing counts terms
        options = replace(options, count_terms=False)
    fields = tuple(text_fields)
    cancellation = Cancellation()
    if checkpoint is None:
        checkpoint = Checkpoint()
        checkpoint.begin(None, index, Path(dead_letters))
    letters = DeadLetters(dead_letters, target or index, checkpoint.run)
    runner: Runner | None = None
    try:
        with interruptible(cancellation), letters:
            engine.info()  # a wrong URL is told at once, not after all retries
            require_same_index(engine, index, checkpoint)
            note_new_index(engine, index, checkpoint)
            log(
                logging.INFO,
                "start",
                f"Ingesting into {index} at {engine.url}, encoding with {encoder.identity.name}.",
                index=index,
                url=engine.url,
                model=encoder.identity.name,
                resumed=checkpoint.resumed,
            )
            records = settle(engine, index, encoder, iter(records), cancellation.halted.is_set)
            meta = ensure_index(
                engine,
                index,
                encoder.identity,
                fields,
                field_type,
                options.vector_field,
                options.content_field,
                left_open=encoder.left_open,
                layout=options.layout,
            )
            encoder.adopt(meta.model)
            note_index(engine, index, checkpoint)
            if begun is not None:
                begun()
            runner = _assemble(
                engine,
                index,
                encoder,
                meta,
                options,
                cancellation,
                checkpoint,
                letters,
                on_progress,
                make_runner,
            )
            wanted = options.load_settings
            fast = wanted == "on" or (wanted == "auto" and not checkpoint.count_before)
            call = runner.context.retry_policy.call
            with loading(engine, index, checkpoint.name, call, settings=fast) as guard:
                runner.run(records, guard)
                if cancellation.error is not None:
                    raise cancellation.error
                interrupted = cancellation.halted.is_set()
                whole = not interrupted and cancellation.source_error is None
                require_same_index(engine, index, checkpoint)
                lag = _finish(engine, index, checkpoint, runner, sync=options.sync and whole)
            report = _verified(engine, index, checkpoint, runner, meta, interrupted)
            report = replace(report, statistics_lag=lag)
        if cancellation.source_error is not None:
            raise cancellation.source_error
        if not runner.results.progress.indexed and (whole or interrupted):
            report = replace(report, removed=remove_empty_index(engine, index, checkpoint))
            checkpoint.finish()
            log_report("end", report)
            return report
        if whole and check is not None:
            report = replace(report, lost_canaries=tuple(check()))
        if whole and not report.lost_canaries:
            if report.verified:
                if publish is not None:
                    report = publish(report)
                else:
                    note_whole(engine, index, report.count_after)
            checkpoint.finish()
        log_report("end", report)
        return report
    except BaseException as error:
        if isinstance(error, AbortedError):
            error = cancellation.error or KeyboardInterrupt()
        reason = error.message if isinstance(error, SpladeError) else repr(error)
        log(logging.ERROR, "failed", reason, index=index)
        if runner is not None and options.count_terms:  # it is not under way any more
            with suppress(IngestError):
                require_same_index(engine, index, checkpoint)
                save_count(engine, index, runner.results.progress.count(checkpoint.run))
        if runner is None or runner.indexed_nothing:
            leave_nothing(engine, index, checkpoint, letters, error)
        raise error from error.__cause__
    finally:
        checkpoint.close()


def _assemble(
    engine: Engine,
    index: str,
    encoder: DocumentEncoder,
    meta: IndexMeta,
    options: IngestOptions,
    cancellation: Cancellation,
    checkpoint: Checkpoint,
    letters: DeadLetters,
    on_progress: Callable[[IngestReport], None] | None,
    make_runner: RunnerFactory,
) -> Runner:
    retry_policy = RetryPolicy(engine, cancellation, options.patience)
    if checkpoint.fresh:
        retry_policy.call(lambda: engine.refresh(index))
        checkpoint.set_count_before(retry_policy.call(lambda: engine.count(index)))
    progress = checkpoint.load(encoder.identity.vocabulary_size)
    if checkpoint.resumed:
        letters.forget(progress.positions)

    def under_way() -> None:
        save_count(engine, index, progress.count(checkpoint.run, time.time() + LEASE))

    context = StageContext(
        encoder=encoder,
        engine=engine,
        index=index,
        meta=meta,
        options=options,
        stamper=Stamper(encoder.identity, checkpoint.run),
        cancellation=cancellation,
        retry_policy=retry_policy,
        limiter=AdaptiveLimiter(options.concurrency, options.max_bytes),
        in_flight=InFlightIds(cancellation),
        look_up=checkpoint.count_before > 0,
        check_index=lambda: require_same_index(engine, index, checkpoint),
    )
    results = ResultRecorder(progress, checkpoint, letters, context.in_flight, options)
    if not options.count_terms:
        return make_runner(context, results, on_progress, None)
    under_way()
    return make_runner(context, results, on_progress, (LEASE / 3, under_way))


def _finish(
    engine: Engine, index: str, checkpoint: Checkpoint, runner: Runner, *, sync: bool
) -> str | None:
    """Make everything searchable, delete what is gone, bring the statistics up to date; says what
    is not right with these."""
    call, results = runner.context.retry_policy.call, runner.results
    call(lambda: engine.refresh(index))
    if sync:
        deleted = delete_absent(engine, index, checkpoint, results)
        results.progress.counters["deleted"] += deleted
        call(lambda: engine.refresh(index))
    results.save()
    if not runner.context.options.count_terms:
        return None
    encoder, meta = runner.context.encoder, runner.context.meta
    return end_count(engine, index, checkpoint.run, results.progress, encoder, meta)


def _verified(
    engine: Engine,
    index: str,
    checkpoint: Checkpoint,
    runner: Runner,
    meta: IndexMeta,
    interrupted: bool,
) -> IngestReport:
    sample, report = runner.results.sample, runner.report()
    call = runner.context.retry_policy.call
    read_back = call(lambda: check_sample(engine, index, sample, checkpoint.run, meta))
    return replace(
        report,
        faults=(
            *call(lambda: check_meta(engine, index, meta)),
            *read_back.faults,
        ),
        checked=read_back.checked,
        count_after=call(lambda: engine.count(index)),
        interrupted=interrupted,
        read=report.settled if interrupted else report.read,
        seconds=time.monotonic() - runner.start,
    )
