"""Bounded queues between the stages: back-pressure from the cluster up to the reader."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
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


class BoundedQueue(Generic[T]):
    """A bounded queue: who puts waits while it is full, so that back-pressure reaches the
    reader and memory stays flat.

    Args:
        cancellation: of the pipeline.
        size: items that may wait.
        max_bytes: memory of the items that may wait; one always may, whatever it takes.
        memory: bytes that an item takes.
    """

    def __init__(
        self,
        cancellation: Cancellation,
        size: int,
        max_bytes: int = 0,
        memory: Callable[[T], int] | None = None,
    ) -> None:
        self._cancellation, self._size = cancellation, size
        self._max_bytes, self._memory = max_bytes, memory
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Wait for room.

        Raises:
            AbortedError: the pipeline was aborted.
        """
        memory = self._memory(item) if self._memory else 0
        with self._changed:
            while self._items and (
                len(self._items) >= self._size or self._bytes + memory > self._max_bytes > 0
            ):
                self._wait(_TICK)
            if self._cancellation.aborted.is_set():
                raise AbortedError
            self._items.append((item, memory))
            self._bytes += memory
            self._changed.notify_all()

    def close(self) -> None:
        """No more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> T | None:
        """The next item; ``None`` after ``timeout`` seconds without one.

        Raises:
            StopIteration: no more will come.
            AbortedError: the pipeline was aborted.
        """
        latest = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._items:
                if self._closed:
                    raise StopIteration
                left = _TICK if latest is None else latest - time.monotonic()
                if left <= 0:
                    return None
                self._wait(min(_TICK, left))
            return self._take()

    def waiting(self) -> T | None:
        """The next item if one waits, else ``None``."""
        with self._changed:
            return self._take() if self._items else None

    def _take(self) -> T:
        item, memory = self._items.popleft()
        self._bytes -= memory
        self._changed.notify_all()
        return item

    def _wait(self, seconds: float) -> None:
        if self._cancellation.aborted.is_set():
            raise AbortedError
        self._changed.wait(seconds)

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                item = self.get()
            except StopIteration:
                return
            if item is not None:
                yield item
