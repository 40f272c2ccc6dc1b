"""Vectors in files: JSONL as Anserini's JsonVectorCollection reads it, or CSR in ``.npz``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import numpy as np
import orjson

from splade_os.encoding import DocumentEncoder
from splade_os.errors import EncoderProcessError, EncodingError
from splade_os.features import decimals
from splade_os.ingest.documents.records import Record, Rejected
from splade_os.vectors import Ids, SparseBatch, Weights

Skip = Callable[[str, str], None]


def encoded(
    records: Iterable[Record | Rejected], encoder: DocumentEncoder, skip: Skip
) -> Iterator[tuple[str, Ids, Weights]]:
    """Id and vector of every record that can be encoded, in the order of the source."""
    stream = iter(records)
    while window := list(islice(stream, encoder.window)):
        good = []
        for item in window:
            if isinstance(item, Rejected):
                skip(item.where, item.reason)
            else:
                good.append(item)
        yield from _encoded(good, encoder, skip)


def _encoded(
    records: list[Record], encoder: DocumentEncoder, skip: Skip
) -> Iterator[tuple[str, Ids, Weights]]:
    try:
        rows = encoder.encode_content([record.text for record in records])
    except EncoderProcessError:
        raise
    except EncodingError as error:
        if len(records) == 1:
            skip(records[0].where, error.message)
            return
        middle = len(records) // 2  # one of them is the culprit: it is found by halves
        yield from _encoded(records[:middle], encoder, skip)
        yield from _encoded(records[middle:], encoder, skip)
        return
    yield from ((r.id, *row) for r, row in zip(records, rows, strict=True))


def write_jsonl(
    out: Path, records: Iterable[Record | Rejected], encoder: DocumentEncoder, skip: Skip
) -> int:
    """``{"id": ..., "vector": {token: weight}}`` a line; weights as an engine stores them.

    Returns:
        The number of vectors.
    """
    keys = [orjson.dumps(token) + b":" for token in encoder.vocabulary.tokens]
    count = 0
    standard = str(out) == "-"
    with nullcontext(sys.stdout.buffer) if standard else out.open("wb") as handle:
        for identifier, ids, weights in encoded(records, encoder, skip):
            pairs = (keys[i] + w for i, w in zip(ids.tolist(), decimals(weights), strict=True))
            vector = b",".join(pairs)
            handle.write(b'{"id":%b,"vector":{%b}}\n' % (orjson.dumps(identifier), vector))
            count += 1
    return count


def write_npz(
    out: Path, records: Iterable[Record | Rejected], encoder: DocumentEncoder, skip: Skip
) -> int:
    """``indptr, indices, values, width, ids, id_lengths``: the float32 weights as they are.

    NumPy drops NUL characters at the end of a text; with them an id is
    ``ids[i].ljust(id_lengths[i], "\\0")``.

    Returns:
        The number of vectors.
    """
    identifiers, rows = [], []
    for identifier, ids, weights in encoded(records, encoder, skip):
        identifiers.append(identifier)
        rows.append((ids, weights))
    batch = SparseBatch.from_rows(rows, encoder.identity.vocabulary_size)
    with out.open("wb") as handle:
        np.savez_compressed(
            handle,
            indptr=batch.indptr,
            indices=batch.indices,
            values=batch.values,
            width=batch.width,
            ids=np.array(identifiers, dtype=str),
            id_lengths=np.array([len(identifier) for identifier in identifiers], np.int32),
        )
    return len(rows)
