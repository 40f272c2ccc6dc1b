"""Connections to an SQLite file: one for each thread of each process."""

from __future__ import annotations

import os
import sqlite3
import threading
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
CREATE TABLE IF NOT EXISTS posting_blocks (
    in_index INTEGER, feature TEXT, block INTEGER, postings BLOB NOT NULL,
    PRIMARY KEY (in_index, feature, block)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS with_posting_blocks (in_index INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS states (in_index INTEGER PRIMARY KEY, state TEXT NOT NULL);
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


class Handle:
    """A connection that is closed when its thread ends."""

    def __init__(self, connection: sqlite3.Connection, file: Path | None) -> None:
        self.connection, self.process = connection, os.getpid()
        self.exists = file is not None
        self.writing = False

    @property
    def own(self) -> bool:
        """Whether it is one of this process."""
        return self.process == os.getpid()

    def close(self) -> None:
        if self.own:
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
        self._all: WeakSet[Handle] = WeakSet()
        self._closed = False
        self.of_thread()

    def of_thread(self, *, write: bool = False) -> Handle:
        """The one of the thread that asks; of a file that is missing, an empty one."""
        return self._handle(write)

    def snapshot(self) -> Handle:
        """Another one, which the caller closes: one view of the file, that holds no writer up."""
        handle = self._open(False)
        db = handle.connection
        (mode,) = db.execute("PRAGMA journal_mode").fetchone()
        if handle.exists and mode != "wal":  # of a file system where a reader would hold it up
            copy = sqlite3.connect("", check_same_thread=False)  # on disk, and gone when closed
            db.backup(copy)
            db.close()
            copy.executescript(_SCHEMA)
            return Handle(copy, self._file)
        db.execute("BEGIN")
        db.execute("SELECT 1 FROM indices").fetchone()  # the view begins with what is first read
        return handle

    def _handle(self, write: bool) -> Handle:
        if self._closed:
            raise EngineError(f"sqlite:///{self._file} was closed.")
        handle: Handle | None = getattr(self._own, "handle", None)
        missing = handle is not None and not handle.exists and (write or self._is_there())
        if handle is None or not handle.own or missing:
            self._own.handle = handle = self._open(write)
            self._all.add(handle)
        return handle

    def _is_there(self) -> bool:
        return self._file.exists()

    def _open(self, write: bool) -> Handle:
        try:
            if write:
                private_file(self._file)
            elif not self._is_there():
                self._require_possible()
                empty = sqlite3.connect(":memory:", check_same_thread=False)
                empty.executescript(_SCHEMA)
                return Handle(empty, None)
            return Handle(self._connected(), self._file)
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
