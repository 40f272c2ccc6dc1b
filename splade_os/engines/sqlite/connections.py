"""Connections to an SQLite file: one for each thread of each process."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote
from weakref import WeakSet

from splade_os.errors import EngineError, EngineUnavailableError
from splade_os.settings import private_file

_SCHEMA = """
CREATE TABLE IF NOT EXISTS indices (
    number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, meta TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS documents (
    number INTEGER PRIMARY KEY, in_index INTEGER NOT NULL, id TEXT NOT NULL,
    source BLOB NOT NULL, UNIQUE (in_index, id));
CREATE TABLE IF NOT EXISTS stored (document INTEGER PRIMARY KEY, stored BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS postings (
    in_index INTEGER, feature TEXT, document INTEGER, weight REAL NOT NULL,
    PRIMARY KEY (in_index, feature, document)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS postings_of_document ON postings (document);
CREATE TABLE IF NOT EXISTS field_values (
    in_index INTEGER NOT NULL, field TEXT NOT NULL, value NOT NULL, document INTEGER NOT NULL,
    PRIMARY KEY (in_index, field, value, document)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS with_field_values (in_index INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS statistics (
    in_index INTEGER PRIMARY KEY, documents INTEGER, tokens INTEGER, frequencies BLOB);
CREATE TABLE IF NOT EXISTS load_states (in_index INTEGER PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS uuids (in_index INTEGER PRIMARY KEY, uuid TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counts (
    in_index INTEGER, run TEXT, record BLOB NOT NULL, PRIMARY KEY (in_index, run));
CREATE TABLE IF NOT EXISTS aliases (name TEXT PRIMARY KEY, in_index INTEGER NOT NULL);
"""
_INHERITED: list[sqlite3.Connection] = []
"""Of parent processes: SQLite forbids to use them in a forked one, even to close them."""


class _Handle:
    """A connection that is closed when its thread ends."""

    def __init__(self, connection: sqlite3.Connection, file: Path | None) -> None:
        self.connection, self.process = connection, os.getpid()
        self.exists = file is not None
        self.given: Sequence[str] = ()
        # texts for a query: JSON would lose what stands behind U+0000
        connection.create_function("given", 1, lambda i: self.given[i])

    def close(self) -> None:
        if self.process == os.getpid():
            self.connection.close()
        else:
            _INHERITED.append(self.connection)

    __del__ = close


class Connections:
    """Opens them when they are needed.

    Args:
        file: of the database; a missing one is made by the first that writes.

    Raises:
        EngineUnavailableError: it cannot be opened, or is no database.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._own = file, threading.local()
        self._all: WeakSet[_Handle] = WeakSet()
        self._closed = False
        self.of_thread()

    def of_thread(self, *, write: bool = False) -> sqlite3.Connection:
        """The connection of the thread that asks; of a file that is missing, an empty one."""
        return self._handle(write).connection

    def give(self, texts: Sequence[str]) -> None:
        """What ``given(i)`` is in this thread's SQL."""
        self._handle(False).given = texts

    def snapshot(self) -> sqlite3.Connection:
        """Another one, which the caller closes: its transaction is one view of the file."""
        return self._open(False).connection

    def _handle(self, write: bool) -> _Handle:
        if self._closed:
            raise EngineError(f"sqlite:///{self._file} was closed.")
        handle: _Handle | None = getattr(self._own, "handle", None)
        missing = handle is not None and not handle.exists and (write or self._is_there())
        if handle is None or handle.process != os.getpid() or missing:
            self._own.handle = handle = self._open(write)
            self._all.add(handle)
        return handle

    def _is_there(self) -> bool:
        return self._file.exists()

    def _open(self, write: bool) -> _Handle:
        try:
            if write:
                private_file(self._file)
            elif not self._is_there():
                self._require_possible()
                empty = sqlite3.connect(":memory:", check_same_thread=False)
                empty.executescript(_SCHEMA)
                return _Handle(empty, None)
            return _Handle(self._connected(), self._file)
        except (sqlite3.Error, OSError) as error:
            raise EngineUnavailableError(
                f"The file {self._file} cannot be opened as a database: {error}.",
                hint="Name a file that splade-os may write: --url sqlite:///FILE.",
            ) from error

    def _connected(self) -> sqlite3.Connection:
        try:
            return _writable(str(self._file))
        except sqlite3.OperationalError:
            if not self._is_there():
                raise
        try:
            return _readable(self._file, "mode=ro")
        except sqlite3.OperationalError:  # a folder where nothing beside it can be made
            return _readable(self._file, "immutable=1")

    def _require_possible(self) -> None:
        parent = next(folder for folder in self._file.absolute().parents if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise NotADirectoryError(f"it is not there, and {parent} is no folder to make it in")

    def close(self) -> None:
        self._closed = True
        for handle in list(self._all):
            handle.close()


def _writable(file: str) -> sqlite3.Connection:
    db = sqlite3.connect(file, timeout=30, check_same_thread=False)
    try:
        db.isolation_level = None  # transactions are ours
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _readable(file: Path, how: str) -> sqlite3.Connection:
    """What an older version did not make is empty."""
    name = f"file:{quote(str(file.absolute()))}?{how}"
    db = sqlite3.connect(name, uri=True, timeout=30, check_same_thread=False)
    try:
        db.isolation_level = None
        there = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        for statement in _SCHEMA.split(";"):
            words = statement.split()
            if words[:2] == ["CREATE", "TABLE"] and words[5] not in there:
                db.execute(statement.replace("CREATE TABLE", "CREATE TEMP TABLE"))
    except BaseException:
        db.close()
        raise
    return db
