"""Text files, plain or gzipped, line by line; an error names file and line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from splade_os.errors import InputError
from splade_os.ingest.documents.json_form import parse_exact


def find(file: Path) -> Path:
    """The file, or its gzipped form.

    Raises:
        InputError: neither is there, or may be looked at.
    """
    packed = file.parent / f"{file.name}.gz"
    try:
        for candidate in (file, packed):
            if candidate.is_file() or candidate.is_fifo():
                return candidate
        folder = file.is_dir()
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise InputError(f"{file} cannot be read: {error.strerror}.") from None
    if folder:
        raise InputError(f"{file} is a folder, not a file.")
    raise InputError(f"{file} is missing (and {packed.name} as well).")


def read_lines(file: Path) -> Iterator[tuple[str, str]]:
    """``(where, line)`` of every line that is not blank; ``where`` is ``file:number``.

    Raises:
        InputError: the file is missing, not UTF-8, or breaks off.
    """
    file = find(file)
    number = 0
    try:
        with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as handle:
            for number, line in enumerate(handle, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text.strip():
                    yield f"{file}:{number}", text
    except UnicodeDecodeError as error:
        raise InputError(f"{file}:{number} is not UTF-8: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{file} cannot be read to its end: {reason}") from None


def read_json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """``(where, object)`` of every line of a JSON lines file.

    Raises:
        InputError: as `read_lines`, or a line is no JSON object.
    """
    for where, line in read_lines(file):
        try:
            value = parse_exact(line.encode())
        except ValueError as error:
            raise InputError(f"{where} is not valid JSON: {error}") from None
        if not isinstance(value, dict):
            raise InputError(f"{where} is not a JSON object but {type(value).__name__}.")
        yield where, value
