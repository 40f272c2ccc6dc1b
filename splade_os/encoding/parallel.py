"""Several devices, one process each: a backend made of backends."""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock, Thread
from typing import Any

from splade_os.encoding.backend import Backend
from splade_os.encoding.parallel_process import PREFIX, UNGUARDED, ended, serve
from splade_os.errors import EncoderProcessError
from splade_os.vectors import Ids, SparseBatch

_PATIENCE = 5.0  # seconds to end by itself


class ParallelBackend:
    """Batches go to the device that has the fewest; each has one ahead of the one it works on.

    Args:
        start: makes the backend of a device in its process; it is pickled.
        devices: at least one torch device, e.g. ``cuda:0``.

    Raises:
        SpladeError: what `start` raised in a process.
        EncoderProcessError: a process ended before it could encode.
    """

    precision: str
    vocabulary_size: int
    max_length: int | None
    batch_tokens: int
    batch_bytes: int | None
    buckets: tuple[int, ...]

    def __init__(self, start: Callable[[str], Backend], devices: Sequence[str]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork cannot use a GPU
        self._workers: list[_Worker] = []
        try:
            for device in devices:  # one by one, so that all that have begun are ended
                self._workers.append(_Worker(context, start, device))
            facts = [worker.facts.result() for worker in self._workers]
        except BaseException:
            self.close()
            raise
        self.device = ", ".join(devices)
        for name, value in facts[0].items():
            setattr(self, name, value)
        self.ahead = 2 * len(devices)

    def launch(
        self, tokens: Sequence[Ids], max_active_dims: int | None
    ) -> Callable[[], SparseBatch]:
        """See `Backend.launch`.

        Raises:
            EncoderProcessError: (from the returned function as well) a process is gone.
        """
        worker = min(self._workers, key=lambda worker: worker.load)
        return worker.submit(tokens, max_active_dims).result

    def encode(self, tokens: Sequence[Ids], max_active_dims: int | None) -> SparseBatch:
        """See `Backend.encode`."""
        return self.launch(tokens, max_active_dims)()

    def close(self) -> None:
        """End the processes, by force those that take longer than five seconds."""
        for worker in self._workers:
            worker.terminate()
        deadline = time.monotonic() + _PATIENCE
        for worker in self._workers:
            worker.close(deadline)
        self._workers = []

    def __del__(self) -> None:
        self.close()


class _Worker:
    """One process, and a thread that takes its answers, so that neither side's pipe fills up."""

    def __init__(self, context: Any, start: Callable[[str], Backend], device: str) -> None:
        self._device = device
        self._connection, theirs = context.Pipe()
        # `start` as bytes: where it cannot be read there, the reason comes back
        arguments = (theirs, pickle.dumps(start), device)
        self._process = context.Process(
            target=serve, args=arguments, daemon=True, name=PREFIX + device
        )
        try:
            self._process.start()
        except RuntimeError:
            if multiprocessing.current_process().name.startswith(PREFIX):
                raise SystemExit(UNGUARDED) from None  # the parent tells it
            raise
        theirs.close()
        self._waiting: list[Future[Any]] = []
        self._lock, self._sending = Lock(), Lock()
        self._gone: EncoderProcessError | None = None
        self.facts: Future[dict[str, Any]] = self._expect()
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def load(self) -> int:
        """Batches not yet answered."""
        return len(self._waiting)

    def submit(self, tokens: Sequence[Ids], max_active_dims: int | None) -> Future[SparseBatch]:
        """Send a batch."""
        request = pickle.dumps((list(tokens), max_active_dims))
        with self._sending:  # answers come in the order of the batches
            future = self._expect()
            with suppress(OSError):  # the listener sees the same end, and tells the futures why
                self._connection.send_bytes(request)
        return future

    def terminate(self) -> None:
        """Ask the process to end."""
        self._process.terminate()

    def close(self, deadline: float) -> None:
        """Wait for its end until ``deadline``, then end it by force."""
        self._process.join(max(0.0, deadline - time.monotonic()))
        if self._process.is_alive():
            self._process.kill()
        self._listener.join(_PATIENCE)
        self._connection.close()

    def _expect(self) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            if self._gone:
                raise self._gone
            self._waiting.append(future)
        return future

    def _listen(self) -> None:
        while True:
            try:
                content = self._connection.recv_bytes()
            except (EOFError, OSError):
                self._process.join(_PATIENCE)
                reason = ended(self._device, self._process.exitcode, begun=self.facts.done())
                break
            try:
                answer = pickle.loads(content)
            except Exception as error:  # whatever the classes in it raise
                reason = EncoderProcessError(
                    f"An answer of the process that encodes on {self._device} cannot be read: "
                    f"{type(error).__name__}: {error}"
                )
                self._process.terminate()
                break
            with self._lock:
                future = self._waiting.pop(0)
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        with self._lock:
            self._gone = reason
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_exception(reason)
