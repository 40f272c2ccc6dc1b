"""Query tables for engines: ``idf.json`` and ``query_token_weights.txt``.

Both hold every token of the vocabulary, because OpenSearch gives a token that is missing the
weight 1. Weights are in (0, 64]: Lucene takes no other boost of a feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from splade_os.encoding.idf import IdfTable
from splade_os.encoding.layout import read_layout
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.encoding.resolve import resolve_model
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.errors import InputError
from splade_os.ingest.documents.records import Record, RecordReader
from splade_os.ingest.sources import find_source, read_source
from splade_os.statistics import TermStatistics
from splade_os.vectors import Weights
from splade_os.vocabulary import Vocabulary

IDF_FILE, TOKEN_WEIGHTS_FILE = "idf.json", "query_token_weights.txt"
_LOWEST, _HIGHEST = 1e-4, 64.0
_COUNTED_AT_ONCE = 1000
_SPECIAL = 1.0  # as in OpenSearch's own table; its tokenizers drop special tokens


def engine_table(weights: Weights, vocabulary: Vocabulary) -> dict[str, float]:
    """Token → weight for an engine, every token of the vocabulary.

    Tokens without a weight get the smallest one (they take part and change no ranking); special
    tokens get 1, as in OpenSearch's own table.
    """
    clipped = np.clip(weights[: len(vocabulary)].astype(np.float64), _LOWEST, _HIGHEST)
    # the shortest decimal that is the float32
    table = {
        token: float(str(np.float32(weight)))
        for token, weight in zip(vocabulary.tokens, clipped, strict=True)
    }
    for i in vocabulary.special_ids:
        table[vocabulary.tokens[i]] = _SPECIAL
    return table


def write_table(weights: Weights, vocabulary: Vocabulary, folder: Path) -> list[Path]:
    """Write both files into ``folder``."""
    table = engine_table(weights, vocabulary)
    json_file, text_file = folder / IDF_FILE, folder / TOKEN_WEIGHTS_FILE
    json_file.write_bytes(orjson.dumps(table, option=orjson.OPT_INDENT_2))
    lines = [f"{token}\t{weight!r}\n" for token, weight in table.items()]
    text_file.write_text("".join(lines), "utf-8")
    return [json_file, text_file]


@dataclass(frozen=True)
class Counted:
    """A table counted on documents.

    Attributes:
        documents: number with at least one token (N of the formula).
        seen: tokens that occur in them.
        skipped: records that could not be read or hold no token.
    """

    table: IdfTable
    vocabulary: Vocabulary
    documents: int
    seen: int
    skipped: int


def count_table(
    source: str, model: str, text: tuple[str, ...] = ("title", "text"), unseen: str = "one"
) -> Counted:
    """Count the documents of a source with the query tokenizer of a model.

    As OpenSearch's own table (opensearch-sparse-model-tuning-sample, get_idf.py): whole texts,
    documents without a token do not count.

    Args:
        source: whatever ingest reads.
        text: fields, joined by a space.
        unseen: weight of tokens that do not occur: ``one``, or ``highest``, that of df = 0.

    Raises:
        InputError: the source cannot be read, or holds no text.
    """
    part = read_layout(resolve_model(model).folder).query
    tokenizer = TextTokenizer(
        part.folder, max_length=None, lowercase=part.lowercase, special_tokens=False
    )
    vocabulary = tokenizer.vocabulary()
    statistics, skipped, batch = TermStatistics.empty(len(vocabulary)), 0, list[str]()

    def flush() -> int:
        found = [ids for ids in tokenizer(batch) if len(ids)]
        statistics.count_many(found)
        return len(batch) - len(found)

    for record in read_source(find_source(source), RecordReader(text)):
        if not isinstance(record, Record):
            skipped += 1
            continue
        batch.append(record.text)
        if len(batch) == _COUNTED_AT_ONCE:
            skipped += flush()
            batch.clear()
    skipped += flush()
    if not statistics.documents:
        raise InputError(f"{source} holds no document with text.")
    table = IdfTable.from_statistics(statistics, vocabulary, source)
    if unseen == "one":
        table.weights[(statistics.frequencies == 0) & (table.weights > 0)] = 1.0
    seen = int((statistics.frequencies > 0).sum())
    return Counted(table, vocabulary, statistics.documents, seen, skipped)


def export_idf(model: str, out: str | Path) -> list[Path]:
    """Write the query table of an inference-free model into a folder.

    Raises:
        ModelError: the model has no table.
    """
    folder = Path(out)
    encoder = IdfQueryEncoder.load(model)
    folder.mkdir(parents=True, exist_ok=True)
    return write_table(encoder.table.weights, encoder.vocabulary, folder)
