"""Encoded documents as a folder of Parquet files, which `splade-os ingest` reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from splade_os import __version__
from splade_os.encoding import DocumentEncoder
from splade_os.errors import InputError, SettingsError
from splade_os.ingest.documents.arrow_vectors import encoded_batch, require_arrow, schema_of
from splade_os.ingest.documents.encoded_rows import EncodingRecord
from splade_os.ingest.documents.records import Record, Rejected
from splade_os.ingest.documents.stamps import DocumentStamp, Stamper
from splade_os.ingest.documents.vector_files import Skip, encoded

if TYPE_CHECKING:
    import pyarrow

ROWS = 65_536
"""Of a file."""
_DONE = "_SUCCESS"


def encoding_record(encoder: DocumentEncoder, text_fields: Iterable[str]) -> EncodingRecord:
    """What rows say that this encoder makes."""
    return EncodingRecord(
        splade_os=__version__, text_fields=tuple(text_fields), model=encoder.identity
    )


def encoded_batches(
    records: Iterable[Record | Rejected],
    encoder: DocumentEncoder,
    encoding: EncodingRecord,
    skip: Skip,
) -> Iterator[pyarrow.RecordBatch]:
    """Records as rows (`splade_os.ingest.documents.arrow_vectors`), in their order.

    Args:
        skip: is told where something stood that cannot be encoded, and why.
    """
    stamper = Stamper(encoder.identity, "")
    stamps: dict[int, DocumentStamp] = {}

    def stamped() -> Iterator[Record | Rejected]:
        for item in records:
            if isinstance(item, Record):
                try:
                    stamps[item.position] = stamper.of(item)
                except InputError as error:
                    skip(item.where, error.message)
                    continue
            yield item

    for found in encoded(stamped(), encoder, skip):
        marks = [stamps.pop(record.position) for record in found.records]
        yield encoded_batch(encoding, found.records, marks, found.tokens, found.batch, encoder)
        stamps.clear()


def write_parquet(
    out: Path,
    records: Iterable[Record | Rejected],
    encoder: DocumentEncoder,
    skip: Skip,
    text_fields: Iterable[str],
) -> int:
    """Encode records into files of at most some 65,000 rows in a folder, which is made. A file has
    its name when it is whole, and the folder gets ``_SUCCESS`` when all are.

    Returns:
        The number of vectors.
    """
    encoding = encoding_record(encoder, text_fields)
    batches = encoded_batches(records, encoder, encoding, skip)
    count = number = 0
    begin_folder(out)
    for first in batches:
        file = out / f"part-{number:05}.parquet"
        count += write_file(file, encoding, chain((first,), batches), ROWS)
        number += 1
    end_folder(out, encoding, empty=not number)
    return count


def begin_folder(out: Path) -> None:
    """Make the folder.

    Raises:
        SettingsError: something is in it already.
        MissingExtraError: ``pyarrow`` is not installed.
    """
    require_arrow()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise SettingsError(
            f"{out} is there already: vectors of two runs must not be mixed.",
            hint="Name another folder, or delete that one.",
        )
    out.mkdir(exist_ok=True)


def write_file(
    file: Path,
    encoding: EncodingRecord,
    batches: Iterable[pyarrow.RecordBatch],
    most: int | None = None,
) -> int:
    """Write batches to a file until it has ``most`` rows; returns how many it has. Under another
    name at first: what has the name is whole, and written again it is the same."""
    from pyarrow import parquet

    unfinished = file.with_name(f".{file.name}")
    count = 0
    with parquet.ParquetWriter(unfinished, schema_of(encoding), compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            count += len(batch)
            if most is not None and count >= most:
                break
    unfinished.replace(file)
    return count


def end_folder(out: Path, encoding: EncodingRecord, *, empty: bool) -> None:
    """All files are there. Of no document there is a file without rows, which says what would have
    encoded them."""
    if empty:
        write_file(out / "part-00000.parquet", encoding, ())
    (out / _DONE).touch()
