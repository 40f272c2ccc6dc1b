"""Dead letters as a source: ``dead:FILE``."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from splade_os.errors import InputError
from splade_os.ingest.documents.json_form import from_json
from splade_os.ingest.documents.records import Item, Record, RecordReader, Rejected, parse_json
from splade_os.ingest.sources.base import SourceOptions
from splade_os.ingest.sources.files import FileSource

_READER = TypeAdapter(RecordReader)
_KNOWN = {field.name for field in fields(RecordReader)}


class LetterSource(FileSource):
    """The letters of a file, each as it stands there."""

    unit: Literal["bytes"] = "bytes"

    def __init__(self, file: str) -> None:
        super().__init__(file, [file], SourceOptions(format="jsonl"))


class DeadLetterReader(RecordReader):
    """Reads each letter's document as it was read the first time, and gives it the same id."""

    def read(self, item: Item, position: int) -> Record | Rejected:
        letter = None
        try:
            letter = from_json(item.raw)
            reader = self.reader_of(letter)
        except ValueError as error:
            if isinstance(letter, dict) and "record" in letter:
                item = Item(item.where, value=letter["record"])
            return Rejected(position, item.where, str(error), item, None, self)
        value, identifier = letter["record"], letter.get("id")
        item = Item(item.where, value=value)
        if isinstance(value, str):  # it was no JSON then; perhaps somebody has mended it
            raw = _bytes_of(value)
            item = Item(item.where, raw, decode=parse_json)
            try:
                value = parse_json(raw)
            except (ValueError, RecursionError):
                return reader.read(item, position)
        found = reader.check(value, item, position)
        if isinstance(found, Record) and identifier is not None and found.id != identifier:
            value = {**value, reader.id_field or "_id": identifier}
            return reader.check(value, Item(item.where, value=value), position)
        return found

    def reader_of(self, letter: Any) -> RecordReader:
        """How the letter says that its record is read.

        Raises:
            ValueError: it is no dead letter, or what it says makes no sense.
        """
        if not isinstance(letter, dict) or "record" not in letter:
            raise ValueError("not a dead letter: it has no field 'record'")
        if letter.get("kind") == "change":
            raise ValueError(
                "a change, no document; apply it again: jq -c .record FILE | splade-os apply -"
            )
        identifier, options = letter.get("id"), letter.get("reader")
        if identifier is not None and not isinstance(identifier, str):
            raise ValueError("not a dead letter: its 'id' is neither text nor null")
        if options is None:
            options = {name: getattr(self, name) for name in _KNOWN}
        if not isinstance(options, dict):
            raise ValueError("not a dead letter: its 'reader' is no object")
        try:
            return _READER.validate_python({k: v for k, v in options.items() if k in _KNOWN})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, ("reader", *first["loc"])))
            raise ValueError(f"not a dead letter: {place}: {first['msg']}") from None


def letters_by_index(file: str | Path) -> dict[str, int]:
    """Index or alias → letters that were meant for it; those that name none, or are damaged, are
    left out.

    Raises:
        InputError: the file cannot be read.
    """
    counts: Counter[str] = Counter()
    try:
        with Path(file).open("rb") as handle:
            for line in handle:
                with suppress(ValueError):  # damaged: it becomes a dead letter again
                    letter = from_json(line)
                    name = letter.get("index") if isinstance(letter, dict) else None
                    if name and isinstance(name, str):
                        counts[name] += 1
    except OSError as error:
        raise InputError(f"The dead letters {file} cannot be read: {error.strerror}.") from None
    return dict(counts)


def dead_letter_fields(file: str | Path) -> tuple[str, ...]:
    """The text fields of the index that the first letter was meant for, by the names under which
    they are stored; the usual ones where it does not say."""
    plain = DeadLetterReader()
    try:
        with Path(file).open("rb") as handle:
            return plain.reader_of(from_json(handle.readline())).stored_text_fields
    except (OSError, ValueError):
        return plain.stored_text_fields


def open_dead_letters(rest: str, options: SourceOptions) -> LetterSource:
    """``dead:FILE``.

    Raises:
        InputError: there is no such file.
    """
    del options
    if not Path(rest).is_file():
        raise InputError(f"There are no dead letters at {rest}.")
    return LetterSource(rest)


def _bytes_of(text: str) -> bytes:
    """What a letter's text was in the source (PEP 383)."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a half of a pair that stands for no byte
        return text.encode("utf-8", "surrogatepass")
