"""Weights as term frequencies of a plain text field: the field type ``impact``.

A vector is one string, ``red|93 shoe|255``: a filter of the index (``delimited_term_freq``) reads
what stands behind the bar as the frequency of the term. The field's similarity is BM25 with
``k1 = 255`` and ``b = 0``, which makes ``idf · tf / (tf + 255)`` of it (Lucene's
``BM25Similarity``). So with a scale ``M`` of the index (`IndexMeta.impact_max`) a weight ``w`` is
stored as ::

    tf = round(255 w / (2 M - w)), at least 1        w' = 2 M tf / (tf + 255)

and a clause with the boost ``q · 2 M / idf`` scores ``q · w'``: the dot product, whatever the idf.
Weights up to ``M`` take 1 to 255, in steps of ``2 M / 256`` at the lower end and ``M / 510`` at the
upper one; a greater one, up to ``2 M``, takes a greater frequency.

Lucene's own field for weights, ``FeatureField`` behind ``rank_features``, stores a number of 15
bits for each and makes a field instance for each term; these take 8 bits and one token stream.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from splade_os.vectors import Weights
from splade_os.vocabulary import ESCAPE

K1 = 255
"""The similarity's ``k1``, and the frequency of the weight ``M``."""
MAX_FREQUENCY = 65_535
"""That of the greatest weight that can be stored, ``.996 · 2 M``."""
DEFAULT_MAX = 4.0

_TO_TERM = str.maketrans({" ": ESCAPE + "3", "|": ESCAPE + "4"})


def term_of(feature: str) -> str:
    """The term of a feature: its name, but for what separates terms and frequencies."""
    return feature.translate(_TO_TERM)


def _feature_of(term: str) -> str:
    return term.replace(ESCAPE + "3", " ").replace(ESCAPE + "4", "|")


def largest(maximum: float) -> float:
    """The greatest weight that an index with this scale takes."""
    return 2 * maximum * MAX_FREQUENCY / (MAX_FREQUENCY + K1)


def frequencies(weights: Weights, maximum: float) -> npt.NDArray[np.int64]:
    """The term frequency of each weight; weights must be positive and at most `largest`."""
    values = np.asarray(weights, np.float64)
    found = np.rint(K1 * values / (2 * maximum - values))
    return np.clip(found, 1, MAX_FREQUENCY).astype(np.int64)


def weights_of(stored: npt.ArrayLike, maximum: float) -> Weights:
    """The weight that a term frequency scores as."""
    tf = np.asarray(stored, np.float64)
    return (2 * maximum * tf / (tf + K1)).astype(np.float32)


def vector_of(text: str, maximum: float) -> dict[str, float]:
    """Feature → weight of a stored vector.

    Raises:
        ValueError: it is none.
    """
    parts = [part.rpartition("|") for part in text.split(" ") if part]
    values = weights_of([int(tf) for _, _, tf in parts], maximum).tolist()
    return {_feature_of(term): w for (term, _, _), w in zip(parts, values, strict=True)}


def idf(documents: int, frequency: int) -> float:
    """Lucene's idf of a term that ``frequency`` of ``documents`` hold (``BM25Similarity``)."""
    return math.log1p((documents - frequency + 0.5) / (frequency + 0.5))
