"""Collections of ir_datasets: ``irds:msmarco-passage``."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal

from splade_os.errors import InputError, MissingExtraError
from splade_os.ingest.documents.records import Item
from splade_os.ingest.sources.base import SourceOptions
from splade_os.ingest.sources.values import value_item


class IrdsSource:
    """The documents of a collection; ``doc_id`` becomes ``_id``."""

    unit: Literal["documents"] = "documents"
    repeatable = True

    def __init__(self, name: str, dataset: Any) -> None:
        self.name, self._dataset, self.done = f"irds:{name}", dataset, 0
        self.total: int | None = dataset.docs_count()

    def fingerprint(self) -> str:
        return f"{self.name} {self.total}"

    def items(self, skip: int = 0) -> Iterator[Item]:
        try:
            for number, row in enumerate(islice(self._dataset.docs_iter(), skip, None), skip + 1):
                self.done = number
                value = row._asdict()
                value["_id"] = value.pop("doc_id")
                if "text" not in value and callable(getattr(row, "default_text", None)):
                    value["text"] = row.default_text()
                yield value_item(f"{self.name}:{number}", value)
        except (OSError, RuntimeError, ValueError, EOFError, zlib.error) as error:
            raise InputError(f"{self.name} breaks off after {self.done:,}: {error}") from error


def open_collection(name: str, options: SourceOptions) -> IrdsSource:
    """A collection by its id.

    Raises:
        MissingExtraError: ``ir_datasets`` is not installed.
        InputError: it has no such collection, or no documents for it.
    """
    del options
    try:
        import ir_datasets
    except ImportError:
        raise MissingExtraError("Reading a collection of ir_datasets", "sources") from None
    try:
        dataset = ir_datasets.load(name)
    except KeyError:
        raise InputError(
            f"ir_datasets knows no collection {name}.", hint="See https://ir-datasets.com"
        ) from None
    if not dataset.has_docs():
        raise InputError(f"irds:{name} has no documents.")
    return IrdsSource(name, dataset)
