"""Hashes of files, each read once in a process."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


def file_hash(file: Path) -> str:
    """SHA-256 of a file; one that changed is read again."""
    stat = file.stat()
    return _hash(file, stat.st_size, stat.st_mtime_ns)


@cache
def _hash(file: Path, size: int, mtime_ns: int) -> str:
    del size, mtime_ns  # part of the cache key
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
