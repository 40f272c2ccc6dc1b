"""Posting lists in an SQLite file: of each feature one row for every 1,024 documents.

A row holds pairs of 16 bits: the document's place in its block, and the term frequency in which
Lucene's FeatureField keeps the weight (`splade_os.features.bucket_of`). A query reads them as
arrays. Files of before have a row for each posting; an index of theirs is read as it is, and
packed when something is first written into it.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from splade_os.features import MIN_WEIGHT, bucket_of

BLOCK = 1024  # documents
_PAIRS = np.dtype("<u2")
_MAX_WEIGHT = float(np.finfo(np.float32).max)
Documents = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


def buckets(vector: Any) -> dict[str, int]:
    """Feature → what FeatureField would store.

    Raises:
        ValueError: the clusters refuse that vector.
    """
    if vector is None or vector == []:
        return {}
    if not isinstance(vector, dict):
        raise ValueError("[rank_features] fields must be json objects")
    weights: dict[str, float] = {}
    for feature, weight in vector.items():
        if weight is None:
            continue
        if isinstance(weight, bool) or not isinstance(weight, int | float | str):
            raise ValueError(f"the weight of feature {feature!r} is no number")
        value = float(weight)  # the clusters read a number in quotes, too
        if not MIN_WEIGHT <= value <= _MAX_WEIGHT:
            raise ValueError(f"featureValue must be a positive normal float, got {weight}")
        weights[feature] = value
    stored = bucket_of(np.array(list(weights.values()), np.float32))
    return dict(zip(weights, stored.tolist(), strict=True))


class Postings:
    """The posting lists of one index, to read."""

    def __init__(self, db: sqlite3.Connection, number: int) -> None:
        self._db, self._number = db, number
        self._packed = is_packed(db, number)

    def of(self, feature: str) -> tuple[Documents, Scores]:
        """Documents, each once, and their stored weights."""
        if not self._packed:
            rows = self._db.execute(
                "SELECT document, weight FROM postings WHERE in_index = ? AND feature = ?",
                (self._number, feature),
            ).fetchall()
            documents, weights = zip(*rows, strict=True) if rows else ((), ())
            return np.array(documents, np.int64), np.array(weights, np.float64)
        rows = self._db.execute(
            "SELECT block, postings FROM posting_blocks WHERE in_index = ? AND feature = ?",
            (self._number, feature),
        ).fetchall()
        pairs = _pairs(b"".join(blob for _, blob in rows))
        counts = [len(blob) // (2 * _PAIRS.itemsize) for _, blob in rows]
        first = np.repeat(np.array([block for block, _ in rows], np.int64) * BLOCK, counts)
        bits = pairs[:, 1].astype(np.uint32) << np.uint32(15)
        return first + pairs[:, 0], bits.view(np.float32).astype(np.float64)


class Changes:
    """What a bulk request changes in the posting lists of one index, until it is written."""

    def __init__(self) -> None:
        self._blocks: defaultdict[tuple[str, int], dict[int, int]] = defaultdict(dict)

    def put(self, document: int, vector: Mapping[str, int]) -> None:
        """A document with these features (`buckets`)."""
        block, place = divmod(document, BLOCK)
        for feature, bucket in vector.items():
            self._blocks[feature, block][place] = bucket

    def remove(self, document: int, features: Iterable[str]) -> None:
        self.put(document, dict.fromkeys(features, 0))  # no normal weight has the bucket 0

    def write(self, db: sqlite3.Connection, number: int) -> None:
        for (feature, block), changed in sorted(self._blocks.items()):
            key = (number, feature, block)
            row = db.execute(
                "SELECT postings FROM posting_blocks "
                "WHERE in_index = ? AND feature = ? AND block = ?",
                key,
            ).fetchone()
            old = _pairs(row[0] if row else b"")
            whole = np.zeros(BLOCK, _PAIRS)
            whole[old[:, 0]] = old[:, 1]
            whole[list(changed)] = list(changed.values())
            places = np.flatnonzero(whole)
            if len(places):
                new = np.stack([places.astype(_PAIRS), whole[places]], axis=1)
                db.execute(
                    "INSERT OR REPLACE INTO posting_blocks VALUES (?, ?, ?, ?)",
                    (*key, new.tobytes()),
                )
            elif row:
                db.execute(
                    "DELETE FROM posting_blocks WHERE in_index = ? AND feature = ? AND block = ?",
                    key,
                )
        self._blocks.clear()


def is_packed(db: sqlite3.Connection, number: int) -> bool:
    """Whether an index is not one of a file of before."""
    known = "SELECT 1 FROM with_posting_blocks WHERE in_index = ?"
    return db.execute(known, (number,)).fetchone() is not None


def pack(db: sqlite3.Connection, number: int) -> None:
    """Pack the posting lists of an index that an earlier version made."""
    if is_packed(db, number):
        return
    rows: Iterator[tuple[str, int, float]] = db.execute(
        "SELECT feature, document, weight FROM postings WHERE in_index = ? "
        "ORDER BY feature, document",
        (number,),
    )
    for feature, some in groupby(rows, lambda row: row[0]):
        changes = Changes()
        listed = list(some)
        kept = bucket_of(np.array([weight for _, _, weight in listed], np.float32)).tolist()
        for (_, document, _), bucket in zip(listed, kept, strict=True):
            changes.put(document, {feature: bucket})
        changes.write(db, number)
    db.execute("DELETE FROM postings WHERE in_index = ?", (number,))
    db.execute("INSERT INTO with_posting_blocks VALUES (?)", (number,))


def _pairs(data: bytes) -> npt.NDArray[np.uint16]:
    return np.frombuffer(data, _PAIRS).reshape(-1, 2)
