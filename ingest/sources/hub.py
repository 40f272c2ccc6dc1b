"""Datasets of the Hugging Face hub, streamed: ``hf:org/name[:config]/split``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from splade_os.errors import InputError, MissingExtraError
from splade_os.ingest.documents.records import Item
from splade_os.ingest.sources.base import SourceOptions
from splade_os.ingest.sources.values import value_item


class HubSource:
    """One split of a dataset."""

    unit: Literal["documents"] = "documents"
    repeatable = True

    def __init__(self, spec: str, dataset: Any) -> None:
        self.name, self._dataset, self.done = f"hf:{spec}", dataset, 0
        info = dataset.info
        splits = info.splits or {}
        split = splits.get(str(dataset.split))
        self.total: int | None = (split.num_examples if split is not None else None) or None

    def fingerprint(self) -> str:
        info = self._dataset.info
        return f"{self.name} {info.version} {info.download_checksums} {self.total}"

    def items(self, skip: int = 0) -> Iterator[Item]:
        rows = self._dataset.skip(skip) if skip else self._dataset
        try:
            for number, row in enumerate(rows, skip + 1):
                self.done = number
                yield value_item(f"{self.name}:{number}", row)
        except _breaks() as error:
            raise InputError(f"{self.name} breaks off after {self.done:,} rows: {error}") from error


def _breaks() -> tuple[type[Exception], ...]:
    """What reading a dataset raises: of the network, of damaged files."""
    from datasets.exceptions import DatasetsError
    from pyarrow import ArrowException

    return (OSError, ValueError, RuntimeError, DatasetsError, ArrowException)


def open_dataset(spec: str, options: SourceOptions) -> HubSource:
    """``org/name[:config]/split``, or a folder of data files instead of the name.

    Raises:
        MissingExtraError: ``datasets`` is not installed.
        InputError: there is no such dataset or split.
    """
    del options
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("Reading a dataset of the Hugging Face hub", "sources") from None
    name, _, split = spec.rpartition("/")
    if not name:
        raise InputError(
            f"hf:{spec} names no split.", hint="Write hf:org/name/split, e.g. hf:BeIR/scifact/train"
        )
    name, _, config = name.partition(":")
    try:
        dataset = datasets.load_dataset(name, config or None, split=split, streaming=True)
    except Exception as error:  # the library raises its own classes, built-in ones and requests'
        raise InputError(f"hf:{spec} cannot be opened: {error}") from error
    return HubSource(spec, dataset)
