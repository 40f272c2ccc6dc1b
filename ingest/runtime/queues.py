"""Bounded queues between the stages: back-pressure from the cluster up to the reader."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from splade_os.ingest.runtime.cancellation import AbortedError, Cancellation

T = TypeVar("T")
Taken = TypeVar("Taken", contravariant=True)
_TICK = 0.2  # seconds between two looks at whether all is over


class Taker(Protocol[Taken]):
    """What takes things, one at a time: a queue, or a list of them."""

    def put(self, item: Taken) -> None: ...


class Collected(list[T], Generic[T]):
    """A `Taker` that keeps what it takes."""

    def put(self, item: T) -> None:
        self.append(item)


class _End:
    pass


_END = _End()


class BoundedQueue(Generic[T]):
    """A bounded queue: who puts waits while it is full, so that back-pressure reaches the
    reader and memory stays flat.

    Args:
        cancellation: of the pipeline.
        size: items that may wait.
        readers: threads that take from it.
    """

    def __init__(self, cancellation: Cancellation, size: int, readers: int = 1) -> None:
        self._cancellation, self._readers = cancellation, readers
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
        while not self._cancellation.aborted.is_set():
            try:
                return self._queue.put(item, timeout=_TICK)
            except queue.Full:
                continue
        raise AbortedError

    def get(self, timeout: float | None = None) -> T | None:
        """The next item; ``None`` after ``timeout`` seconds without one.

        Raises:
            StopIteration: no more will come.
            AbortedError: the pipeline was aborted.
        """
        waited = 0.0
        while True:
            step = _TICK if timeout is None else min(_TICK, max(0.0, timeout - waited))
            try:
                item = self._queue.get(timeout=step)
            except queue.Empty:
                waited += step
                if self._cancellation.aborted.is_set():
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
