"""One limit for the bulk requests of all writers: a push-back to one of them slows all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from splade_os.ingest.runtime.limiter import AdaptiveLimiter

_LEASE = 900.0  # seconds after which the place of a writer that was killed is free again
_TICK = 0.05


class Throttle:
    """An actor: an `AdaptiveLimiter`, and who has a place in it.

    Args:
        concurrency: requests under way at most.
        max_bytes: of a request.
    """

    def __init__(self, concurrency: int, max_bytes: int) -> None:
        self._limiter = AdaptiveLimiter(concurrency, max_bytes)
        self._places: dict[str, float] = {}

    def enter(self, writer: str) -> int | None:
        """A place for this writer; ``None`` = there is none now. Returns the size that a request
        may have."""
        now = time.monotonic()
        self._places = {w: since for w, since in self._places.items() if now - since < _LEASE}
        if writer not in self._places and len(self._places) >= self._limiter.limit:
            return None
        self._places[writer] = now
        return self._limiter.max_bytes

    def leave(self, writer: str) -> None:
        self._places.pop(writer, None)

    def answered(self, seconds: float) -> None:
        self._limiter.answered(seconds)

    def pushed_back(self, age: float) -> None:
        """Args:
        age: seconds since the request was sent; clocks of machines differ.
        """
        self._limiter.pushed_back(time.monotonic() - age)

    def too_large(self, size: int) -> None:
        self._limiter.too_large(size)

    def under_way(self) -> int:
        return len(self._places)


class SharedLimiter(AdaptiveLimiter):
    """The side of a writer: what a sender asks, answered by the actor.

    Args:
        throttle: handle of the actor.
        writer: name of this process.
        max_bytes: of a request, until the actor says another size.
    """

    def __init__(self, throttle: Any, writer: str, max_bytes: int) -> None:
        super().__init__(1, max_bytes)
        self._throttle, self._writer = throttle, writer

    @contextmanager
    def slot(self) -> Iterator[None]:
        import ray

        while (size := ray.get(self._throttle.enter.remote(self._writer))) is None:
            time.sleep(_TICK)
        self._bytes = float(size)
        try:
            yield
        finally:
            ray.get(self._throttle.leave.remote(self._writer))

    def answered(self, seconds: float) -> None:
        self._throttle.answered.remote(seconds)

    def pushed_back(self, sent: float) -> None:
        import ray

        ray.get(self._throttle.pushed_back.remote(time.monotonic() - sent))

    def too_large(self, size: int) -> None:
        self._throttle.too_large.remote(size)
        self._bytes = min(self._bytes, max(1.0, size / 2))
