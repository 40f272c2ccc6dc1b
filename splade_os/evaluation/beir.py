"""Queries and judgements in the BEIR layout: ``queries.jsonl``, ``qrels/<split>.tsv``."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import orjson

from splade_os.errors import InputError


@dataclass(frozen=True)
class Judged:
    """The judged queries of one split.

    Attributes:
        queries: query id → text, of the queries that have a judgement.
        qrels: query id → document id → relevance.
    """

    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def read_judged(folder: Path, split: str = "test") -> Judged:
    """Read one split of a BEIR folder; files may be gzipped.

    Raises:
        InputError: a file is missing or damaged.
    """
    qrels: dict[str, dict[str, int]] = {}
    for row in csv.DictReader(
        _text(folder / "qrels" / f"{split}.tsv").splitlines(), delimiter="\t"
    ):
        try:
            qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
        except (KeyError, TypeError, ValueError):
            raise InputError(
                f"{folder}/qrels/{split}.tsv has a line that is not query-id, corpus-id, score: "
                f"{row}."
            ) from None
    queries = {}
    for line in _text(folder / "queries.jsonl").splitlines():
        if line.strip():
            query = orjson.loads(line)
            if str(query["_id"]) in qrels:
                queries[str(query["_id"])] = str(query["text"])
    return Judged(queries, qrels)


def _text(file: Path) -> str:
    packed = file.with_name(file.name + ".gz")
    if file.is_file():
        return file.read_text("utf-8")
    if packed.is_file():
        return gzip.decompress(packed.read_bytes()).decode()
    raise InputError(f"{file} is missing (and {packed.name} as well).")
