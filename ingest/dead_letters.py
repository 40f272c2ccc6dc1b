"""Dead letters: every document that could not be indexed, and why."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import IO, Self

import orjson

from splade_os.errors import IngestError
from splade_os.ingest.records import Record, Rejected


class DeadLetters:
    """Appends to a JSONL file, one object a letter; the file is made with the first one.

    Each has ``position``, ``where``, ``id``, ``status`` (of the engine, or null), ``reason``
    and ``record`` (the document, or the raw text where it was no JSON object).
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        self.count = 0
        self._handle: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            self._handle.close()

    def reject(self, rejected: Rejected) -> None:
        """Something that was no document."""
        self._write(rejected, rejected.id, None, rejected.reason, rejected.raw)

    def fail(self, record: Record, reason: str, status: int | None = None) -> None:
        """A document that could not be encoded, or that the engine refused."""
        document = {"_id": record.id, **record.source}
        self._write(record, record.id, status, reason, document)

    def _write(
        self,
        item: Record | Rejected,
        identifier: str | None,
        status: int | None,
        reason: str,
        record: object,
    ) -> None:
        letter = {
            "position": item.position,
            "where": item.where,
            "id": identifier,
            "status": status,
            "reason": reason,
            "record": record,
        }
        try:
            if self._handle is None:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                self._handle = self.file.open("ab")
            self._handle.write(orjson.dumps(letter, option=orjson.OPT_APPEND_NEWLINE))
            self._handle.flush()
        except OSError as error:
            raise IngestError(
                f"The dead letter of {item.where} cannot be written to {self.file}: {error}",
                hint="Free some space or name another file with --dead-letters; then run again.",
            ) from error
        self.count += 1
