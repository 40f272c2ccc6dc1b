"""Tables of training data: a file, a folder of `datasets`, or a data set of the hub."""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any

import orjson

from splade_os.errors import InputError
from splade_os.ingest.sources.compression import decompress

_JSON = (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz", ".ndjson.gz", ".jsonl.zst")
_PARQUET = (".parquet",)
_DEEPEST = 60  # arrow's limit is 63
_KEY = re.compile(rb'"\s*:')
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[][{}]', re.DOTALL)


def load_table(name: str, subset: str | None = None, split: str = "train") -> Any:
    """A ``datasets.Dataset`` from a file, a folder or the hub; all of its texts are Unicode.

    Raises:
        InputError: it is not there, or cannot be read.
    """
    try:
        path = Path(name).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}.") from None
    except RuntimeError:  # ~ of a user who is not there
        raise InputError(f"There is no file {name}.") from None
    if is_file:
        table = _of_file(path)
    elif is_folder:
        table = _of_folder(path, split)
    elif name.count("/") > 1 or name.startswith((".", "/", "~")) or name.endswith(_JSON):
        raise InputError(f"There is no file {name}.")
    else:
        table = _of_hub(name, subset, split)
    _check_unicode(table, name)
    return table


def _of_file(path: Path) -> Any:
    from datasets import load_dataset

    kind = next(
        (k for k, ends in (("json", _JSON), ("parquet", _PARQUET)) if path.name.endswith(ends)),
        None,
    )
    if kind is None:
        raise InputError(
            f"{path} is none of the formats that can be read: JSONL (.gz, .zst), Parquet."
        )
    try:
        if kind == "json":
            _check_json(path)
        return load_dataset(kind, data_files=str(path), split="train")
    except InputError:
        raise
    except StopIteration:
        raise InputError(f"{path} holds no row.") from None
    except RecursionError:
        raise InputError(f"{path} cannot be read: a row is nested too deeply.") from None
    except Exception as error:  # datasets and pyarrow raise their own, without a common base
        raise InputError(f"{path} cannot be read: {_reason(error)}") from None


def _of_folder(path: Path, split: str) -> Any:
    from datasets import Dataset, load_from_disk

    try:
        found = load_from_disk(str(path))
    except Exception as error:  # as above
        raise InputError(
            f"The folder {path} cannot be read as a data set: {_reason(error)}",
            hint="A folder is one of datasets.save_to_disk; else name its files.",
        ) from None
    if isinstance(found, Dataset):
        return found
    if split not in found:
        raise InputError(f"{path} has no split {split}; it has {', '.join(found)}.")
    return found[split]


def _of_hub(name: str, subset: str | None, split: str) -> Any:
    from datasets import load_dataset

    try:
        return load_dataset(name, subset, split=split)
    except Exception as error:  # the hub's client, too
        raise InputError(
            f"{name} is neither a file nor to be had from the Hugging Face hub: {_reason(error)}",
            hint="Check the name and the network.",
        ) from error


def _reason(error: Exception) -> str:
    """The first line of what is wrong, which `datasets` wraps in an error of its own."""
    from datasets.exceptions import DatasetGenerationError

    cause: BaseException = error
    if isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        cause = error.__cause__
    text = getattr(cause, "strerror", None) or str(cause).strip()
    return str(text).splitlines()[0] if text else type(cause).__name__


def _check_json(path: Path) -> None:
    """Every line is an object (or the file one array of them), which `datasets` and pyarrow do not
    look at in time: a frame of zstd that breaks off is to them the end of the file, bytes that are
    no UTF-8 a text until the row is read, and ``null`` or deep nesting end the process."""
    with path.open("rb") as packed:
        file = decompress(packed, path.name)
        for number, line in enumerate(file, 1):
            where = f"{path}:{number}"
            if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise _no_unicode(where, "utf-16")
            line = line.removeprefix(codecs.BOM_UTF8).strip()
            if number == 1 and line.startswith(b"["):
                elements = _parsed(line + file.read(), where)
                for place, element in enumerate(elements, 1):
                    if not isinstance(element, dict):
                        raise InputError(f"{path}: element {place:,} is no JSON object.")
                return
            if line and not isinstance(_parsed(line, where), dict):
                raise InputError(f"{where} is no JSON object.")


def _parsed(text: bytes, where: str) -> Any:
    if text.count(b"[") + text.count(b"{") > _DEEPEST and _depth(text) > _DEEPEST:
        raise InputError(f"{where} is nested more than {_DEEPEST} deep: no training data is.")
    try:
        value = orjson.loads(text)
        if not isinstance(value, dict) or len(_KEY.findall(text)) > len(value):
            json.loads(text, object_pairs_hook=lambda pairs: _no_key_twice(pairs, where))
        return value
    except orjson.JSONDecodeError as error:
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            raise _no_unicode(where, "latin1") from None
        raise InputError(f"{where} is not valid JSON: {error}") from None


def _no_key_twice(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    """`datasets` would make several rows of an object that has a key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{where} has the key {twice[:80]!r} twice.")
    return found


def _no_unicode(where: str, encoding: str) -> InputError:
    hint = f"Convert the file, e.g. iconv -f {encoding} -t utf-8 OLD > NEW."
    return InputError(f"{where} is not UTF-8.", hint=hint)


def _depth(line: bytes) -> int:
    depth = deepest = 0
    for found in _BRACKETS.finditer(line):
        if found[0] in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif found[0] in b"]}":
            depth -= 1
    return deepest


def _check_unicode(table: Any, name: str) -> None:
    """pyarrow takes bytes that are no UTF-8 for text, and fails when a row is read."""
    import pyarrow as pa

    whole = table.data.table
    try:
        whole.validate(full=True)
    except pa.ArrowInvalid as error:
        for column in whole.column_names:
            if not pa.types.is_string(whole.schema.field(column).type):
                continue
            row = 0
            for chunk in whole.column(column).cast(pa.binary()).iterchunks():
                for value in chunk:
                    row += 1
                    try:
                        (value.as_py() or b"").decode("utf-8")
                    except UnicodeDecodeError:
                        raise InputError(
                            f"{name}: the {column} of row {row:,} is not UTF-8.",
                            hint="Convert the file, e.g. iconv -f latin1 -t utf-8 OLD > NEW.",
                        ) from None
        raise InputError(f"{name} holds damaged values: {error}") from None
