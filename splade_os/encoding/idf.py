"""IDF tables: one weight per token, all that an inference-free query needs."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from safetensors import SafetensorError, deserialize

from splade_os.errors import ModelError, SpladeWarning
from splade_os.statistics import TermStatistics
from splade_os.vectors import Weights
from splade_os.vocabulary import Vocabulary

_MOST_MISSING = 0.01
"""Part of a vocabulary that may have been added behind a table; more is another vocabulary."""
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
        cls, table: Mapping[str, float], vocabulary: Vocabulary, origin: str
    ) -> IdfTable:
        """A table token → weight (``idf.json``); tokens that it lacks get no weight."""
        weights = np.zeros(len(vocabulary), np.float32)
        known = 0
        for token, weight in table.items():
            i = vocabulary.id(token)
            if i is None:
                continue
            known += 1
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                found = f"{type(weight).__name__}, not a number"
                raise ModelError(f"{origin}: the weight of token {token!r} is {found}.")
            if not abs(weight) <= _LARGEST:
                found = str(weight) if isinstance(weight, float) else "too large"
                raise ModelError(f"{origin}: the weight of token {token!r} is {found}.")
            weights[i] = weight
        if not known:
            raise ModelError(
                f"{origin}: none of its {len(table):,} tokens is one of the model's "
                f"{len(vocabulary):,}: table and tokenizer do not belong together."
            )
        return cls(weights, origin)

    @classmethod
    def from_file(cls, file: Path, vocabulary: Vocabulary, origin: str = "model") -> IdfTable:
        """``model.safetensors`` with a tensor ``weight`` ``(V,)``, ``idf.json``, or lines of
        token, tab and weight (``query_token_weights.txt``).

        Raises:
            ModelError: the file is missing, damaged, or does not fit the vocabulary.
        """
        try:
            data = file.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = getattr(error, "strerror", None) or error
            raise ModelError(f"The IDF table {file} cannot be read: {reason}.") from None
        if file.suffix == ".json":
            return cls.from_tokens(_parse_json(data, file), vocabulary, origin)
        if file.suffix == ".txt":
            return cls.from_tokens(_parse_lines(data, file), vocabulary, origin)
        weights = _parse_safetensors(data, file)
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


def _parse_json(data: bytes, file: Path) -> dict[str, Any]:
    try:
        table = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ModelError(f"{file} is not valid JSON: {error}") from None
    if not isinstance(table, dict):
        raise ModelError(f"{file} is not a JSON object of token and weight.")
    return table


def _parse_lines(data: bytes, file: Path) -> dict[str, float]:
    table = {}
    # only \n ends a line: some tokens are what str.splitlines takes for line ends
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            token, weight = line.removesuffix(b"\r").rsplit(b"\t", 1)
            table[token.decode()] = float(weight)
        except UnicodeDecodeError:
            raise ModelError(f"{file}:{number} is not UTF-8.") from None
        except ValueError:
            raise ModelError(f"{file}:{number} is not a token, a tab and a weight.") from None
    return table


_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def _parse_safetensors(data: bytes, file: Path) -> Weights:
    try:
        tensors = dict(deserialize(data))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ModelError(
            f"{file} holds no readable tensor 'weight': {error}",
            hint="An IDF table is idf.json, query_token_weights.txt, or a file of safetensors.",
        ) from None
    if "weight" not in tensors:
        raise ModelError(f"{file} holds no tensor 'weight' but {', '.join(tensors) or 'nothing'}.")
    tensor = tensors["weight"]
    if tensor["dtype"] not in _DTYPES:
        raise ModelError(
            f"{file}: the tensor 'weight' is of type {tensor['dtype']}; it must be one of "
            f"{', '.join(_DTYPES)}."
        )
    raw = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]])
    if tensor["dtype"] == "BF16":  # the upper half of a float32
        return (raw.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # what float32 lacks becomes infinite, and is refused
        return raw.astype(np.float32)


def _checked(weights: Weights, where: str) -> Weights:
    bad = np.flatnonzero(~np.isfinite(weights))
    if len(bad):
        raise ModelError(f"{where}: the weight of token {bad[0]} is {weights[bad[0]]}.")
    return weights
