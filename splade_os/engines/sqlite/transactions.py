"""Transactions of one thread's connection."""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Literal

from splade_os.engines.sqlite.connections import Handle
from splade_os.errors import EngineError


class Transaction:
    """What is read or written of one state of a file; errors of SQLite as `EngineError`.

    No generator: where Ctrl-C ends one before it has begun, its clean-up comes at any later time,
    in the midst of another transaction. What a Ctrl-C leaves open here, the next one ends.

    Args:
        kind: ``write`` commits at the end; ``read`` in a thread that writes is part of that.
        url: for messages.
    """

    def __init__(self, handle: Handle, kind: Literal["read", "write"], url: str) -> None:
        self._handle, self._writes, self._url = handle, kind == "write", url
        self._inner = handle.writing and not self._writes

    def __enter__(self) -> sqlite3.Connection:
        db = self._handle.connection
        if not self._inner:
            try:
                db.rollback()
                db.execute("BEGIN IMMEDIATE" if self._writes else "BEGIN")
            except sqlite3.Error as error:
                raise translated(error, self._url) from error
            self._handle.writing = self._writes
        return db

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._inner:
            self._handle.writing = False
            try:
                if self._writes and error is None:
                    self._handle.connection.commit()
                else:
                    self._handle.connection.rollback()
            except sqlite3.Error as failed:
                raise translated(failed, self._url) from failed
        if isinstance(error, sqlite3.Error):
            raise translated(error, self._url) from error


def translated(error: sqlite3.Error, url: str) -> EngineError:
    """An error of SQLite as one of an engine: of a busy file it may be gone the next time, since
    another writer had it for as long as SQLite waits."""
    busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    return EngineError(f"{url}: {error}.", transient=busy)
