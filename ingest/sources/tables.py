"""CSV, TSV, pairs of id and text."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

from splade_os.errors import InputError
from splade_os.ingest.documents.records import Item
from splade_os.ingest.sources.base import damaged
from splade_os.ingest.sources.streams import utf8

_log = logging.getLogger("splade_os.ingest")

_MAX_FIELD = 100_000_000  # characters; csv's own limit is 131,072
# two cells of this follow the last line: a quote that is open makes one of them
_END = "\0end of file\0"
_SAMPLE = 20  # lines that have to agree on a delimiter
_OTHER_DELIMITERS = ";\t|"


@dataclass(frozen=True)
class TableOptions:
    """How tables are read.

    Attributes:
        delimiter: between cells; default by the format.
        text_fields, id_fields: columns that will be looked for, if known: by them a table
            without a header is told from one that has it.
    """

    delimiter: str | None = None
    text_fields: tuple[str, ...] = ()
    id_fields: tuple[str, ...] = ()


def read_csv(stream: io.BufferedReader, name: str, options: TableOptions) -> Iterator[Item]:
    """A table with a header, fields quoted as RFC 4180 has it.

    Where the header has no comma, and it and the lines after it agree on another delimiter, that
    is taken, and the log says so; or the one of Excel's ``sep=;`` in the first line.

    Raises:
        ValueError: it ends within quotes, or has no sound header.
        InputError: none of its columns is a text field.
    """
    with _text(stream) as text:
        sample: list[str] = []
        for line in text:
            sample.append(line)
            if line.strip():
                break
        delimiter = options.delimiter
        excel = re.fullmatch(r"sep=(.)\s*", sample[-1]) if sample else None
        if excel:
            delimiter = delimiter or excel[1]
            sample[-1] = "\n"  # counted, and blank
        elif delimiter is None and sample and sample[-1].strip() and "," not in sample[-1]:
            sample += islice(text, _SAMPLE)
            delimiter = _other_delimiter(sample)
            if delimiter is not None:
                _log.warning(
                    "%s is read with %r between its cells, as its first lines are. If that is "
                    "wrong, say --delimiter ','.",
                    name,
                    delimiter,
                )
        yield from _table(chain(sample, text), name, delimiter or ",", options)


def read_tsv(stream: io.BufferedReader, name: str, options: TableOptions) -> Iterator[Item]:
    """A table with a header; or `read_pairs`, if the first line is two cells and neither is the
    name of a field that is looked for.

    Raises:
        ValueError, InputError: as for `read_csv`.
    """
    start = b""
    while line := stream.readline():
        start += line
        if not line.isspace():
            break
    delimiter = options.delimiter or "\t"
    cells = line.decode("utf-8", "replace").rstrip("\r\n").split(delimiter)
    fields = options.text_fields + options.id_fields or ("_id", "id", "title", "text")
    if len(cells) == 2 and not any(cell.strip().strip('"') in fields for cell in cells):
        if not cells[0].isdigit():
            _log.warning(
                "%s is read as lines of id and text: none of %s stands in its first line.",
                name,
                ", ".join(fields),
            )
        yield from _pairs(chain(io.BytesIO(start), stream), name, delimiter)
        return
    with _text(stream) as text:
        first = io.StringIO(start.decode("utf-8", "surrogateescape"), newline="")
        yield from _table(chain(first, text), name, delimiter, options)


def read_pairs(stream: io.BufferedReader, name: str, options: TableOptions) -> Iterator[Item]:
    """``id <tab> text`` a line, without header or quotes (TREC, MS MARCO)."""
    return _pairs(stream, name, options.delimiter or "\t")


def _pairs(lines: Iterable[bytes], name: str, delimiter: str) -> Iterator[Item]:
    pair = partial(_pair, delimiter)
    for number, line in enumerate(lines, 1):
        if not line.isspace():
            yield Item(f"{name}:{number}", line, decode=pair)


def _pair(delimiter: str, raw: bytes) -> dict[str, str]:
    line = utf8(raw).removesuffix("\n").removesuffix("\r")
    identifier, found, text = line.partition(delimiter)
    if not found:
        what = "tab" if delimiter == "\t" else repr(delimiter)
        raise ValueError(f"no {what} between id and text")
    return {"_id": identifier, "text": text}


def _table(
    lines: Iterable[str], name: str, delimiter: str, options: TableOptions
) -> Iterator[Item]:
    csv.field_size_limit(_MAX_FIELD)
    rows = csv.reader(chain(lines, (_END + delimiter + _END,)), delimiter=delimiter)
    header: list[str] | None = None
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows)
        except csv.Error as error:
            if header is None or "field limit" in str(error):
                raise ValueError(f"line {line}: {error}") from None
            yield damaged(f"{name}:{line}", str(error))
            continue
        if row and row[-1].endswith(_END):
            if row != [_END, _END]:
                raise ValueError(
                    f"the record of line {line} has a quote that is never closed: what follows "
                    "it cannot be told from its text"
                )
            return
        if header is None:
            if any(cell.strip() for cell in row):
                header = _header(row, name, line, delimiter, options)
        elif len(row) == len(header):
            message = _no_text(row)
            if message is None:
                yield Item(f"{name}:{line}", value=dict(zip(header, row, strict=True)))
            else:
                yield damaged(f"{name}:{line}", message, _raw(row, delimiter))
        elif row:
            message = f"{len(row)} cells in a table of {len(header)} columns"
            yield damaged(f"{name}:{line}", message, _raw(row, delimiter))


def _header(
    row: list[str], name: str, line: int, delimiter: str, options: TableOptions
) -> list[str]:
    # a column without a name is called as pandas calls it, which writes such a one: its index
    header = [cell or f"Unnamed: {i}" for i, cell in enumerate(row)]
    if len(set(header)) != len(header):
        raise ValueError(f"a column stands twice in the header {delimiter.join(header)}")
    fields = options.text_fields
    if fields and not any(f in header or f.partition(".")[0] in header for f in fields):
        shown = delimiter.join(header)
        raise InputError(
            f"{name}:{line}: the table has no column {' or '.join(fields)}: its header is "
            f"{shown[:200]!r}.",
            hint="Name the columns of the text with --text. If this is no header, put one before "
            "it, or say --format pairs for lines of id, tab, text. If the cells are not told "
            "apart rightly, say --delimiter.",
        )
    return header


def _no_text(row: list[str]) -> str | None:
    """What is wrong with the bytes of a row, if anything."""
    for cell in row:
        if not cell.isascii():
            try:
                cell.encode()
            except UnicodeEncodeError:
                try:
                    utf8(cell.encode("utf-8", "surrogateescape"))
                except ValueError as error:
                    return str(error).replace("of the record", "of its cell")
    return None


def _raw(row: list[str], delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="").writerow(row)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _other_delimiter(sample: list[str]) -> str | None:
    """The one delimiter by which all lines of a sample have the same number of cells."""
    found = []
    for delimiter in _OTHER_DELIMITERS:
        try:
            rows = [row for row in csv.reader(sample, delimiter=delimiter) if row]
        except csv.Error:
            continue
        if len(sample) > _SAMPLE:
            rows = rows[:1] + rows[1:-1]  # the last one may go on
        names = [cell.strip() for cell in rows[0]]
        if len(names) > 1 and all(names) and all(len(row) == len(names) for row in rows):
            found.append(delimiter)
    return found[0] if len(found) == 1 else None


@contextmanager
def _text(stream: io.BufferedReader) -> Iterator[io.TextIOWrapper]:
    # an undecodable byte becomes a lone surrogate, which is found in its row
    text = io.TextIOWrapper(stream, "utf-8", errors="surrogateescape", newline="")
    try:
        yield text
    finally:
        text.detach()  # else the wrapper closes a stream that is not its own
