"""Parquet: its types as JSON has them, whatever their range."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any
from uuid import UUID

from splade_os.errors import MissingExtraError
from splade_os.ingest.documents.arrow_vectors import encoded_items, record_of
from splade_os.ingest.documents.encoded_rows import EncodingRecord
from splade_os.ingest.documents.records import VECTOR_KEY, Item
from splade_os.ingest.sources.base import damaged
from splade_os.ingest.sources.values import (
    PER_SECOND,
    binary,
    clock_time,
    decimal,
    json_value,
    key_text,
    number,
    timestamp,
)

_ROWS = 512
_COPY = 1 << 20
Converter = Callable[[Any], Any]


def read_parquet(stream: io.BufferedReader, name: str) -> Iterator[Item]:
    """The rows of a Parquet file, a batch at a time (see `splade_os.ingest.sources.values`).

    Where the schema says that the rows are encoded documents, they are items of those
    (`splade_os.ingest.documents.arrow_vectors`).

    A row with a value that cannot be read is a damaged item. What cannot be sought in (a pipe,
    a compressed file) is copied to the disk first.

    Raises:
        ValueError: the file is damaged.
        MissingExtraError: ``pyarrow`` is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("Reading Parquet", "sources") from None
    row_number = 0
    try:
        with _seekable(stream) as seekable:
            file = parquet.ParquetFile(seekable)
            names = file.schema_arrow.names
            if len(set(names)) != len(names):
                raise ValueError(f"a column stands twice: {', '.join(names)}")
            encoding = record_of(file.schema_arrow)
            for batch in file.iter_batches(batch_size=_ROWS):
                if encoding is not None:
                    yield from encoded_items(batch, encoding, name, row_number + 1)
                    row_number += len(batch)
                    continue
                for item in _rows(batch):
                    row_number += 1
                    where = f"{name}:row {row_number}"
                    yield (
                        damaged(where, item) if isinstance(item, str) else Item(where, value=item)
                    )
    except pyarrow.ArrowException as error:
        raise ValueError(f"after row {row_number:,}: {error}") from error


