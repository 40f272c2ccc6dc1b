"""The documents of another index: ``index:products``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from splade_os.engines import Engine
from splade_os.errors import IndexFormatError, InputError
from splade_os.ingest.documents.records import Item
from splade_os.ingest.sources.base import SourceOptions


class IndexSource:
    """Documents as stored, less the vector that they may have."""

    unit: Literal["documents"] = "documents"
    repeatable = False  # an engine promises no order from one scan to the next

    def __init__(self, engine: Engine, index: str) -> None:
        self.name, self._engine, self._index = f"index:{index}", engine, index
        self.total: int | None = engine.count(index)
        self.done = 0
        try:
            self._left_out = engine.index_meta(index).own_fields
        except IndexFormatError:  # none of ours: every field is the document's
            self._left_out = frozenset()

    def fingerprint(self) -> str:
        return f"{self._engine.url} {self.name} {self.total}"

    def items(self, skip: int = 0) -> Iterator[Item]:
        for number, (identifier, source) in enumerate(self._engine.scan(self._index), 1):
            self.done = number
            if number > skip:
                value = {k: v for k, v in source.items() if k not in self._left_out}
                yield Item(f"{self.name}/{identifier}", value={**value, "_id": identifier})


def open_index(name: str, options: SourceOptions) -> IndexSource:
    """An index of the cluster that is written to.

    Raises:
        InputError: no cluster is known.
        IndexNotFoundError: there is no such index.
    """
    if options.engine is None:
        raise InputError(f"index:{name} can be read only where a cluster is given.")
    return IndexSource(options.engine, name)
