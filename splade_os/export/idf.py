"""Query tables for engines: ``idf.json`` and ``query_token_weights.txt``.

Both hold every token of the vocabulary, because OpenSearch gives a token that is missing the
weight 1. Weights are in (0, 64]: Lucene takes no other boost of a feature.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson

from splade_os.encoding.query import IdfQueryEncoder
from splade_os.vectors import Weights
from splade_os.vocabulary import Vocabulary

IDF_FILE, TOKEN_WEIGHTS_FILE = "idf.json", "query_token_weights.txt"
_LOWEST, _HIGHEST = 1e-4, 64.0
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


def export_idf(model: str, out: str | Path) -> list[Path]:
    """Write the query table of an inference-free model into a folder.

    Raises:
        ModelError: the model has no table.
    """
    folder = Path(out)
    encoder = IdfQueryEncoder.load(model)
    folder.mkdir(parents=True, exist_ok=True)
    return write_table(encoder.table.weights, encoder.vocabulary, folder)
