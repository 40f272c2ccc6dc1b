"""What teachers said, kept on disk: a second epoch, or run, does not ask again.

One SQLite file per teacher and its settings, under the cache folder; processes may share it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

_BATCH = 500  # keys per query


class ScoreCache:
    """Key → bytes.

    Args:
        file: made if missing.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(file, timeout=60)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")  # it can be computed again
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS said (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"
        )

    def get(self, texts: Sequence[str], compute: Callable[[list[int]], list[bytes]]) -> list[bytes]:
        """The value of each text; ``compute`` gets the positions of those that are new."""
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        known: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _BATCH):
            part = keys[start : start + _BATCH]
            marks = ",".join("?" * len(part))
            known |= dict(
                self._connection.execute(
                    f"SELECT key, value FROM said WHERE key IN ({marks})", part
                )
            )
        new: dict[bytes, int] = {}
        for i, key in enumerate(keys):
            if key not in known:
                new.setdefault(key, i)
        if new:
            fresh = dict(zip(new, compute(list(new.values())), strict=True))
            self._connection.executemany(
                "INSERT OR IGNORE INTO said VALUES (?, ?)", list(fresh.items())
            )
            self._connection.commit()
            known |= fresh
        return [known[key] for key in keys]
