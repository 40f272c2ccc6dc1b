"""Dead letters: every document that could not be indexed, and why."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from splade_os.errors import IngestError
from splade_os.ingest.documents.json_form import embedded, from_json, to_json
from splade_os.ingest.documents.records import Record, Rejected
from splade_os.settings import private_file

_MOST = 1_000_000  # bytes that wait to be written


class DeadLetters:
    """Appends to a JSONL file, one object a letter; the file is made with the first one.

    Each has ``position``, ``where``, ``index``, ``run`` (that wrote it), ``id``, ``status`` (of the
    engine, or null), ``reason``, ``reader`` (how it was read) and ``record`` (what stood in the
    source: the document, or a text where it was no JSON object, or is nested too deep to stand in
    one). That is all that `splade-os retry` needs. Whatever a record holds, its dead letter can be
    written. Several processes may write to one file: each writes whole lines, and takes back
    nothing but its own.

    Args:
        file: where to.
        index: that the documents were meant for.
        run: name of the run.
        kind: ``change``, if what stood in the source are no documents but changes of some
            (`splade-os apply`), which `splade-os retry` cannot replay.
    """

    def __init__(
        self, file: str | Path, index: str = "", run: str = "", kind: str | None = None
    ) -> None:
        self.file = Path(file)
        self.index, self._run = index, run
        self._kind = {} if kind is None else {"kind": kind}
        self._lines: list[bytes] = []
        self._waiting = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.save()
        except IngestError:
            if error is None:
                raise

    def forget(self, kept: Container[int] = ()) -> None:
        """Take back the letters of this run, but those of the positions ``kept``: what a killed
        process wrote after its last checkpoint is written again. Half a line at the end goes.

        Raises:
            IngestError: the file cannot be written.
        """
        self._lines, self._waiting = [], 0
        if not self.file.is_file():
            return
        left = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        try:
            with self._locked() as handle:
                handle.seek(0)
                gone = 0
                private_file(left)
                with left.open("wb") as out:
                    for line in handle:
                        if self._is_own(line, kept) or not line.endswith(b"\n"):
                            gone += 1
                        else:
                            out.write(line)
                    empty = not out.tell()
                if gone and not empty:
                    os.replace(left, self.file)  # noqa: PTH105
                elif gone:
                    self.file.unlink()
        except OSError as error:
            raise self._failed(error) from error
        finally:
            left.unlink(missing_ok=True)

    def _is_own(self, line: bytes, kept: Container[int]) -> bool:
        if f'"run":"{self._run}"'.encode() not in line:
            return False
        try:
            letter = from_json(line)
        except ValueError:
            return False
        return letter.get("run") == self._run and letter.get("position") not in kept

    def reject(self, rejected: Rejected) -> None:
        """Something that was no document."""
        self._write(rejected, None, rejected.reason, rejected.original())

    def fail(self, record: Record, reason: str, status: int | None = None) -> None:
        """A document that could not be encoded, or that the engine refused."""
        self._write(record, status, reason, record.original())

    def add_lines(self, lines: Iterable[bytes]) -> None:
        """Letters that another process has written of (`CollectedLetters`)."""
        for line in lines:
            self._add(line)

    def save(self) -> None:
        """Bring what was written onto the disk.

        Raises:
            IngestError: it cannot be written.
        """
        if not self._lines:
            return
        try:
            private_file(self.file)
            with self._locked() as handle:
                if self._ends_within_a_line(handle):
                    handle.write(b"\n")
                handle.writelines(self._lines)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise self._failed(error) from error
        self._lines, self._waiting = [], 0

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        """The file, for this process alone: not one that another has just put in its place."""
        while True:
            with self.file.open("ab+") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(handle.fileno()), self.file.stat()):
                    yield handle
                    return

    @staticmethod
    def _ends_within_a_line(handle: IO[bytes]) -> bool:
        if not (handle.seekable() and handle.seek(0, os.SEEK_END)):
            return False
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) != b"\n"

    def _write(
        self, item: Record | Rejected, status: int | None, reason: str, record: object
    ) -> None:
        letter = {
            "position": item.position,
            "where": item.where,
            "index": self.index,
            "run": self._run,
            "id": item.id,
            "status": status,
            "reason": reason,
            "reader": asdict(item.reader) if item.reader is not None else None,
            **self._kind,
        }
        self._add(to_json(letter)[:-1] + b',"record":' + embedded(record) + b"}\n")

    def _add(self, line: bytes) -> None:
        self._lines.append(line)
        self._waiting += len(line)
        if self._waiting > _MOST:
            self.save()

    def _failed(self, error: OSError) -> IngestError:
        return IngestError(
            f"The dead letters cannot be written to {self.file}: {error}",
            hint="Free some space, or name another file with --dead-letters; then --resume.",
        )


class CollectedLetters(DeadLetters):
    """Keeps its letters, for the process that has the file (`DeadLetters.add_lines`)."""

    def __init__(self, index: str, run: str) -> None:
        super().__init__("", index, run)
        self.lines: list[bytes] = []

    def save(self) -> None:
        self.lines += self._lines
        self._lines, self._waiting = [], 0
