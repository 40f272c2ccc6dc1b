"""Which rows make a batch, and what a batch is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from splade_os.training.data import Row, Rows
from splade_os.training.model import Features, TextEncoder
from splade_os.training.teacher_scores import TeacherScores


class BatchSampler:
    """Batches of row numbers, the same on every rank up to the own part of each batch.

    A batch is drawn for all ranks together, so that ``no-duplicates`` holds across them.

    Args:
        rows: the data.
        batch_size: rows per batch and rank.
        kind: ``no-duplicates``, ``random`` or ``sequential``.
        seed: of the order; each epoch has another.
        drop_last: leave out the last batch where it is not full (always with several ranks).
        rank, world: of this process.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        kind: str,
        seed: int,
        drop_last: bool,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._rows, self._size, self._kind = rows, batch_size, kind
        self._seed, self._drop_last = seed, drop_last or world > 1
        self._rank, self._world = rank, world
        self.epoch = 0
        self.batch_sampler = self  # where transformers looks for set_epoch
        self._keys = rows.keys() if kind == "no-duplicates" else None

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer."""
        self.epoch = epoch
        self._rows.set_epoch(epoch)

    def __len__(self) -> int:
        whole = self._size * self._world
        return len(self._rows) // whole if self._drop_last else -(-len(self._rows) // whole)

    def __iter__(self) -> Iterator[list[int]]:
        first = self._rank * self._size
        for batch in self._batches():
            yield batch[first : first + self._size]

    def _batches(self) -> Iterator[list[int]]:
        order = list(range(len(self._rows)))
        if self._kind != "sequential":
            generator = torch.Generator().manual_seed(self._seed + self.epoch)
            order = torch.randperm(len(order), generator=generator).tolist()
        whole, promised, made = self._size * self._world, len(self), 0
        if self._keys is None:
            for start in range(0, len(order), whole):
                if made < promised:
                    made += 1
                    yield order[start : start + whole]
            return
        # rows that clash wait for the next batch; the length that was promised is kept by starting
        # over, because the learning rate's schedule was made for it
        while made < promised:
            progress = made
            for batch in _distinct(order, self._keys, whole):
                if len(batch) == whole or not self._drop_last:
                    made += 1
                    yield batch
                if made == promised:
                    return
            if made == progress:
                return  # fewer distinct rows than a batch holds


def _distinct(order: Sequence[int], keys: Any, size: int) -> Iterator[list[int]]:
    """Batches in which no key occurs in two rows; the last one may be short."""
    fresh, waiting = iter(order), deque[int]()
    exhausted = False
    while True:
        batch: list[int] = []
        used: set[int] = set()
        still: deque[int] = deque()
        while len(batch) < size:
            if waiting:
                row = waiting.popleft()
            else:
                row = next(fresh, -1)
                if row < 0:
                    exhausted = True
                    break
            own = set(keys[row].tolist())
            if used & own:
                still.append(row)
                continue
            used |= own
            batch.append(row)
        still.extend(waiting)
        waiting = still
        if batch:
            yield batch
        if exhausted and not waiting:
            return


class Collator:
    """Rows → what a training step takes.

    Args:
        encoder: texts → token ids.
        keep_texts: teachers that run online need them.
    """

    def __init__(self, encoder: TextEncoder, keep_texts: bool = False) -> None:
        self._encoder, self._keep_texts = encoder, keep_texts

    def __call__(self, rows: list[Row]) -> dict[str, Any]:
        """A batch: ``queries`` and ``documents`` (column by column, ``K · B`` texts), ``columns``
        K, ``teacher``: `TeacherScores` or ``None``, ``prior`` of the documents or ``None``."""
        columns = min(len(row.documents) for row in rows)
        queries = [row.query for row in rows]
        documents = [row.documents[c] for c in range(columns) for row in rows]
        tokens = self._encoder.document_tokens(documents)
        teacher = None
        if rows[0].scores_kind is not None:
            values = torch.tensor([row.scores for row in rows], dtype=torch.float32)
            teacher = TeacherScores(rows[0].scores_kind, values)
        return {
            "queries": self._encoder.queries(queries),
            "documents": self._encoder.pad(tokens),
            "columns": columns,
            "teacher": teacher,
            "prior": self._encoder.prior_of(tokens),
            "texts": (queries, documents) if self._keep_texts else None,
        }


def trim(features: Features, rows: np.ndarray[Any, Any]) -> Features:
    """Some rows of features, without the padding that they do not need."""
    place = torch.from_numpy(rows)
    mask = features["attention_mask"][place]
    longest = max(1, int(mask.sum(1).max()))
    return {
        "input_ids": features["input_ids"][place, :longest],
        "attention_mask": mask[:, :longest],
    }