def encoding_of(stream: Any) -> EncodingRecord | None:
    """What a Parquet file says of how its rows were encoded; ``None`` = it holds other rows, or
    cannot be read (whoever reads it says why).

    Raises:
        ValueError: what it says is damaged.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return None
    try:
        schema = parquet.read_schema(stream)
    except pyarrow.ArrowException:
        return None
    return record_of(schema)


def _rows(batch: Any) -> Iterator[dict[str, Any] | str]:
    """The rows of a batch; of one that cannot be read, the reason."""
    import pyarrow

    names = batch.schema.names
    try:
        columns = [_values(column, name) for column, name in zip(batch.columns, names, strict=True)]
    except (ValueError, OverflowError, pyarrow.ArrowException) as error:
        if len(batch) == 1:
            yield _reason(batch, error)
        else:  # one of them is the culprit: it is found by halves
            middle = len(batch) // 2
            yield from _rows(batch.slice(0, middle))
            yield from _rows(batch.slice(middle))
        return
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def _reason(batch: Any, error: Exception) -> str:
    import pyarrow

    for column, name in zip(batch.columns, batch.schema.names, strict=True):
        try:
            _values(column, name)
        except (ValueError, OverflowError, pyarrow.ArrowException) as reason:
            return f"the column {name!r} cannot be read: {reason}"
    return str(error)


def _values(column: Any, name: str) -> list[Any]:
    weights = _weights(column)
    if weights is not None:
        return weights
    stored, convert = _plan(column.type)
    if stored != column.type:
        column = column.cast(stored)
    values: list[Any] = column.to_pylist()
    if convert is not None:
        values = [None if value is None else convert(value) for value in values]
    if name == VECTOR_KEY:  # a struct has all its fields in every row
        values = [
            {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value
            for value in values
        ]
    return values


def _weights(column: Any) -> list[Any] | None:
    """The values of a column that maps text to finite floats, as vectors are stored: all at once,
    which takes a third of the time. ``None`` for any other column, and where a key stands twice."""
    import pyarrow as pa
    import pyarrow.compute as pc

    type_ = column.type
    if not (pa.types.is_map(type_) and pa.types.is_string(type_.key_type)):
        return None
    items = column.items
    if not pa.types.is_floating(type_.item_type) or items.null_count:
        return None
    if pa.types.is_float16(type_.item_type) or not pc.all(pc.is_finite(items)).as_py():
        return None
    keys = column.keys.to_numpy(zero_copy_only=False).tolist()
    numbers = items.to_numpy().tolist()
    edges = column.offsets.to_pylist()
    found = [
        dict(zip(keys[a:b], numbers[a:b], strict=True)) if valid else None
        for (a, b), valid in zip(pairwise(edges), column.is_valid().to_pylist(), strict=True)
    ]
    whole = all(
        x is None or len(x) == b - a for x, (a, b) in zip(found, pairwise(edges), strict=True)
    )
    return found if whole else None


def _plan(type_: Any) -> tuple[Any, Converter | None]:
    """The type whose Python values hold everything, and what makes JSON of each."""
    import pyarrow as pa

    is_ = pa.types
    if isinstance(type_, pa.BaseExtensionType):
        if type_ == pa.uuid():
            return pa.binary(16), lambda value: str(UUID(bytes=value))
        return _plan(type_.storage_type)
    if is_.is_dictionary(type_):
        return _plan(type_.value_type)
    if is_.is_timestamp(type_):
        return pa.int64(), partial(timestamp, unit=type_.unit, zoned=type_.tz is not None)
    if is_.is_date32(type_):
        return pa.int32(), partial(timestamp, unit="D")
    if is_.is_date64(type_):
        return pa.int64(), lambda value: timestamp(value // 86_400_000, "D")
    if is_.is_time(type_):
        storage = pa.int32() if is_.is_time32(type_) else pa.int64()
        return storage, partial(clock_time, unit=type_.unit)
    if is_.is_duration(type_):
        return pa.int64(), partial(_seconds, unit=type_.unit)
    if is_.is_decimal(type_):
        return type_, decimal
    if is_.is_floating(type_):
        return (pa.float32() if is_.is_float16(type_) else type_), number
    if is_.is_binary(type_) or is_.is_large_binary(type_) or is_.is_fixed_size_binary(type_):
        return type_, binary
    if is_.is_map(type_):
        return _map_plan(type_)
    if is_.is_struct(type_):
        return _struct_plan(type_)
    if is_.is_list(type_) or is_.is_large_list(type_) or is_.is_fixed_size_list(type_):
        return _list_plan(type_)
    if is_.is_null(type_) or is_.is_boolean(type_) or is_.is_integer(type_) or _is_text(type_):
        return type_, None
    return type_, json_value


def _is_text(type_: Any) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_string(type_) or pa.types.is_large_string(type_) or type_ == pa.string_view()
    )


def _list_plan(type_: Any) -> tuple[Any, Converter | None]:
    import pyarrow as pa

    stored, convert = _plan(type_.value_type)
    if pa.types.is_fixed_size_list(type_):
        whole = pa.list_(stored, type_.list_size)
    else:
        whole = pa.large_list(stored) if pa.types.is_large_list(type_) else pa.list_(stored)
    if stored == type_.value_type:
        whole = type_
    if convert is None:
        return whole, None
    return whole, lambda values: [None if v is None else convert(v) for v in values]


def _struct_plan(type_: Any) -> tuple[Any, Converter | None]:
    import pyarrow as pa

    fields = [type_.field(i) for i in range(type_.num_fields)]
    plans = {field.name: _plan(field.type) for field in fields}
    converters = {name: convert for name, (_, convert) in plans.items() if convert is not None}
    stored = type_
    if any(plans[field.name][0] != field.type for field in fields):
        stored = pa.struct([pa.field(f.name, plans[f.name][0]) for f in fields])
    if not converters:
        return stored, None

    def convert(value: dict[str, Any]) -> dict[str, Any]:
        return {
            k: converters[k](v) if k in converters and v is not None else v
            for k, v in value.items()
        }

    return stored, convert


def _map_plan(type_: Any) -> tuple[Any, Converter]:
    import pyarrow as pa

    key_type, key = _plan(type_.key_type)
    item_type, item = _plan(type_.item_type)
    stored = type_
    if (key_type, item_type) != (type_.key_type, type_.item_type):
        stored = pa.map_(key_type, item_type)

    def convert(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
        found = {
            key_text(k if key is None else key(k)): v if item is None or v is None else item(v)
            for k, v in pairs
        }
        if len(found) != len(pairs):
            raise ValueError("a map has a key twice")
        return found

    return stored, convert


def _seconds(value: int, unit: str) -> float | int:
    whole, rest = divmod(value, PER_SECOND[unit])
    return value / PER_SECOND[unit] if rest else whole


def _seekable(stream: io.BufferedReader) -> Any:
    """The stream, or a copy of it on the disk, as a context that leaves the former open."""
    from contextlib import nullcontext

    if stream.seekable():
        return nullcontext(stream)
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    while data := stream.read1(_COPY):
        copy.write(data)
    copy.seek(0)
    return copy
