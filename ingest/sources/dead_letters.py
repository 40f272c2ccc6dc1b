"""Failed letters as a source: ``dead:FILE``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from splade_os.errors import InputError
from splade_os.ingest.documents.records import (
    Item,
    Record,
    RecordReader,
    Rejected,
    parse_json,
    text_of,
)
from splade_os.ingest.sources.base import SourceOptions
from splade_os.ingest.sources.files import FileSource

_READER = {field.name for field in fields(RecordReader)}


class LetterSource(FileSource):
    """The letters of a file, each as it stands there."""

    unit: Literal["bytes"] = "bytes"

    def __init__(self, file: str) -> None:
        super().__init__(file, [file], SourceOptions(format="jsonl"))


class DeadLetterReader(RecordReader):
    """Reads each letter's document as it was read the first time, and gives it the same id."""

    def read(self, item: Item, position: int) -> Record | Rejected:
        try:
            letter = parse_json(item.raw)
            if not isinstance(letter, dict) or "record" not in letter:
                raise ValueError("not a dead letter: it has no field 'record'")
            options = letter.get("reader") or {}
            reader = RecordReader(**{k: v for k, v in options.items() if k in _READER})
        except (ValueError, TypeError) as error:
            return Rejected(position, item.where, str(error), text_of(item), None, self)
        value, identifier = letter["record"], letter.get("id")
        if isinstance(value, str):  # it was no JSON then; perhaps somebody has mended it
            raw = value.encode("utf-8", "surrogatepass")
            return reader.read(Item(item.where, raw, decode=parse_json), position)
        item = Item(item.where, value=value)
        found = reader.check(value, item, position)
        if isinstance(found, Record) and identifier is not None and found.id != identifier:
            value = {**value, reader.id_field or "_id": identifier}
            return reader.check(value, item, position)
        return found


def dead_letter_index(file: str | Path) -> str | None:
    """The index that the first letter was meant for.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with Path(file).open("rb") as handle:
            letter: Any = parse_json(handle.readline() or b"{}")
    except (OSError, ValueError) as error:
        raise InputError(f"{file} holds no dead letters: {error}") from error
    name = letter.get("index") if isinstance(letter, dict) else None
    return str(name) if name else None


def open_dead_letters(rest: str, options: SourceOptions) -> LetterSource:
    """``dead:FILE``.

    Raises:
        InputError: there is no such file.
    """
    del options
    if not Path(rest).is_file():
        raise InputError(f"There are no dead letters at {rest}.")
    return LetterSource(rest)
