"""Vectors in files: JSONL as Anserini's JsonVectorCollection reads it, or CSR in ``.npz``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import orjson

from splade_os.encoding import DocumentEncoder
from splade_os.errors import EncoderProcessError, EncodingError
from splade_os.features import decimals
from splade_os.ingest.documents.records import Record, Rejected
from splade_os.vectors import Ids, SparseBatch

Skip = Callable[[str, str], None]


@dataclass(frozen=True)
class EncodedRecords:
    """Records, the token ids of their texts (`DocumentEncoder.tokenize_documents`) and their
    vectors, in the same order."""

    records: list[Record]
    tokens: list[Ids]
    batch: SparseBatch


def encoded(
    records: Iterable[Record | Rejected], encoder: DocumentEncoder, skip: Skip
) -> Iterator[EncodedRecords]:
    """Every record that can be encoded, in the order of the source, some at a time."""
    stream = iter(records)
    while window := list(islice(stream, encoder.window)):
        good = []
        for item in window:
            if isinstance(item, Rejected):
                skip(item.where, item.reason)
            else:
                good.append(item)
        yield from encode_records(good, encoder, skip)


def encode_records(
    records: list[Record], encoder: DocumentEncoder, skip: Skip
) -> Iterator[EncodedRecords]:
    """Those of the records that can be encoded: all at once, or, where one of them cannot be, in
    parts."""
    if not records:
        return
    try:
        tokens, _ = encoder.tokenize_documents([record.text for record in records])
        batch = encoder.encode_tokens(tokens)
    except EncoderProcessError:
        raise
    except EncodingError as error:
        if len(records) == 1:
            skip(records[0].where, error.message)
            return
        middle = len(records) // 2  # one of them is the culprit: it is found by halves
        yield from encode_records(records[:middle], encoder, skip)
        yield from encode_records(records[middle:], encoder, skip)
        return
    yield EncodedRecords(records, tokens, batch)


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
        for found in encoded(records, encoder, skip):
            for record, (ids, weights) in zip(found.records, found.batch, strict=True):
                pairs = (keys[i] + w for i, w in zip(ids.tolist(), decimals(weights), strict=True))
                vector = b",".join(pairs)
                handle.write(b'{"id":%b,"vector":{%b}}\n' % (orjson.dumps(record.id), vector))
            count += len(found.records)
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
    identifiers: list[str] = []
    batches = []
    for found in encoded(records, encoder, skip):
        identifiers += [record.id for record in found.records]
        batches.append(found.batch)
    batch = SparseBatch.concat(batches, encoder.identity.vocabulary_size)
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
    return len(identifiers)
