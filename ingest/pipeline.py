"""The chain: records → tokens → vectors → parcels → outcomes → report. Each stage runs in a
thread of its own; bounded queues between them carry back-pressure up to the reader."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from splade_os.encoding import DocumentEncoder
from splade_os.engines import Engine, IndexMeta
from splade_os.errors import SpladeError
from splade_os.ingest.accounts import Accounts
from splade_os.ingest.channel import AbortedError, Flow
from splade_os.ingest.dead_letters import DeadLetters
from splade_os.ingest.digests import Digests
from splade_os.ingest.flights import Flights
from splade_os.ingest.ledger import Ledger
from splade_os.ingest.load_settings import loading
from splade_os.ingest.patience import Patience
from splade_os.ingest.preparing import Preparation
from splade_os.ingest.records import DEFAULT_TEXT_FIELDS, Record, Rejected
from splade_os.ingest.report import IngestOptions, IngestReport
from splade_os.ingest.sending import Sender
from splade_os.ingest.stages import Stages
from splade_os.ingest.statistics import add_to_index, start_counting
from splade_os.ingest.syncing import delete_absent
from splade_os.ingest.target import ensure_index
from splade_os.ingest.throttle import Throttle
from splade_os.ingest.verifying import check_sample

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
    ledger: Ledger | None = None,
    on_progress: Callable[[IngestReport], None] | None = None,
    field_type: str | None = None,
    check: Callable[[], Sequence[str]] | None = None,
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
            up by one, from 1 or from where the ledger ends.
        engine, index: where to.
        encoder: what encodes them; an index made by another one is refused.
        dead_letters: file for what cannot be indexed.
        text_fields: fields of the index that hold the text.
        options: how it runs.
        ledger: by which it can be resumed; closed at the end.
        on_progress: called several times a second with the report so far.
        field_type: of a new index: how vectors are stored; default the engine's first.
        check: called when everything is loaded; says what is wrong with the index. The ledger is
            kept then, so that a resumed ingest has nothing to do but check again.

    Raises:
        ModelMismatchError, IndexFormatError: the index is not for this encoder.
        IngestError: it was stopped (too many errors, no answer from the cluster, no writing
            possible); what was acknowledged is in the ledger.
        EngineError: the engine failed as a whole.
        InputError: the source broke off; what came before is indexed.
    """
    options = options or IngestOptions()
    fields = tuple(text_fields)
    flow = Flow()
    if ledger is None:
        ledger = Ledger()
        ledger.begin(None, index, Path(dead_letters))
    try:
        with _interruptible(flow), DeadLetters(dead_letters, ledger.index) as letters:
            engine.info()  # a wrong URL is told at once, not after the patience is spent
            meta = ensure_index(engine, index, encoder.identity, fields, field_type)
            stages = _assemble(engine, index, encoder, meta, options, flow, ledger, letters)
            stages.on_progress = on_progress
            wanted = options.load_settings
            load = wanted == "on" or (wanted == "auto" and not ledger.count_before)
            call = stages.preparation.patience.call
            with loading(engine, index, call) if load else nullcontext():
                stages.run(iter(records))
                if flow.error is not None:
                    if ledger.job is None:  # nobody will come back to it
                        with suppress(SpladeError):
                            add_to_index(engine, index, stages.accounts.progress, ledger)
                    raise flow.error
                interrupted = flow.halted.is_set()
                whole = not interrupted and flow.source_error is None
                _settle(engine, index, ledger, stages, sync=options.sync and whole)
            report = _verified(engine, index, ledger, stages, meta, interrupted)
        if flow.source_error is not None:
            raise flow.source_error
        if whole and check is not None:
            report = replace(report, lost_canaries=tuple(check()))
        if whole and not report.lost_canaries:
            ledger.finish()
        return report
    except AbortedError:
        raise flow.error or KeyboardInterrupt from None
    finally:
        ledger.close()


def _assemble(
    engine: Engine,
    index: str,
    encoder: DocumentEncoder,
    meta: IndexMeta,
    options: IngestOptions,
    flow: Flow,
    ledger: Ledger,
    letters: DeadLetters,
) -> Stages:
    patience = Patience(engine, flow, options.patience)
    width = encoder.identity.vocabulary_size
    patience.call(lambda: start_counting(engine, index, width))
    if ledger.fresh:
        patience.call(lambda: engine.refresh(index))
        ledger.set_count_before(patience.call(lambda: engine.count(index)))
    progress = ledger.load(width)
    letters.forget_after(progress.letters)
    add_to_index(engine, index, progress, ledger)  # what a killed run had counted
    preparation = Preparation(
        encoder=encoder,
        engine=engine,
        index=index,
        meta=meta,
        options=options,
        digests=Digests(encoder.identity, ledger.run),
        flow=flow,
        patience=patience,
        throttle=Throttle(options.concurrency, options.max_bytes),
        flights=Flights(flow),
        look_up=ledger.count_before > 0,
    )
    sender = Sender(
        engine,
        index,
        flow=flow,
        throttle=preparation.throttle,
        patience=patience,
        run=ledger.run,
        text_fields=meta.text_fields,
        tokens=preparation.plain_tokens,
    )
    accounts = Accounts(progress, ledger, letters, preparation.flights, options)
    return Stages(preparation, sender, accounts, None)


def _settle(engine: Engine, index: str, ledger: Ledger, stages: Stages, *, sync: bool) -> None:
    """Make everything searchable, delete what is gone, bring the statistics up to date."""
    call, accounts = stages.preparation.patience.call, stages.accounts
    call(lambda: engine.refresh(index))
    if sync:
        deleted = delete_absent(engine, index, ledger, accounts, stages.preparation)
        accounts.progress.counters["deleted"] += deleted
        call(lambda: engine.refresh(index))
    accounts.save()
    call(lambda: add_to_index(engine, index, accounts.progress, ledger))


def _verified(
    engine: Engine,
    index: str,
    ledger: Ledger,
    stages: Stages,
    meta: IndexMeta,
    interrupted: bool,
) -> IngestReport:
    sample, report = stages.accounts.sample, stages.report()
    call = stages.preparation.patience.call
    return replace(
        report,
        faults=tuple(call(lambda: check_sample(engine, index, sample, ledger.run, meta))),
        checked=len(sample),
        count_after=call(lambda: engine.count(index)),
        interrupted=interrupted,
        read=report.settled if interrupted else report.read,
        seconds=time.monotonic() - stages.start,
    )


@contextmanager
def _interruptible(flow: Flow) -> Iterator[None]:
    """Ctrl-C and SIGTERM: once = finish what is under way; twice = stop at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if flow.halted.is_set():
            flow.abort(KeyboardInterrupt())
        flow.halted.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before: list[Any] = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
