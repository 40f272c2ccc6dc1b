"""The chain: records → tokens → vectors → parcels → outcomes → report. Each stage runs in a
thread of its own; bounded queues between them carry back-pressure up to the reader."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

from splade_os.encoding import DocumentEncoder
from splade_os.engines import Engine
from splade_os.errors import InputError, SpladeError
from splade_os.ingest.accounts import Accounts
from splade_os.ingest.channel import AbortedError, Channel, Flow
from splade_os.ingest.dead_letters import DeadLetters
from splade_os.ingest.digests import Digests
from splade_os.ingest.flights import Flights
from splade_os.ingest.ledger import Ledger
from splade_os.ingest.load_settings import loading
from splade_os.ingest.parcel import Bulk, Dead, Event
from splade_os.ingest.patience import Patience
from splade_os.ingest.preparing import Draft, Encoded, Preparation
from splade_os.ingest.records import DEFAULT_TEXT_FIELDS, Record, Rejected
from splade_os.ingest.report import IngestOptions, IngestReport
from splade_os.ingest.sending import Sender
from splade_os.ingest.statistics import add_to_index, start_counting
from splade_os.ingest.syncing import delete_absent
from splade_os.ingest.target import ensure_index
from splade_os.ingest.throttle import Throttle
from splade_os.ingest.verifying import check_sample

__all__ = ["IngestOptions", "IngestReport", "ingest_documents"]

_TICK = 0.2  # seconds between two looks at the threads, and two reports of progress


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

    Raises:
        ModelMismatchError, IndexFormatError: the index is not for this encoder.
        IngestError: it was stopped (too many errors, no answer from the cluster, no writing
            possible); what was acknowledged is in the ledger.
        EngineError: the engine failed as a whole.
        InputError: the source broke off; what came before is indexed.
    """
    options = options or IngestOptions()
    fields = tuple(text_fields)
    if ledger is None:
        ledger = Ledger()
        ledger.begin(None, index, Path(dead_letters))
    try:
        engine.info()  # a wrong URL is told at once, not after the patience is spent
        start = time.monotonic()
        flow = Flow()
        patience = Patience(engine, flow, options.patience)
        meta = ensure_index(engine, index, encoder.identity, fields, field_type)
        start_counting(engine, index, encoder.identity.vocabulary_size)
        if ledger.fresh:
            patience.call(lambda: engine.refresh(index))
            ledger.set_count_before(patience.call(lambda: engine.count(index)))
        progress = ledger.load(encoder.identity.vocabulary_size)
        add_to_index(engine, index, progress, ledger)  # what a killed run had counted
        letters = DeadLetters(dead_letters, ledger.index, progress.letters if ledger.done else None)
        flights = Flights(flow)
        accounts = Accounts(progress, ledger, letters, flights, options)
        throttle = Throttle(options.concurrency, options.max_bytes)
        preparation = Preparation(
            encoder=encoder,
            engine=engine,
            index=index,
            meta=meta,
            options=options,
            digests=Digests(encoder.identity, ledger.run),
            flow=flow,
            patience=patience,
            throttle=throttle,
            flights=flights,
            look_up=ledger.count_before > 0,
        )
        sender = Sender(
            engine,
            index,
            flow=flow,
            throttle=throttle,
            patience=patience,
            run=ledger.run,
            text_fields=fields,
            tokens=preparation.plain_tokens,
        )
        run = _Run(preparation, sender, accounts, throttle, start, on_progress)
        wanted = options.load_settings
        load = wanted == "on" or (wanted == "auto" and not ledger.count_before)
        with letters, _interruptible(flow):
            with loading(engine, index) if load else nullcontext():
                run.go(iter(records))
                if flow.error is not None:
                    if ledger.job is None:  # nobody will come back to it
                        with suppress(SpladeError):
                            add_to_index(engine, index, progress, ledger)
                    raise flow.error
                interrupted = flow.halted.is_set()
                whole = not interrupted and flow.source_error is None
                patience.call(lambda: engine.refresh(index))
                if options.sync and whole:
                    deleted = delete_absent(engine, index, ledger, accounts, preparation)
                    progress.counters["deleted"] += deleted
                    patience.call(lambda: engine.refresh(index))
                accounts.save()
                add_to_index(engine, index, progress, ledger)
            report = run.report()
            faults = check_sample(engine, index, accounts.sample, ledger.run, meta)
            report = replace(
                report,
                count_after=patience.call(lambda: engine.count(index)),
                checked=len(accounts.sample),
                faults=tuple(faults),
                interrupted=interrupted,
                read=report.settled if interrupted else report.read,
                seconds=time.monotonic() - start,
            )
        if flow.source_error is not None:
            raise flow.source_error
        if whole:
            ledger.finish()
        return report
    finally:
        ledger.close()


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


