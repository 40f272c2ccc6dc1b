"""The Arrow layout of encoded documents: a row each, vectors as lists of numbers.

======== ================ ====================================================================
id       string           document id
indices  list<int32>      vocabulary ids, ascending, each once
values   list<float32>    their weights, finite and > 0, as the encoder gave them
tokens   list<int32>      token ids of the text as the term statistics count them; null = no text
hash     string           hash of text and document, by which an ingest knows unchanged documents
document string           the stored fields, as a JSON object: of whatever shape, and as they were
======== ================ ====================================================================

The schema's metadata ``splade_os`` is an `EncodingRecord`. Vectors go from the encoder's CSR into
the columns, and back, without a Python object for each weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import ValidationError

from splade_os.encoding import DocumentEncoder
from splade_os.errors import MissingExtraError
from splade_os.ingest.documents.encoded_rows import EncodedRow, EncodingRecord
from splade_os.ingest.documents.records import MAX_ID_BYTES, Item, Record
from splade_os.ingest.documents.stamps import DocumentStamp
from splade_os.vectors import Ids, SparseBatch

if TYPE_CHECKING:
    import pyarrow

METADATA_KEY = b"splade_os"
HASHES = 24  # characters of the two hashes of a mark


def schema_of(record: EncodingRecord) -> pyarrow.Schema:
    """The schema of a table."""
    import pyarrow as pa

    fields = [
        ("id", pa.string()),
        ("indices", pa.list_(pa.int32())),
        ("values", pa.list_(pa.float32())),
        ("tokens", pa.list_(pa.int32())),
        ("hash", pa.string()),
        ("document", pa.string()),
    ]
    return pa.schema(fields, {METADATA_KEY: record.model_dump_json().encode()})


def record_of(schema: pyarrow.Schema) -> EncodingRecord | None:
    """What a schema says of how its rows were encoded; ``None`` if it is none of ours.

    Raises:
        ValueError: what it says is damaged, of a newer version, or not of this schema.
    """
    found = (schema.metadata or {}).get(METADATA_KEY)
    if found is None:
        return None
    try:
        record = EncodingRecord.model_validate_json(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"its metadata is not that of vectors that this version reads: {place}: {first['msg']}"
        ) from None
    for field in schema_of(record):
        there = schema.field(field.name).type if field.name in schema.names else None
        if there != field.type:
            raise ValueError(
                f"the metadata says that it holds vectors, and the column {field.name!r} is "
                f"{there or 'missing'}, not {field.type}"
            )
    return record


def encoded_batch(
    record: EncodingRecord,
    records: Sequence[Record],
    stamps: Sequence[DocumentStamp],
    tokens: Sequence[Ids],
    batch: SparseBatch,
    encoder: DocumentEncoder,
) -> pyarrow.RecordBatch:
    """Records and their vectors as rows.

    Args:
        tokens: token ids of each text (`DocumentEncoder.tokenize_documents`).
        batch: the vectors, in the same order.
    """
    import pyarrow as pa

    counted = [
        encoder.counted(ids) if each.text else None
        for each, ids in zip(records, tokens, strict=True)
    ]
    starts = np.cumsum([0, *(0 if ids is None else len(ids) for ids in counted)])
    flat = np.concatenate([np.empty(0, np.int32), *(ids for ids in counted if ids is not None)])
    nothing = np.array([ids is None for ids in counted])

    def lists(bounds: npt.NDArray[np.int64], values: Any, mask: Any = None) -> pyarrow.Array:
        return pa.ListArray.from_arrays(
            pa.array(bounds.astype(np.int32)), pa.array(values), mask=mask
        )

    columns = [
        pa.array([each.id for each in records], pa.string()),
        lists(batch.indptr, batch.indices),
        lists(batch.indptr, batch.values),
        lists(starts, flat.astype(np.int32), pa.array(nothing)),
        pa.array([stamp.text + stamp.document for stamp in stamps], pa.string()),
        pa.array([orjson.dumps(each.source).decode() for each in records], pa.string()),
    ]
    return pa.record_batch(columns, schema=schema_of(record))


def encoded_items(
    batch: pyarrow.RecordBatch, record: EncodingRecord, where: str, first: int
) -> Iterator[Item]:
    """The rows of a batch as items whose value is an `EncodedRow`; of a row that cannot be one, an
    item whose value is a text that says so.

    Args:
        where: name of the file.
        first: number of the first row, from 1.
    """
    width = record.model.vocabulary_size
    names, hashes, documents = (
        batch.column(name).to_pylist() for name in ("id", "hash", "document")
    )
    indices, values, tokens = (_Lists(batch.column(n)) for n in ("indices", "values", "tokens"))
    sound = indices.lengths == values.lengths
    sound &= indices.valid & values.valid
    indices.refuse(~((indices.flat >= 0) & (indices.flat < width) & indices.ascends()), sound)
    values.refuse(~((values.flat > 0) & np.isfinite(values.flat)), sound)
    tokens.refuse(~((tokens.flat >= 0) & (tokens.flat < width)), sound)
    good, has_text = sound.tolist(), tokens.valid.tolist()
    bounds = zip(
        pairwise(indices.edges), pairwise(values.edges), pairwise(tokens.edges), strict=True
    )
    for i, ((a, b), (c, d), (e, f)) in enumerate(bounds):
        name, marked, document = names[i], hashes[i], documents[i]
        place = f"{where}:row {first + i}"
        told = name and len(name.encode()) <= MAX_ID_BYTES and marked and len(marked) == HASHES
        if not (good[i] and told and document is not None):
            text = f"id {name!r}: no row of an encoded document (a value is missing or impossible)"
            yield Item(place, value=text)
            continue
        row = EncodedRow(
            name,
            document.encode(),
            indices.flat[a:b],
            values.flat[c:d],
            tokens.flat[e:f] if has_text[i] else None,
            marked,
            record,
        )
        yield Item(place, f"{name}\0{marked}".encode(), row)


class _Lists:
    """A column of lists of numbers, as one array and the places where lists begin.

    Attributes:
        flat: all numbers; -1 in the place of a null.
        edges: row ``i`` is ``flat[edges[i]:edges[i + 1]]``.
        lengths: of the rows, ``(B,)``.
        valid: which rows are not null, ``(B,)``.
    """

    def __init__(self, column: Any) -> None:
        offsets = column.offsets.to_numpy().astype(np.int64)
        start, stop = int(offsets[0]), int(offsets[-1])
        inner = column.values.slice(start, stop - start)
        if inner.null_count:
            inner = inner.fill_null(-1)
        self.flat: npt.NDArray[Any] = inner.to_numpy()
        self._offsets = offsets - start
        self.edges: list[int] = self._offsets.tolist()
        self.lengths = np.diff(self._offsets)
        self.valid: npt.NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)

    def ascends(self) -> npt.NDArray[np.bool_]:
        """Which numbers are greater than the one before them in their list, if there is one."""
        found = np.ones(len(self.flat) + 1, bool)
        found[1:-1] = self.flat[1:] > self.flat[:-1]
        found[self._offsets] = True
        return found[:-1]

    def refuse(self, bad: npt.NDArray[np.bool_], sound: npt.NDArray[np.bool_]) -> None:
        """Take out of the sound rows those that hold a bad number."""
        if bad.any():
            rows = np.repeat(np.arange(len(self.lengths)), self.lengths)
            sound[rows[bad]] = False


def require_arrow() -> None:
    """Raises MissingExtraError: ``pyarrow`` is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise MissingExtraError("Writing Parquet", "sources") from None
