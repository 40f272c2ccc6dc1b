"""Sources: what `splade-os ingest SOURCE` can read.

| source | what |
|---|---|
| ``docs.jsonl``, ``docs.jsonl.gz``, ``docs.ndjson`` | one JSON object a line |
| ``-`` | the same from standard input |
| a folder with ``corpus.jsonl`` or ``corpus.jsonl.gz`` | a BEIR collection |
| ``python:stdlib`` | the docstrings of this Python's standard library |
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson

from splade_os.errors import InputError
from splade_os.ingest.records import Record, RecordReader, Rejected

_SUFFIXES = (".jsonl", ".ndjson", ".json")
_BEIR_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz")
_MAX_RAW = 1_000_000  # characters of a damaged line that its dead letter keeps


@dataclass(frozen=True)
class Source:
    """A source that was found.

    Attributes:
        name: for people.
        total: its size in ``unit``, for an estimate; ``None`` = unknown.
        unit: ``bytes`` or ``documents``.
        file: the file to read, ``None`` = standard input or no file.
    """

    name: str
    file: Path | None
    total: int | None
    unit: str = "bytes"


@dataclass
class Reading:
    """How far a source has been read, in the unit of its total."""

    done: int = 0


def find_source(spec: str) -> Source:
    """Check that a source is there and can be read.

    Raises:
        InputError: saying what is missing.
    """
    if spec == "-":
        return Source("standard input", None, None)
    if spec == "python:stdlib":
        return Source(spec, None, None, "documents")
    path = Path(spec).expanduser()
    if path.is_dir():
        for name in _BEIR_CORPUS:
            if (path / name).is_file():
                path = path / name
                break
        else:
            raise InputError(
                f"The folder {path} holds no {' or '.join(_BEIR_CORPUS)}.",
                hint="Name a BEIR folder, or a .jsonl file.",
            )
    if not path.is_file():
        raise InputError(f"There is no source {spec}.", hint="Name a file, a BEIR folder, or -.")
    stem = path.name.removesuffix(".gz")
    if not stem.endswith(_SUFFIXES):
        raise InputError(
            f"{path} is none of the formats that can be read: .jsonl, .ndjson (also .gz).",
        )
    return Source(str(path), path, path.stat().st_size)


def read_source(
    source: Source, reader: RecordReader, progress: Reading | None = None
) -> Iterator[Record | Rejected]:
    """Read a source from its beginning; memory does not grow with it.

    Raises:
        InputError: the file ends in the middle of its compression, or cannot be read.
    """
    progress = progress or Reading()
    if source.name == "python:stdlib":
        from splade_os.ingest.stdlib_docs import stdlib_documents

        for position, document in enumerate(stdlib_documents(), 1):
            progress.done = position
            yield reader.read(document, position, f"{source.name}:{position}", "")
        return
    if source.file is None:
        yield from _lines(sys.stdin.buffer, sys.stdin.buffer, source.name, reader, progress)
        return
    try:
        with source.file.open("rb") as raw:
            if source.file.suffix == ".gz":
                with gzip.open(raw) as lines:
                    yield from _lines(lines, raw, source.file.name, reader, progress)
            else:
                yield from _lines(raw, raw, source.file.name, reader, progress)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{source.file} cannot be read to its end: {error}") from error


def _lines(
    lines: Iterable[bytes], raw: IO[bytes], name: str, reader: RecordReader, progress: Reading
) -> Iterator[Record | Rejected]:
    seekable = raw.seekable()
    for position, line in enumerate(lines, 1):
        progress.done = raw.tell() if seekable else progress.done + len(line)
        if not line.strip():
            continue
        where = f"{name}:{position}"
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            text = line.decode("utf-8", "replace").rstrip("\r\n")[:_MAX_RAW]
            yield Rejected(position, where, f"not valid JSON: {error}", text)
            continue
        yield reader.read(value, position, where, line.decode().rstrip("\r\n")[:_MAX_RAW])
