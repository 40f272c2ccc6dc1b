"""The threads of one ingest, and the bounded queues that carry back-pressure up to the reader."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from splade_os.errors import InputError
from splade_os.ingest.accounts import Accounts
from splade_os.ingest.channel import AbortedError, Channel
from splade_os.ingest.parcel import Bulk, Dead, Ended, Event
from splade_os.ingest.preparing import Draft, Encoded, Preparation
from splade_os.ingest.records import Record, Rejected
from splade_os.ingest.report import IngestReport
from splade_os.ingest.sending import Sender

_TICK = 0.2  # seconds between two reports of progress


@dataclass
class Stages:
    """The threads of one ingest, and the queues between them."""

    preparation: Preparation
    sender: Sender
    accounts: Accounts
    on_progress: Callable[[IngestReport], None] | None
    start: float = field(default_factory=time.monotonic)
    read: int = 0

    def __post_init__(self) -> None:
        flow, options = self.preparation.flow, self.preparation.options
        self.events: Channel[Event] = Channel(flow, 1000)
        self.windows: Channel[list[Record]] = Channel(flow, 2)
        ahead = max(2, self.preparation.encoder.window // options.window)
        self.drafts: Channel[list[Draft]] = Channel(flow, ahead)
        self.encoded: Channel[Encoded] = Channel(flow, 32)
        self.bulks: Channel[Bulk] = Channel(flow, 1, readers=options.concurrency)
        self._known = sum(
            self.accounts.progress.counters[name]
            for name in ("created", "updated", "unchanged", "dead")
        )

    def run(self, records: Iterator[Record | Rejected]) -> None:
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
        for name, work in stages.items():
            flow.start(name, partial(self._stage, work))
        running, reported = len(stages), 0.0
        try:
            while running:
                event = self.events.get(timeout=_TICK)
                if isinstance(event, Ended):
                    running -= 1
                elif event is not None:
                    self.accounts.take(event)
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

    def _stage(self, work: Callable[[], None]) -> None:
        work()
        self.events.put(Ended())

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
            requests=preparation.throttle.under_way,
            dead_letters=letters if counters["dead"] else None,
            **counters,
        )
