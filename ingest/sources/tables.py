"""CSV, TSV, pairs of id and text, Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import IO, Any

from splade_os.errors import MissingExtraError
from splade_os.ingest.documents.records import Item

_MAX_FIELD = 100_000_000  # characters; csv's own limit is 131,072


def read_csv(stream: IO[bytes], name: str, first: int) -> Iterator[Item]:
    """A table with a header, fields quoted as RFC 4180 has it."""
    with _text(stream) as text:
        yield from _table(text, name, first, delimiter=",")


def read_tsv(stream: IO[bytes], name: str, first: int) -> Iterator[Item]:
    """A table with a header; or pairs, if the first line is a number, a tab and a text."""
    with _text(stream) as text:
        start = text.readline()
        cells = start.rstrip("\r\n").split("\t")
        lines = chain([start] if start else [], text)
        if len(cells) == 2 and cells[0].isdigit():
            yield from _pairs(lines, name, first)
        else:
            yield from _table(lines, name, first, delimiter="\t")


def read_pairs(stream: IO[bytes], name: str, first: int) -> Iterator[Item]:
    """``id <tab> text`` a line, without header or quotes (TREC, MS MARCO)."""
    with _text(stream) as text:
        yield from _pairs(text, name, first)


def _pairs(lines: Iterable[str], name: str, first: int) -> Iterator[Item]:
    for number, line in enumerate(lines, first + 1):
        if not line.isspace():
            yield Item(f"{name}:{number}", line.encode(), decode=_pair)


def _pair(raw: bytes) -> dict[str, str]:
    identifier, tab, text = raw.decode().rstrip("\r\n").partition("\t")
    if not tab:
        raise ValueError("no tab between id and text")
    return {"_id": identifier, "text": text}


def _table(lines: Iterable[str], name: str, first: int, delimiter: str) -> Iterator[Item]:
    csv.field_size_limit(_MAX_FIELD)
    rows = csv.reader(lines, delimiter=delimiter)
    header = next(rows, None)
    if header is None:
        return
    if len(set(header)) != len(header):
        raise ValueError(f"a column stands twice in the header {delimiter.join(header)}")
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            message = str(error)
            row = None
        where = f"{name}:{first + number}"
        if row is None:
            yield Item(where, decode=_damaged(message))
        elif len(row) > len(header) or (row and len(row) < len(header)):
            message = f"{len(row)} cells in a table of {len(header)} columns"
            yield Item(where, delimiter.join(row).encode(), decode=_damaged(message))
        elif row:
            yield Item(where, value=dict(zip(header, row, strict=True)))


def _damaged(message: str) -> Any:
    def decode(raw: bytes) -> Any:
        raise ValueError(message)

    return decode


def read_parquet(stream: IO[bytes], name: str, first: int) -> Iterator[Item]:
    """The rows of a Parquet file, a batch at a time."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("Reading Parquet", "sources") from None
    number = first
    try:
        file = parquet.ParquetFile(stream)
        for batch in file.iter_batches(batch_size=512):
            for row in batch.to_pylist():
                number += 1
                yield Item(f"{name}:row {number}", value=row)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error


@contextmanager
def _text(stream: IO[bytes]) -> Iterator[io.TextIOWrapper]:
    # an undecodable byte becomes a lone surrogate, which the encoder refuses by name
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield text
    finally:
        text.detach()  # else the wrapper closes a stream that is not its own
