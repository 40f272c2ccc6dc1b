"""IDF tables: one weight per token, all that an inference-free query needs."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splade_os.encoding.idf_file import read_table
from splade_os.errors import ModelError, SpladeWarning
from splade_os.statistics import TermStatistics
from splade_os.vectors import Weights
from splade_os.vocabulary import Vocabulary

_MOST_MISSING = 0.01
"""Part of a vocabulary that may have been added behind a table; more is another vocabulary."""
_PADDED = 127  # entries by which tables are rounded up to a multiple, as heads are
_LARGEST = float(np.finfo(np.float32).max)


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
        cls, table: Mapping[str, float], vocabulary: Vocabulary, origin: str, where: str = ""
    ) -> IdfTable:
        """A table token → weight (``idf.json``); tokens that it lacks get no weight.

        Args:
            where: the file, for messages; default the origin.

        Raises:
            ModelError: a weight is no number, or no token is one of the vocabulary.
        """
        where = where or origin
        weights = np.zeros(len(vocabulary), np.float32)
        known = 0
        for token, weight in table.items():
            i = vocabulary.id(token)
            if i is None:
                continue
            known += 1
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                found = f"{type(weight).__name__}, not a number"
                raise ModelError(f"{where}: the weight of token {token!r} is {found}.")
            if not abs(weight) <= _LARGEST:
                found = str(weight) if isinstance(weight, float) else "too large"
                raise ModelError(f"{where}: the weight of token {token!r} is {found}.")
            weights[i] = weight
        if not known:
            raise ModelError(
                f"{where}: none of its {len(table):,} tokens is one of the model's "
                f"{len(vocabulary):,}: table and tokenizer do not belong together."
            )
        return cls(weights, origin)

    @classmethod
    def from_file(cls, file: Path, vocabulary: Vocabulary, origin: str = "model") -> IdfTable:
        """A table in any of `splade_os.encoding.idf_file.FORMS`.

        Raises:
            ModelError: the file is missing, damaged, or does not fit the vocabulary.
        """
        found = read_table(file)
        if isinstance(found, dict):
            return cls.from_tokens(found, vocabulary, origin, str(file))
        weights = found
        more = len(weights) - len(vocabulary)
        if more > max(_PADDED, _MOST_MISSING * len(vocabulary)):
            raise ModelError(
                f"{file} has {len(weights):,} weights for {len(vocabulary):,} tokens: "
                "table and tokenizer do not belong together.",
                hint="Name the table of this model, or its whole folder.",
            )
        missing = vocabulary.tokens[len(weights) :]
        if len(missing) > _MOST_MISSING * len(vocabulary):
            raise ModelError(
                f"{file} has {len(weights):,} weights for {len(vocabulary):,} tokens: "
                "table and tokenizer do not belong together.",
                hint="A table of token and weight (idf.json) may name as few tokens as it likes.",
            )
        if missing:
            warnings.warn(
                f"{file} has no weight for the last {len(missing):,} of {len(vocabulary):,} tokens "
                f"({', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}): they take no "
                "part in queries.",
                SpladeWarning,
                stacklevel=2,
            )
            weights = np.pad(weights, (0, len(missing)))
        return cls(_checked(weights, str(file)), origin)

    def presence(self) -> IdfTable:
        """Weight 1 for every token that has one: for documents into which the table is folded."""
        return IdfTable((self.weights > 0).astype(np.float32), "the documents (folded)")

    def sha256(self) -> str:
        """Of the weights."""
        return hashlib.sha256(self.weights.tobytes()).hexdigest()


def _checked(weights: Weights, where: str) -> Weights:
    bad = np.flatnonzero(~np.isfinite(weights))
    if len(bad):
        raise ModelError(f"{where}: the weight of token {bad[0]} is {weights[bad[0]]}.")
    return weights
