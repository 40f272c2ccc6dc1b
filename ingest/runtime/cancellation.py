"""How the threads of a pipeline are started, and ended: in order, or at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class AbortedError(Exception):
    """The pipeline was aborted: a stage that waits shall end."""


class Cancellation:
    """How the stages of one pipeline end: in order, or at once.

    Attributes:
        halted: no new documents; what is under way is finished and saved.
        aborted: nothing more, at once.
        error: why it was aborted.
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
        """Run a stage in a thread of its own; its failure aborts all."""

        def run() -> None:
            try:
                work()
            except AbortedError:
                pass
            except BaseException as error:
                self.abort(error)

        # a daemon: a second Ctrl-C must not wait for a request that hangs
        threading.Thread(target=run, name=f"splade-os-{name}", daemon=True).start()


@contextmanager
def interruptible(cancellation: Cancellation) -> Iterator[None]:
    """Ctrl-C and SIGTERM: once = finish what is under way; twice = stop at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if cancellation.halted.is_set():
            cancellation.abort(KeyboardInterrupt())
        cancellation.halted.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before: list[Any] = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
