"""How many requests of what size a cluster takes: additive increase, multiplicative decrease."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

MIN_BYTES = 250_000
_SLOW = 10.0  # seconds; an answer later than this is a sign of too much at once
_GROWTH = 1.05


class AdaptiveLimiter:
    """Bounds the requests under way and their size (AIMD).

    Every answer in good time raises the number by ``1 / number`` and the size by 5 %, up to
    their bounds. A push-back (429, 503, no answer in time) halves both, at most once per
    round: answers to requests that were sent before the last decrease do not count again. An
    answer after more than 10 s lowers the size by a fifth.

    Args:
        concurrency: upper bound of requests under way.
        max_bytes: upper bound of a request's size.
    """

    def __init__(self, concurrency: int, max_bytes: int) -> None:
        self._most, self._most_bytes = float(concurrency), float(max_bytes)
        self._limit, self._bytes = min(2.0, self._most), float(max_bytes)
        self._under_way = 0
        self._decreased = 0.0
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        return int(self._limit)

    @property
    def under_way(self) -> int:
        return self._under_way

    @property
    def max_bytes(self) -> int:
        """Bytes of a request now."""
        return int(self._bytes)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait until a request may start."""
        with self._changed:
            while self._under_way >= int(self._limit):
                self._changed.wait()
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify()

    def answered(self, seconds: float) -> None:
        """An answer came, with nothing put off."""
        with self._changed:
            if seconds > _SLOW:
                self._bytes = max(MIN_BYTES, self._bytes * 0.8)
                return
            self._limit = min(self._most, self._limit + 1 / self._limit)
            self._bytes = min(self._most_bytes, self._bytes * _GROWTH)
            self._changed.notify()

    def pushed_back(self, sent: float) -> None:
        """The cluster has too much to do, or did not answer.

        Args:
            sent: `time.monotonic` when the request was sent.
        """
        with self._changed:
            if sent < self._decreased:
                return
            self._decreased = time.monotonic()
            self._limit = max(1.0, self._limit / 2)
            self._bytes = max(min(MIN_BYTES, self._most_bytes), self._bytes / 2)

    def too_large(self, size: int) -> None:
        """A request of ``size`` bytes is refused for its size: never again as large."""
        with self._changed:
            self._most_bytes = min(self._most_bytes, max(1.0, size / 2))
            self._bytes = min(self._bytes, self._most_bytes)