@dataclass
class _Run:
    """The threads of one ingest, and the queues between them."""

    preparation: Preparation
    sender: Sender
    accounts: Accounts
    throttle: Throttle
    start: float
    on_progress: Callable[[IngestReport], None] | None
    read: int = 0

    def __post_init__(self) -> None:
        flow, options = self.preparation.flow, self.preparation.options
        self.events: Channel[Event] = Channel(flow, 1000)
        self.windows: Channel[list[Record]] = Channel(flow, 2)
        self.drafts: Channel[list[Draft]] = Channel(flow, 2)
        self.encoded: Channel[Encoded] = Channel(flow, 32)
        self.bulks: Channel[Bulk] = Channel(flow, 1, readers=options.concurrency)
        self._known = sum(
            self.accounts.progress.counters[name]
            for name in ("created", "updated", "unchanged", "dead")
        )

    def go(self, records: Iterator[Record | Rejected]) -> None:
        """Run until everything is settled, halted or aborted. Never raises: see the flow."""
        flow, preparation = self.preparation.flow, self.preparation
        stages: dict[str, Callable[[], None]] = {
            "read": lambda: self._read(records),
            "tokenise": lambda: preparation.tokenise(self.windows, self.drafts, self.events),
            "encode": lambda: preparation.encode(self.drafts, self.encoded, self.events),
            "render": lambda: preparation.render(self.encoded, self.bulks, self.events),
        }
        for number in range(preparation.options.concurrency):
            stages[f"send-{number}"] = lambda: self.sender.work(self.bulks, self.events)
        threads = [flow.start(name, work) for name, work in stages.items()]
        reported = 0.0
        try:
            while True:
                alive = any(thread.is_alive() for thread in threads)
                event = self.events.get(timeout=_TICK)
                if event is not None:
                    self.accounts.take(event)
                elif not alive:
                    break
                if self.on_progress and time.monotonic() - reported > _TICK:
                    reported = time.monotonic()
                    self.on_progress(self.report())
        except AbortedError:
            pass
        except BaseException as error:
            flow.abort(error)
        finally:
            self._save()
        if self.on_progress:
            self.on_progress(self.report())

    def _save(self) -> None:
        try:
            self.accounts.save()
        except BaseException as error:
            self.preparation.flow.abort(error)

    def _read(self, records: Iterator[Record | Rejected]) -> None:
        flow, done = self.preparation.flow, self.accounts.progress.positions
        size = self.preparation.options.window
        known = set(done.above)  # settled by the run that this one goes on with
        try:
            while not flow.halted.is_set():
                window = list(islice(records, size))
                if not window:
                    break
                items = [item for item in window if item.position not in known]
                for item in items:
                    if isinstance(item, Rejected):
                        self.events.put(Dead(item, item.reason))
                self.read += len(items)
                good = [item for item in items if isinstance(item, Record)]
                if good:
                    self.windows.put(good)
        except InputError as error:
            flow.source_error = error
        self.windows.close()

    def report(self) -> IngestReport:
        """So far."""
        accounts, preparation = self.accounts, self.preparation
        counters: dict[str, Any] = dict(accounts.progress.counters)
        counters["read"] = self._known + self.read
        counters["encoded"] = self._known + preparation.encoded
        counters["tokens"] = preparation.tokens
        letters = accounts.letters.file
        return IngestReport(
            index=preparation.index,
            count_before=accounts.ledger.count_before,
            seconds=time.monotonic() - self.start,
            queues={
                "tokenise": len(self.windows),
                "encode": len(self.drafts),
                "render": len(self.encoded),
                "send": len(self.bulks),
            },
            requests=self.throttle.under_way,
            dead_letters=letters if counters["dead"] else None,
            **counters,
        )
