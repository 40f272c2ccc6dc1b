"""The process of one device: what runs in it, and why it ended."""

from __future__ import annotations

import pickle
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

from splade_os.encoding.backend import Backend, NonFiniteError
from splade_os.errors import EncoderProcessError, SpladeError
from splade_os.vectors import SparseBatch

PREFIX = "encoder "  # of the names of these processes
UNGUARDED = 86  # exit code: the script that started the process starts its own there
# what all of the backends have in common
FACTS = (
    "precision", "vocabulary_size", "max_length", "batch_tokens", "batch_bytes", "buckets"
)  # fmt: skip
_GUARD = """Put what the script does behind a guard:

    if __name__ == "__main__":
        main()"""


def serve(connection: Connection, start: bytes, device: str) -> None:
    """Answer batches until the other end is closed.

    Args:
        start: a pickled function from the device to its backend.
    """
    try:
        backend: Backend = pickle.loads(start)(device)
        facts = {name: getattr(backend, name) for name in FACTS}
    except Exception as error:  # told to whoever waits for it
        _send(connection, _told(error, f"The process for {device} could not start"))
        return
    if not _send(connection, facts):
        return
    failed = f"The process that encodes on {device} failed"
    running: Callable[[], SparseBatch] | None = None
    while True:
        if running is not None and not connection.poll():
            if not _answer(connection, running, failed):
                return
            running = None
        try:
            request = connection.recv_bytes()
        except (EOFError, OSError):  # the parent is gone
            return
        launched = _launch(backend, request)
        if running is not None and not _answer(connection, running, failed):
            return
        running = launched


def _launch(backend: Backend, request: bytes) -> Callable[[], SparseBatch]:
    try:
        return backend.launch(*pickle.loads(request))
    except Exception as error:  # told in its turn: answers come in the order of the requests
        caught = error

        def fail() -> SparseBatch:
            raise caught

        return fail


def _answer(connection: Connection, result: Callable[[], SparseBatch], failed: str) -> bool:
    try:
        answer: object = result()
    except Exception as error:  # told to whoever waits for it
        answer = _told(error, failed)
    return _send(connection, answer)


def _told(error: Exception, what: str) -> Exception:
    """An error that any process can read: others' classes need not survive pickling."""
    if isinstance(error, (SpladeError, NonFiniteError)):
        return error
    told = EncoderProcessError(f"{what}: {type(error).__name__}: {error}")
    told.add_note("".join(traceback.format_exception(error)))
    return told


def _send(connection: Connection, answer: object) -> bool:
    """Whether somebody is there to read it."""
    try:
        connection.send(answer)
    except OSError:
        return False
    return True


def ended(device: str, code: int | None, *, begun: bool) -> EncoderProcessError:
    """Why a process that says nothing any more has ended.

    Args:
        code: its exit code; the negative number of a signal; ``None``: it is there, but mute.
        begun: it had loaded its model.
    """
    process = f"The process that encodes on {device}"
    if code == UNGUARDED:
        return EncoderProcessError(
            f"The process for {device} imported the script that started it, which there "
            'started processes again: it has no `if __name__ == "__main__":`.',
            hint=_GUARD,
        )
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = "What it printed before says why, if anything does."
        if -code == signal.SIGKILL:
            hint = (
                "That is how a system without memory ends processes: lower --batch-tokens, or "
                "name fewer devices."
            )
        return EncoderProcessError(f"{process} was killed ({name}).", hint=hint)
    hint = "What it printed on stderr says why."
    if not begun:
        hint += f" It imports the script that started it. {_GUARD}"
    return EncoderProcessError(f"{process} ended with code {code}.", hint=hint)
