"""Rendered documents → bulk requests → outcomes; what the engine puts off is sent again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_random_exponential

from splade_os.engines import Engine, Outcome
from splade_os.errors import EngineError
from splade_os.ingest.records import Record
from splade_os.vectors import Ids

_PUT_OFF = {429, 502, 503, 504}  # statuses of an item that may go well later
_ATTEMPTS = 8


@dataclass(frozen=True)
class Parcel:
    """A document ready to be sent: its two NDJSON lines, and its token ids."""

    record: Record
    lines: bytes
    tokens: Ids


Acknowledge = Callable[[Parcel, Outcome], None]


class Sender:
    """Sends parcels in bulk requests, one request at a time, beside the caller's own work.

    Args:
        engine, index: where to.
        acknowledge: called once for every parcel with what finally became of it, on the
            caller's thread.
        max_bytes, max_documents: bounds of one request.
        max_seconds: a request is started at the latest after this time, so that a slow encoder
            does not keep what it has done to itself.
    """

    def __init__(
        self,
        engine: Engine,
        index: str,
        acknowledge: Acknowledge,
        *,
        max_bytes: int = 8_000_000,
        max_documents: int = 2_000,
        max_seconds: float = 5.0,
    ) -> None:
        self._engine, self._index, self._acknowledge = engine, index, acknowledge
        self._max_bytes, self._max_documents = max_bytes, max_documents
        self._max_seconds = max_seconds
        self._waiting: list[Parcel] = []
        self._bytes = 0
        self._flushed = time.monotonic()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="splade-os-send")
        self._under_way: tuple[list[Parcel], Future[list[Outcome]]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def put(self, parcel: Parcel) -> None:
        """Take a parcel; starts a request when enough wait."""
        full = (
            self._bytes + len(parcel.lines) > self._max_bytes
            or len(self._waiting) >= self._max_documents
            or time.monotonic() - self._flushed > self._max_seconds
        )
        if self._waiting and full:
            self.flush()
        self._waiting.append(parcel)
        self._bytes += len(parcel.lines)

    def flush(self) -> None:
        """Start a request with all that waits; first settles the one under way."""
        self.settle()
        self._flushed = time.monotonic()
        if self._waiting:
            parcels, self._waiting, self._bytes = self._waiting, [], 0
            self._under_way = parcels, self._pool.submit(self._send, parcels)

    def settle(self) -> None:
        """Wait for the request under way and acknowledge its parcels."""
        if self._under_way is None:
            return
        (parcels, future), self._under_way = self._under_way, None
        for parcel, outcome in zip(parcels, future.result(), strict=True):
            self._acknowledge(parcel, outcome)

    def _send(self, parcels: Sequence[Parcel]) -> list[Outcome]:
        """Outcomes in the order of ``parcels``; only what was put off is sent again."""
        outcomes: list[Outcome | None] = [None] * len(parcels)
        open_ = list(range(len(parcels)))

        def attempt() -> bool:
            nonlocal open_
            body = b"".join(parcels[i].lines for i in open_)
            answers = self._engine.bulk(self._index, body)
            if len(answers) != len(open_):
                raise EngineError(
                    f"The engine answered {len(answers)} of {len(open_)} actions of a bulk request."
                )
            for i, outcome in zip(open_, answers, strict=True):
                outcomes[i] = outcome
            open_ = [i for i, o in zip(open_, answers, strict=True) if o.status in _PUT_OFF]
            return bool(open_)

        Retrying(
            retry=retry_if_result(bool),
            wait=wait_random_exponential(multiplier=0.5, max=30),
            stop=stop_after_attempt(_ATTEMPTS),
            retry_error_callback=lambda state: None,  # what is still put off has its outcome
        )(attempt)
        return [outcome for outcome in outcomes if outcome is not None]
