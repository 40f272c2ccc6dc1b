"""What stands behind the pooling: vectors of unit length, or of a text's own tokens alone.

As sentence-transformers does it: the steps see the whole vector, and ``max_active_dims`` is cut
behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from splade_os.encoding.backend import Backend
from splade_os.encoding.idf import IdfTable
from splade_os.encoding.parts import SpladePart, StaticPart
from splade_os.encoding.rows import heaviest, row_numbers, scale, selected, stands
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.vectors import Ids, SparseBatch, Weights

_SHORTEST = 1e-12  # of torch's normalize: no vector is divided by less


def with_steps(backend: Backend, part: SpladePart) -> Backend:
    """The backend of a part with all that the part does.

    Raises:
        ModelError: a table is damaged, or does not fit the vocabulary.
    """
    return SteppedBackend(backend, part) if part.steps else backend


class SteppedBackend:
    """A `Backend` with the steps of its part behind it."""

    def __init__(self, backend: Backend, part: SpladePart) -> None:
        self._backend = backend
        self.device, self.precision = backend.device, backend.precision
        self.vocabulary_size, self.max_length = backend.vocabulary_size, backend.max_length
        self.batch_tokens, self.batch_bytes = backend.batch_tokens, backend.batch_bytes
        self.buckets, self.ahead = backend.buckets, backend.ahead
        self._tables = [table_of(part, step, self.vocabulary_size) if isinstance(step, StaticPart)
                        else None for step in part.steps]  # fmt: skip

    def encode(self, tokens: Sequence[Ids], max_active_dims: int | None) -> SparseBatch:
        """See `Backend.encode`."""
        return self.launch(tokens, max_active_dims)()

    def launch(
        self, tokens: Sequence[Ids], max_active_dims: int | None
    ) -> Callable[[], SparseBatch]:
        """See `Backend.launch`."""
        result = self._backend.launch(tokens, None)

        def finish() -> SparseBatch:
            batch = result()
            for table in self._tables:
                if table is None:
                    batch = unit_length(batch)
                else:
                    own = selected(batch, batch.values, stands(batch, tokens))
                    batch = scale(own, table)
            return batch if max_active_dims is None else heaviest(batch, max_active_dims)

        return finish


def table_of(part: SpladePart, step: StaticPart, size: int) -> Weights:
    """The weights ``(V,)`` of a table behind a transformer.

    Raises:
        ModelError: it is damaged, or does not fit the vocabulary.
    """
    tokenizer = TextTokenizer(
        part.folder, max_length=None, lowercase=part.lowercase, special_tokens=True
    )
    return IdfTable.from_file(step.weights, tokenizer.vocabulary(size)).weights[:size]


def unit_length(batch: SparseBatch) -> SparseBatch:
    """Every row divided by its Euclidean length."""
    rows = row_numbers(batch)
    squares = np.bincount(rows, batch.values.astype(np.float64) ** 2, len(batch))
    lengths = np.maximum(np.sqrt(squares), _SHORTEST)
    values = (batch.values / lengths[rows]).astype(np.float32)
    return selected(batch, values, values > 0)
