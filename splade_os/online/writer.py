"""Collects changes from many threads and tasks, and applies them together."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress

from splade_os.errors import EngineError
from splade_os.online.changes import Change
from splade_os.online.results import DocumentResult

_MOST = 256  # documents of one batch
Results = list[DocumentResult]
_Job = tuple[Sequence[Change], "Future[Results]"]


class BatchWriter:
    """A thread that applies what has been asked for while it was at work before: whoever is alone
    does not wait, and many at once share their batches. Safe from any thread, and after a fork.

    Args:
        apply: applies changes, in their order.
    """

    def __init__(self, apply: Callable[[Sequence[Change]], Results]) -> None:
        self._apply = apply
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, changes: Sequence[Change]) -> Future[Results]:
        """Ask for changes.

        Returns:
            What becomes of each; the future raises what kept all of them from being applied.

        Raises:
            EngineError: the writer is closed.
        """
        if self._process != os.getpid():  # neither thread nor lock has come along
            self._begin()
        future: Future[Results] = Future()
        with self._lock:
            if self._closed:
                raise EngineError("The index is closed: nothing is written any more.")
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="splade-os-writer", daemon=True
                )
                self._thread.start()
            self._jobs.put((changes, future))
        return future

    def close(self) -> None:
        """Apply what has been asked for, and end."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None and self._process == os.getpid():
            self._jobs.put(None)
            thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            jobs = [job]
            following: _Job | None = None
            with suppress(queue.Empty):
                while sum(len(changes) for changes, _ in jobs) < _MOST:
                    following = self._jobs.get_nowait()
                    if following is None:  # closed: after these
                        self._jobs.put(None)
                        break
                    jobs.append(following)
            self._do(jobs)

    def _do(self, jobs: Sequence[_Job]) -> None:
        running = [job for job in jobs if job[1].set_running_or_notify_cancel()]
        try:
            results = self._apply([change for changes, _ in running for change in changes])
        except Exception as error:
            for _, future in running:
                future.set_exception(error)
            return
        start = 0
        for changes, future in running:
            future.set_result(results[start : start + len(changes)])
            start += len(changes)
