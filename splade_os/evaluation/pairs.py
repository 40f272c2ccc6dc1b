"""Pair classification: are two texts the same? The measures of the Quora model's card.

Definitions of sentence-transformers' ``SparseBinaryClassificationEvaluator``: both texts are
encoded as documents; a pair counts as the same where its similarity reaches a threshold, which
is the best one for these very pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from splade_os.encoding import DocumentEncoder
from splade_os.errors import InputError
from splade_os.evaluation.sparsity import Sparsity
from splade_os.ingest.documents.records import Record, RecordReader
from splade_os.ingest.sources import find_source, read_source
from splade_os.vectors import SparseBatch

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.bool_]
COLUMNS = ("sentence1", "sentence2", "label")
MEASURES = (
    "accuracy", "accuracy_threshold", "f1", "f1_threshold", "precision", "recall", "ap", "mcc",
)  # fmt: skip
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
_DISTANCES = frozenset({"euclidean", "manhattan"})  # small = the same


@dataclass(frozen=True)
class Pairs:
    """Labelled pairs: ``first[i]`` and ``second[i]`` are the same where ``labels[i]``."""

    first: Sequence[str]
    second: Sequence[str]
    labels: Labels


def read_pairs(spec: str, columns: Sequence[str] = COLUMNS) -> Pairs:
    """Read pairs from anything that ingest reads: CSV, TSV, JSON lines, Parquet, ``hf:`` ...

    Args:
        spec: the source.
        columns: names of the two texts and of the label, 0 or 1.

    Raises:
        InputError: naming the row that is no pair.
    """
    one, other, label = columns
    texts: tuple[list[str], list[str]] = ([], [])
    labels = []
    for item in read_source(find_source(spec), RecordReader((one, other))):
        if not isinstance(item, Record):
            raise InputError(f"{item.where}: {item.reason}.")
        found = [item.source.get(name) for name in columns]
        if not all(isinstance(text, str) for text in found[:2]) or str(found[2]) not in _LABELS:
            raise InputError(
                f"{item.where} is no pair: {one} and {other} must be texts, and {label} 0 or 1.",
                hint=f"It has {', '.join(item.source)}. Name other columns with --columns.",
            )
        texts[0].append(item.source[one])
        texts[1].append(item.source[other])
        labels.append(_LABELS[str(found[2])])
    if len(set(labels)) < 2:
        raise InputError(f"{spec}: pairs of both labels, 0 and 1, are needed.")
    return Pairs(*texts, np.array(labels))


_LABELS = {"0": False, "1": True, "0.0": False, "1.0": True, "False": False, "True": True}


def evaluate_pairs(pairs: Pairs, encoder: DocumentEncoder) -> dict[str, float]:
    """Every figure of the card: ``cosine_accuracy``, ``dot_f1_threshold``, ``max_ap``,
    ``active_dims`` ...; each distinct text is encoded once."""
    texts = list(dict.fromkeys([*pairs.first, *pairs.second]))
    places = {text: i for i, text in enumerate(texts)}
    batch = encoder.encode(texts)
    first = batch.take([places[text] for text in pairs.first])
    second = batch.take([places[text] for text in pairs.second])
    figures: dict[str, float] = {}
    for name, scores in similarities(first, second):
        sign = -1 if name in _DISTANCES else 1
        for measure, value in classify(scores * np.float32(sign), pairs.labels).items():
            threshold = measure.endswith("threshold")
            figures[f"{name}_{measure}"] = value * (sign if threshold else 1)
    for measure in MEASURES:
        found = [value for name, value in figures.items() if name.partition("_")[2] == measure]
        figures[f"max_{measure}"] = max(found)
    sparsity = Sparsity.of(batch)
    figures["active_dims"] = sparsity.active_dims
    figures["sparsity_ratio"] = sparsity.sparsity_ratio
    return figures


def similarities(first: SparseBatch, second: SparseBatch) -> Iterator[tuple[str, Floats]]:
    """Cosine, dot product, Euclidean and Manhattan distance of rows ``i``; each ``(N,)``."""
    a, b = _csr(first), _csr(second)
    dot = _sums(a.multiply(b))
    norms = np.sqrt(_sums(a.multiply(a))), np.sqrt(_sums(b.multiply(b)))
    smallest = np.float32(1e-12)  # the norm of an empty vector is none to divide by
    yield "cosine", dot / (np.maximum(norms[0], smallest) * np.maximum(norms[1], smallest))
    yield "dot", dot
    apart = a - b
    yield "euclidean", np.sqrt(_sums(apart.multiply(apart)))
    yield "manhattan", _sums(abs(apart))


def classify(scores: Floats, labels: Labels) -> dict[str, float]:
    """The measures of one similarity, large = the same.

    Accuracy and F1 are those of their best threshold, which lies half-way between the score of
    the last pair above it and the next; equal scores stay together. MCC is at F1's threshold.
    """
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], labels[order]
    last = np.flatnonzero(np.r_[scores[1:] != scores[:-1], True])  # of each group of equal scores
    taken = last + 1  # pairs called the same, if the threshold lies below this group
    right = np.cumsum(labels)[last]
    positive, count = int(labels.sum()), len(labels)
    following = np.r_[scores[last[:-1] + 1], scores[-1]]
    cuts = ((scores[last] + following) / 2).astype(np.float32)
    cuts = np.where(cuts == following, scores[last], cuts)

    accuracy = (right + (count - positive) - (taken - right)) / count
    best = int(np.argmax(accuracy))
    nothing = (count - positive) / count  # a threshold above all scores
    if accuracy[best] > nothing:
        highest, at = float(accuracy[best]), float(cuts[best])
    else:
        highest, at = nothing, float(np.nextafter(scores[0], np.float32(np.inf)))

    precision, recall = right / taken, right / positive
    f1 = 2 * right / (taken + positive)  # = 2PR / (P + R)
    top = int(np.argmax(f1))
    gained = np.diff(recall, prepend=0.0)
    return {
        "accuracy": highest,
        "accuracy_threshold": at,
        "f1": float(f1[top]),
        "f1_threshold": float(cuts[top]),
        "precision": float(precision[top]),
        "recall": float(recall[top]),
        "ap": float((gained * precision).sum()),
        "mcc": _mcc(int(right[top]), int(taken[top]), positive, count),
    }


def _mcc(right: int, taken: int, positive: int, count: int) -> float:
    """Matthews correlation coefficient of calling ``taken`` pairs the same, ``right`` of them
    rightly."""
    product = taken * positive * (count - taken) * (count - positive)
    return float((right * count - taken * positive) / np.sqrt(product)) if product else 0.0


def _csr(batch: SparseBatch) -> Any:
    shape = (len(batch), batch.width)
    return sparse.csr_matrix((batch.values, batch.indices, batch.indptr), shape=shape)


def _sums(matrix: Any) -> Floats:
    sums: Floats = np.asarray(matrix.sum(axis=1), np.float32).ravel()
    return sums
