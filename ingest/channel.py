"""Bounded queues between the stages, and the threads that run them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_TICK = 0.2  # seconds between two looks at whether all is over


class AbortedError(Exception):
    """The flow was aborted: a stage that waits shall end."""


class Flow:
    """What the stages of one ingest share.

    Attributes:
        halted: no new documents; what is under way is finished and saved.
        aborted: nothing more, at once.
        error: why the flow was aborted.
        source_error: why the source broke off (what it gave before is indexed).
    """

    def __init__(self) -> None:
        self.halted = threading.Event()
        self.aborted = threading.Event()
        self.error: BaseException | None = None
        self.source_error: BaseException | None = None

    def abort(self, error: BaseException) -> None:
        """End all stages; the first error stays."""
        if self.error is None:
            self.error = error
        self.halted.set()
        self.aborted.set()

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Run a stage in a thread of its own; its failure aborts the flow."""

        def run() -> None:
            try:
                work()
            except AbortedError:
                pass
            except BaseException as error:
                self.abort(error)

        # a daemon: a second Ctrl-C must not wait for a request that hangs
        threading.Thread(target=run, name=f"splade-os-{name}", daemon=True).start()


class _End:
    pass


_END = _End()


class Channel(Generic[T]):
    """A bounded queue: who puts waits while it is full, so that back-pressure reaches the
    reader and memory stays flat.

    Args:
        flow: of the ingest.
        size: items that may wait.
        readers: threads that take from it.
    """

    def __init__(self, flow: Flow, size: int, readers: int = 1) -> None:
        self._flow, self._readers = flow, readers
        self._queue: queue.Queue[T | _End] = queue.Queue(size)

    def __len__(self) -> int:
        return self._queue.qsize()

    def put(self, item: T) -> None:
        self._put(item)

    def close(self) -> None:
        """No more will come."""
        for _ in range(self._readers):
            self._put(_END)

    def _put(self, item: T | _End) -> None:
        while not self._flow.aborted.is_set():
            try:
                return self._queue.put(item, timeout=_TICK)
            except queue.Full:
                continue
        raise AbortedError

    def get(self, timeout: float | None = None) -> T | None:
        """The next item; ``None`` after ``timeout`` seconds without one.

        Raises:
            StopIteration: no more will come.
            AbortedError: the flow was aborted.
        """
        waited = 0.0
        while True:
            step = _TICK if timeout is None else min(_TICK, max(0.0, timeout - waited))
            try:
                item = self._queue.get(timeout=step)
            except queue.Empty:
                waited += step
                if self._flow.aborted.is_set():
                    raise AbortedError from None
                if timeout is not None and waited >= timeout:
                    return None
                continue
            if isinstance(item, _End):
                raise StopIteration
            return item

    def waiting(self) -> T | None:
        """The next item if one waits, else ``None``."""
        try:
            item = self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(item, _End):
            self._queue.put(item)  # whoever asks next hears of it
            return None
        return item

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                item = self.get()
            except StopIteration:
                return
            if item is not None:
                yield item
