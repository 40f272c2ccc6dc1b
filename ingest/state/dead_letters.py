"""Dead letters: every document that could not be indexed, and why."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from splade_os.errors import IngestError
from splade_os.ingest.documents.json_form import embedded, to_json
from splade_os.ingest.documents.records import Record, Rejected
from splade_os.settings import private_file


class DeadLetters:
    """Appends to a JSONL file, one object a letter; the file is made with the first one.

    Each has ``position``, ``where``, ``index``, ``id``, ``status`` (of the engine, or null),
    ``reason``, ``reader`` (how it was read) and ``record`` (what stood in the source: the
    document, or a text where it was no JSON object, or is nested too deep to stand in one). That
    is all that `splade-os retry` needs. Whatever a record holds, its dead letter can be written.

    Args:
        file: where to.
        index: that the documents were meant for.
    """

    def __init__(self, file: str | Path, index: str = "") -> None:
        self.file = Path(file)
        self._index = index
        self._handle: IO[bytes] | None = None
        self._new = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._handle is None:
            return
        try:
            self._handle.close()
        except OSError as reason:  # what is still in its buffer
            if error is None:
                raise self._failed("letters", reason) from reason

    def forget_after(self, length: int) -> None:
        """Cut the file to its first ``length`` bytes: what a killed run wrote after them is
        written again."""
        cut(self.file, length, remove=False)

    def reject(self, rejected: Rejected) -> None:
        """Something that was no document."""
        self._write(rejected, None, rejected.reason, rejected.original())

    def fail(self, record: Record, reason: str, status: int | None = None) -> None:
        """A document that could not be encoded, or that the engine refused."""
        self._write(record, status, reason, record.original())

    def save(self) -> int:
        """Bring what was written onto the disk.

        Returns:
            The length of the file in bytes.
        """
        if self._handle is None:
            return self.file.stat().st_size if self.file.is_file() else 0
        if self._new:
            try:
                self._handle.flush()
                os.fsync(self._handle.fileno())
            except OSError as error:
                raise self._failed("letters", error) from error
            self._new = False
        return self._handle.tell()

    def _write(
        self, item: Record | Rejected, status: int | None, reason: str, record: object
    ) -> None:
        letter = {
            "position": item.position,
            "where": item.where,
            "index": self._index,
            "id": item.id,
            "status": status,
            "reason": reason,
            "reader": asdict(item.reader) if item.reader is not None else None,
        }
        line = to_json(letter)[:-1] + b',"record":' + embedded(record) + b"}\n"
        try:
            if self._handle is None:
                private_file(self.file)
                self._handle = self.file.open("ab")
            self._handle.write(line)
        except OSError as error:
            raise self._failed(f"letter of {item.where}", error) from error
        self._new = True

    def _failed(self, what: str, error: OSError) -> IngestError:
        return IngestError(
            f"The dead {what} cannot be written to {self.file}: {error}",
            hint="Free some space, or name another file with --dead-letters; then --resume.",
        )


def cut(file: Path, length: int, *, remove: bool = True) -> None:
    """Cut a file to its first ``length`` bytes; remove it if that is all.

    Args:
        remove: else an empty file stays.
    """
    if not file.is_file() or file.stat().st_size < length:
        return
    if remove and not length:
        file.unlink()
    else:
        os.truncate(file, length)
