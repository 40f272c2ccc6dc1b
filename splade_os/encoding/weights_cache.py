"""Weights that were made from a model folder, kept so that they are made once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from splade_os.settings import cache_dir


def cached_weights(key: str, make: Callable[[Path], None]) -> Path:
    """The folder of a key; ``make`` fills a new one, which then appears whole or not at all.

    Args:
        key: a hash of all that the weights are made from.
    """
    root = cache_dir() / "weights"
    target = root / key
    if target.is_dir():
        return target
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=root) as holder:
        unfinished = Path(holder) / key
        unfinished.mkdir()
        make(unfinished)
        try:
            unfinished.rename(target)
        except OSError:  # another process was faster
            if not target.is_dir():
                raise
            shutil.rmtree(unfinished)
    return target
