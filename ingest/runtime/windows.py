"""Things of a source that may pause → some of them at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from splade_os.ingest.runtime.cancellation import Cancellation

T = TypeVar("T")

_TICK = 0.2  # seconds between two looks at whether all is over
_LATEST = 1.0  # seconds after which a window goes on, full or not


class WindowReader(Generic[T]):
    """Windows of what an iterator gives, each full if that is quick enough.

    The iterator is read by a thread of its own: while it waits (a pipe that pauses), what came
    before goes on, and the reading can be interrupted.

    Args:
        cancellation: halted, it ends before the iterator does.
        size: of a full window.
        max_bytes: memory of a full window.
        memory: bytes that one takes.

    Attributes:
        error: why the iterator broke off; what it gave before is in the windows.
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
        self._bytes = 0
        self._changed = threading.Condition()
        self._window: list[T] = []
        self._ended = False
        self.error: BaseException | None = None

    def windows(self, source: Iterator[T]) -> Iterator[list[T]]:
        """The windows, none of them empty; once."""
        self._cancellation.start("source", lambda: self._pull(source))
        while (window := self._next()) and not self._cancellation.halted.is_set():
            yield window

    def _pull(self, source: Iterator[T]) -> None:
        halted, error = self._cancellation.halted, None
        try:
            for each in source:
                with self._changed:
                    while self._full() and not halted.is_set():
                        self._changed.wait(_TICK)
                    if halted.is_set():
                        break  # it is read again by whoever goes on
                    self._window.append(each)
                    if self._memory:
                        self._bytes += self._memory(each)
                    if len(self._window) == 1 or self._full():
                        self._changed.notify_all()
        except BaseException as caught:
            error = caught
        with self._changed:
            self._ended, self.error = True, error
            self._changed.notify_all()

    def _full(self) -> bool:
        return len(self._window) >= self._size or self._bytes >= self._max_bytes > 0

    def _next(self) -> list[T]:
        halted = self._cancellation.halted
        with self._changed:
            while not (self._window or self._ended or halted.is_set()):
                self._changed.wait(_TICK)
            latest = time.monotonic() + _LATEST
            while not self._full() and not self._ended:
                left = latest - time.monotonic()
                if left <= 0 or halted.is_set():
                    break
                self._changed.wait(min(left, _TICK))
            window, self._window, self._bytes = self._window, [], 0
            self._changed.notify_all()
        return window
