"""Several devices, one process each: a backend made of backends."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection
from threading import Lock, Thread
from typing import Any

from splade_os.encoding.backend import Backend
from splade_os.errors import EncodingError, SpladeError
from splade_os.vectors import Ids, SparseBatch

# what all of the backends have in common
_FACTS = (
    "precision", "vocabulary_size", "max_length", "batch_tokens", "batch_bytes", "buckets"
)  # fmt: skip


class ParallelBackend:
    """Batches go to the device that has the fewest; each has one ahead of the one it works on.

    Args:
        start: makes the backend of a device in its process; it is pickled.
        devices: at least one torch device, e.g. ``cuda:0``.

    Raises:
        SpladeError: what `start` raised in a process.
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
            self._workers += [_Worker(context, start, device) for device in devices]
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
        """See `Backend.launch`."""
        worker = min(self._workers, key=lambda worker: worker.load)
        return worker.submit(tokens, max_active_dims).result

    def encode(self, tokens: Sequence[Ids], max_active_dims: int | None) -> SparseBatch:
        """See `Backend.encode`."""
        return self.launch(tokens, max_active_dims)()

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.close()
        self._workers = []

    def __del__(self) -> None:
        self.close()


class _Worker:
    """One process, and a thread that takes its answers, so that neither side's pipe fills up."""

    def __init__(self, context: Any, start: Callable[[str], Backend], device: str) -> None:
        self._device = device
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, start, device), daemon=True, name=f"encoder {device}"
        )
        self._process.start()
        theirs.close()
        self._waiting: list[Future[Any]] = []
        self._lock, self._sending = Lock(), Lock()
        self._gone: EncodingError | None = None
        self.facts: Future[dict[str, Any]] = self._expect()
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def load(self) -> int:
        """Batches not yet answered."""
        return len(self._waiting)

    def submit(self, tokens: Sequence[Ids], max_active_dims: int | None) -> Future[SparseBatch]:
        """Send a batch."""
        with self._sending:  # answers come in the order of the batches
            future = self._expect()
            with suppress(OSError):  # the listener sees the same end, and tells the futures why
                self._connection.send((list(tokens), max_active_dims))
        return future

    def close(self) -> None:
        """End the process."""
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()
        self._listener.join()
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
                answer = self._connection.recv()
            except (EOFError, OSError):
                break
            with self._lock:
                future = self._waiting.pop(0)
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self._process.join(5)
        with self._lock:
            self._gone = EncodingError(
                f"The process that encoded on {self._device} ended with code "
                f"{self._process.exitcode}.",
                hint="A lack of memory is the usual reason: lower --batch-tokens.",
            )
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_exception(self._gone)


def _serve(connection: Connection, start: Callable[[str], Backend], device: str) -> None:
    try:
        backend = start(device)
    except SpladeError as error:
        connection.send(error)
        return
    connection.send({name: getattr(backend, name) for name in _FACTS})
    running: Callable[[], SparseBatch] | None = None
    while True:
        if running is not None and not connection.poll():
            _answer(connection, running)
            running = None
        try:
            tokens, max_active_dims = connection.recv()
        except (EOFError, OSError):  # the parent is gone
            return
        launched = backend.launch(tokens, max_active_dims)
        if running is not None:
            _answer(connection, running)
        running = launched


def _answer(connection: Connection, result: Callable[[], SparseBatch]) -> None:
    try:
        answer: object = result()
    except Exception as error:  # told to whoever waits for it
        answer = error
    connection.send(answer)
