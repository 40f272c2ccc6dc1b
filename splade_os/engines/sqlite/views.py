"""Views of an SQLite file that stay as they are while others write: what a point in time is on a
cluster."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from splade_os.engines.sqlite.connections import Connections, Handle
from splade_os.engines.sqlite.ranking import Ranking
from splade_os.errors import EngineError

KEEP_ALIVE = 120.0
"""Seconds after its last page for which a view is held, as on a cluster."""


@dataclass
class View:
    """A snapshot of the file, and the last ranking that was made in it.

    Attributes:
        key: of the request that the ranking belongs to.
    """

    handle: Handle
    lock: Any = field(default_factory=threading.RLock)
    used: float = field(default_factory=time.monotonic)
    key: str = ""
    ranking: Ranking | None = None


class Views:
    """Those that pages are read from."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._open: dict[str, View] = {}  # its single operations need no lock, which forks inherit

    def open(self) -> str:
        """The id of a new one."""
        self.sweep()
        identifier = uuid4().hex
        self._open[identifier] = View(self._connections.snapshot())
        return identifier

    @contextmanager
    def use(self, identifier: str) -> Iterator[tuple[sqlite3.Connection, View]]:
        """A view, for one page at a time.

        Raises:
            EngineError: it is gone.
        """
        view = self._open.get(identifier)
        if view is None or not view.handle.own:
            raise EngineError(
                "The view of the file that this page is of is gone: it was closed, belongs to "
                f"another process, or was not asked for {KEEP_ALIVE:.0f} seconds.",
                hint="Begin again with the first page (after=Cursor(), or scan).",
                status=404,
            )
        with view.lock:
            view.used = time.monotonic()
            yield view.handle.connection, view
            view.used = time.monotonic()

    def close(self, identifier: str) -> None:
        view = self._open.pop(identifier, None)
        # it is never waited for whoever reads from it (what a Ctrl-C has left may hold the lock as
        # long as its traceback lives): then it closes with the last reference
        if view is not None and view.lock.acquire(blocking=False):
            view.handle.close()
            view.lock.release()

    def sweep(self) -> None:
        """Close those that nobody has asked for a while: they keep the file from shrinking."""
        for identifier, view in list(self._open.items()):
            if time.monotonic() - view.used > KEEP_ALIVE:
                self.close(identifier)

    def close_all(self) -> None:
        for identifier in list(self._open):
            self.close(identifier)
