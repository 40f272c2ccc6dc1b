"""A folder → its tokenizer, and what of it belongs into the model's identity."""

from __future__ import annotations

from pathlib import Path

import orjson

from splade_os.encoding.tokenizer.build import BuiltTokenizer, build
from splade_os.encoding.tokenizer.classes import Json
from splade_os.encoding.tokenizer.convert import (
    SlowTokenizer,
    needs_transformers,
    through_transformers,
)
from splade_os.encoding.tokenizer.files import SETTINGS, SOURCES, TokenizerFiles

_Stamp = tuple[tuple[str, int, int], ...]


_CHANGES: dict[tuple[Path, _Stamp], bytes] = {}


def load(folder: Path) -> BuiltTokenizer | SlowTokenizer:
    """The tokenizer of a model folder, as transformers would build it.

    Raises:
        ModelError: it is missing, damaged, or of a class that nobody knows.
        MissingExtraError: only transformers can read it, and that is not installed.
    """
    stamp, files = stamp_of(folder), TokenizerFiles(folder)
    loaded = through_transformers(files) if needs_transformers(files) else build(files)
    _CHANGES[folder, stamp] = _canonical(loaded.changes)
    return loaded


def changes_of(folder: Path) -> bytes:
    """What decides token ids beside the files of the vocabulary, canonical JSON; empty where those
    say it all.

    Raises:
        ModelError, MissingExtraError: see `load`.
    """
    known = _CHANGES.get((folder, stamp_of(folder)))
    return _canonical(load(folder).changes) if known is None else known


def _canonical(changes: Json) -> bytes:
    return orjson.dumps(changes, option=orjson.OPT_SORT_KEYS) if changes else b""


def stamp_of(folder: Path) -> _Stamp:
    """Name, size and time of every file that decides token ids: something that is remembered of
    a folder holds as long as these stay."""
    files = [folder / name for name in (*SOURCES, *SETTINGS, "config.json")]
    stats = [(file.name, file.stat()) for file in files if file.is_file()]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
