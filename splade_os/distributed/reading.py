"""A source in parts, which tasks read at the same time: a part each file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from splade_os.engines import Engine
from splade_os.errors import InputError, SpladeError
from splade_os.ingest.documents.records import Record, RecordReader, Rejected
from splade_os.ingest.sources import Selection, Source, SourceOptions, find_source, read_source
from splade_os.ingest.sources.files import FileSource

Connect = Callable[[], Engine]
_BYTES = 32_000_000  # of a window
PART = 10**10
"""Positions of one part: record 17 of the fourth file is 30000000017."""


@dataclass(frozen=True)
class Part:
    """What one task reads.

    Attributes:
        number: of the part, from 0.
        files: of it, or ``None``: all of ``spec``.
        spec, opening: the source, as the user named it.
    """

    number: int
    files: FileSource | None
    spec: str
    opening: SourceOptions

    def records(
        self, reader: RecordReader, selection: Selection, connect: Connect | None
    ) -> Iterator[Record | Rejected]:
        """Its records; their positions are those of no other part, and ascend with the files."""
        source: Source | None = self.files
        if source is None:
            engine = None if connect is None else connect()
            source = find_source(self.spec, replace(self.opening, engine=engine))
        first = self.number * PART
        for item in read_source(source, reader, selection):
            yield replace(item, position=first + item.position) if first else item


def parts_of(source: Source, spec: str, opening: SourceOptions, selection: Selection) -> list[Part]:
    """The parts of a source: its files, if all of it is read; else it is one part.

    Raises:
        InputError: it is a pipe, which no other process can read.
    """
    opening = replace(opening, engine=None)
    if isinstance(source, FileSource):
        files = source.split()
        if selection.everything and len(files) > 1:
            return [Part(i, file, spec, opening) for i, file in enumerate(files)]
    return [Part(0, None, spec, opening)]


class WindowReader:
    """What a reading task does: parts → windows of records, pickled, a row each.

    Args:
        reader, selection: how records are made, and of which.
        window: records of a window.
        connect: to the engine, for a source that is an index.
    """

    def __init__(
        self, reader: RecordReader, selection: Selection, window: int, connect: Connect | None
    ) -> None:
        self._reader, self._selection = reader, selection
        self._window, self._connect = window, connect

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        from ray import cloudpickle

        for packed in batch["part"].tolist():
            part: Part = cloudpickle.loads(packed)
            read = self._records(part)
            while window := self._next(read):
                yield {"window": [cloudpickle.dumps(window)]}

    def _next(self, read: Iterator[Record | Rejected | SpladeError]) -> list[Any]:
        """A window: as many records, or as much of them as `_BYTES`."""
        window: list[Any] = []
        size = 0
        for item in read:
            window.append(item)
            size += 0 if isinstance(item, SpladeError) else item.memory()
            if len(window) >= self._window or size > _BYTES:
                break
        return window

    def _records(self, part: Part) -> Iterator[Record | Rejected | SpladeError]:
        """Where the source breaks off, the last one says so; what came before is loaded."""
        try:
            yield from part.records(self._reader, self._selection, self._connect)
        except SpladeError as error:
            yield error
        except OSError as error:
            yield InputError(f"{part.spec} cannot be read by a worker: {error}")
