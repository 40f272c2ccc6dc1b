"""How long-running steps report themselves, without knowing a terminal."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

Report = Callable[[str, int, int | None], None]
"""Called with what is being done, how much of it is done, and of how much (``None`` =
unknown); about five times a second."""

Result = TypeVar("Result")
INTERVAL = 0.2


def silent(step: str, done: int, total: int | None) -> None:
    """Reports nothing."""


def watched(work: Callable[[], Result], tick: Callable[[], None]) -> Result:
    """Run ``work`` on another thread, and ``tick`` until it is done."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        while not future.done():
            tick()
            wait([future], timeout=INTERVAL)
        return future.result()
