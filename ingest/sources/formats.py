"""Formats of files: by name, by suffix, by content."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator

import orjson

from splade_os.errors import InputError
from splade_os.ingest.documents.records import Item
from splade_os.ingest.sources.bulk_files import documents_of_actions
from splade_os.ingest.sources.change_files import read_changes
from splade_os.ingest.sources.compression import COMPRESSIONS
from splade_os.ingest.sources.json_files import read_json, read_lines
from splade_os.ingest.sources.parquet import read_parquet
from splade_os.ingest.sources.tables import TableOptions, read_csv, read_pairs, read_tsv
from splade_os.ingest.sources.trec import read_trec

CHANGES = "changes"
"""Of `splade-os apply`."""
_TABLES: dict[str, Callable[[io.BufferedReader, str, TableOptions], Iterator[Item]]] = {
    "csv": read_csv,
    "tsv": read_tsv,
    "pairs": read_pairs,
}
_OTHERS: dict[str, Callable[[io.BufferedReader, str], Iterator[Item]]] = {
    CHANGES: read_changes,
    "jsonl": read_lines,
    "ndjson": read_lines,
    "json": read_json,
    "parquet": read_parquet,
    "trec": read_trec,
}
_JSON = ("jsonl", "ndjson", "json")
FORMATS = tuple(sorted({**_TABLES, **_OTHERS}.keys() - {CHANGES}))
"""Of documents."""
_DOC = re.compile(rb"<DOC\s*>", re.I)


def read_format(
    format_: str, stream: io.BufferedReader, name: str, tables: TableOptions
) -> Iterator[Item]:
    """The items of a stream in one of `FORMATS` or `CHANGES`; UTF-8 without a byte order mark."""
    if format_ in _TABLES:
        return _TABLES[format_](stream, name, tables)
    items = _OTHERS[format_](stream, name)
    return documents_of_actions(items, name) if format_ in _JSON else items


def check_format(format_: str | None) -> str | None:
    """The format, if there is such a one.

    Raises:
        InputError: there is not.
    """
    if format_ not in (None, CHANGES, *FORMATS):
        raise InputError(f"There is no format {format_!r}.", hint=f"One of {', '.join(FORMATS)}.")
    return format_


def format_of_name(file: str) -> str | None:
    """The format that the suffix names, whatever the compression."""
    parts = file.lower().rsplit("/", 1)[-1].split(".")
    if len(parts) > 2 and f".{parts[-1]}" in COMPRESSIONS:
        parts.pop()
    return parts[-1] if len(parts) > 1 and parts[-1] in FORMATS else None


def format_of_content(start: bytes) -> str | None:
    """The format that the first bytes (decompressed, UTF-8) tell; not of tables."""
    if start.startswith(b"PAR1"):
        return "parquet"
    text = start.lstrip(b" \t\r\n\x1e")
    if text.startswith((b"{", b"[")):
        line, newline, _ = text.partition(b"\n")
        try:
            return "jsonl" if newline and isinstance(orjson.loads(line), dict) else "json"
        except orjson.JSONDecodeError:
            return "json"
    return "trec" if text.startswith(b"<") and _DOC.search(text) else None
