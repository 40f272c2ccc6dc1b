"""IDF tables: one weight per token, all that an inference-free query needs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from safetensors import SafetensorError
from safetensors.numpy import load_file

from splade_os.errors import ModelError
from splade_os.statistics import TermStatistics
from splade_os.vectors import Weights
from splade_os.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class IdfTable:
    """Query weight of every token.

    Attributes:
        weights: float32 ``(V,)``, finite; tokens at or below zero take no part in a query.
        origin: where it comes from, for people: ``model``, ``index products`` ...
    """

    weights: Weights
    origin: str

    @classmethod
    def from_statistics(
        cls, statistics: TermStatistics, vocabulary: Vocabulary, origin: str = "corpus"
    ) -> IdfTable:
        """``ln(1 + (N - df + 0.5) / (df + 0.5))``, BM25's IDF in Lucene's form.

        The formula of OpenSearch's own table (opensearch-sparse-model-tuning-sample,
        get_idf.py). Every token gets a value, the unseen ones the highest; special and
        unknown tokens get none.
        """
        n, df = statistics.documents, statistics.frequencies.astype(np.float64)
        weights = np.log1p((n - df + 0.5) / (df + 0.5)).astype(np.float32)
        weights[list(vocabulary.special_ids)] = 0
        return cls(weights, origin)

    @classmethod
    def from_tokens(
        cls, table: Mapping[str, float], vocabulary: Vocabulary, origin: str
    ) -> IdfTable:
        """A table token → weight (``idf.json``); tokens that it lacks get no weight."""
        weights = np.zeros(len(vocabulary), np.float32)
        for token, weight in table.items():
            i = vocabulary.id(token)
            if i is None:
                continue
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                raise ModelError(f"{origin}: the weight of token {token!r} is {weight!r}.")
            weights[i] = weight
        return cls(_checked(weights, origin), origin)

    @classmethod
    def from_file(cls, file: Path, vocabulary: Vocabulary, origin: str = "model") -> IdfTable:
        """``model.safetensors`` with a tensor ``weight`` ``(V,)``, ``idf.json``, or lines of
        token, tab and weight (``query_token_weights.txt``).

        Raises:
            ModelError: the file is damaged or does not fit the vocabulary.
        """
        if file.suffix == ".json":
            try:
                table = orjson.loads(file.read_bytes())
            except (orjson.JSONDecodeError, OSError) as error:
                raise ModelError(f"{file} cannot be read: {error}") from None
            if not isinstance(table, dict):
                raise ModelError(f"{file} is not a JSON object of token and weight.")
            return cls.from_tokens(table, vocabulary, origin)
        if file.suffix == ".txt":
            return cls.from_tokens(_read_lines(file), vocabulary, origin)
        try:
            weights = load_file(file)["weight"].astype(np.float32).reshape(-1)
        except (SafetensorError, OSError, KeyError) as error:
            raise ModelError(f"{file} holds no readable tensor 'weight': {error}") from None
        if len(weights) < len(vocabulary):
            raise ModelError(
                f"{file} has {len(weights):,} weights for {len(vocabulary):,} tokens: "
                "table and tokenizer do not belong together."
            )
        return cls(_checked(weights, str(file)), origin)

    def presence(self) -> IdfTable:
        """Weight 1 for every token that has one: for documents into which the table is folded."""
        return IdfTable((self.weights > 0).astype(np.float32), "the documents (folded)")

    def sha256(self) -> str:
        """Of the weights."""
        return hashlib.sha256(self.weights.tobytes()).hexdigest()


def _read_lines(file: Path) -> dict[str, float]:
    table = {}
    # only \n ends a line: some tokens are what str.splitlines takes for line ends
    for number, line in enumerate(file.read_bytes().decode("utf-8", "replace").split("\n"), 1):
        if not line.strip():
            continue
        try:
            token, weight = line.rstrip("\r").rsplit("\t", 1)
            table[token] = float(weight)
        except ValueError:
            raise ModelError(f"{file}:{number} is not a token, a tab and a weight.") from None
    return table


def _checked(weights: Weights, where: str) -> Weights:
    bad = np.flatnonzero(~np.isfinite(weights))
    if len(bad):
        raise ModelError(f"{where}: the weight of token {bad[0]} is {weights[bad[0]]}.")
    return weights
