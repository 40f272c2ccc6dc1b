"""The lexical prior: what a text says itself, beside what the model makes of it.

The weight of a token that occurs in the text gains ``c · m · tf`` with BM25's saturated term
frequency over wordpieces (Robertson & Zaragoza 2009)::

    tf = f · (k1 + 1) / (f + k1 · (1 − b + b · length / average length))

where ``m`` is the mean weight of the model, so that ``c`` means the same for every model. With IDF
query weights the two parts are BM25 over wordpieces plus learned expansion, in one field, one
query and one inverted index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splade_os.encoding.backend import Backend
from splade_os.encoding.first_words import FirstWords
from splade_os.encoding.rows import combine, row_numbers
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.vectors import Ids, SparseBatch

K1, B = 1.2, 0.75
SAMPLE = 1_000
"""Documents at the beginning of a corpus on which its average length is measured."""
# Everyday sentences on which the mean weight of a model is measured.
_SENTENCES = (
    "The museum opens at nine in the morning and is closed on public holidays.",
    "How do I replace the battery of a laptop without losing my files?",
    "Heavy rain is expected in the north, with strong winds along the coast.",
    "The study found that regular exercise lowers the risk of heart disease.",
    "She inherited a small farm from her grandfather and grows apples there.",
    "Returns are accepted within thirty days if the product is unused.",
    "The parliament voted on Tuesday to raise the minimum wage next year.",
    "Heat the oil, add the onions, and cook them gently until they are soft.",
    "A function that calls itself needs a condition under which it stops.",
    "The train to the airport leaves every twenty minutes from platform two.",
    "Black coffee, two slices of toast with honey, and the morning paper.",
    "The old castle was destroyed by fire and rebuilt in the nineteenth century.",
)


def mean_weight(backend: Backend, tokenizer: TextTokenizer, max_active_dims: int | None) -> float:
    """Mean of a model's weights on fixed sentences, to three digits."""
    values = backend.encode(tokenizer(_SENTENCES), max_active_dims).values
    return float(f"{values.mean():.3g}") if len(values) else 0.0


@dataclass(frozen=True)
class LexicalPrior:
    """Adds the prior to encoded documents.

    Attributes:
        weight: ``c · m``; 0 adds nothing.
        average_length: tokens of an average document, without special ones.
        special_ids: tokens that get no prior.
        first_words: (``leading_space``) changes the first word of every text.
    """

    weight: float
    average_length: float
    special_ids: frozenset[int]
    first_words: FirstWords | None = None

    def add(self, batch: SparseBatch, tokens: Sequence[Ids]) -> SparseBatch:
        """``batch`` with the prior of ``tokens``, row by row."""
        if self.weight <= 0:
            return batch
        special = np.fromiter(self.special_ids, np.int32, len(self.special_ids))
        own = [ids[~np.isin(ids, special)] for ids in tokens]
        if self.first_words is not None:
            own = [self.first_words(ids) for ids in own]
        all_ids = np.concatenate([np.empty(0, np.int32), *own])
        rows = np.repeat(np.arange(len(tokens)), [len(ids) for ids in own])
        lengths = np.bincount(rows, minlength=len(tokens))
        counts = combine(
            rows,
            all_ids,
            np.ones(len(all_ids), np.float32),
            count=len(tokens),
            width=batch.width,
            how="sum",
        )
        places, f = row_numbers(counts), counts.values
        norm = K1 * (1 - B + B * lengths[places] / self.average_length)
        tf = f * (K1 + 1) / (f + norm)
        return combine(
            np.concatenate([row_numbers(batch), places]),
            np.concatenate([batch.indices, counts.indices]),
            np.concatenate([batch.values, (self.weight * tf).astype(np.float32)]),
            count=len(batch),
            width=batch.width,
            how="sum",
        )
