"""A query encoder that many threads ask at once: what comes while it runs is one batch next."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from splade_os.encoding.query import QueryEncoder
from splade_os.encoding.tokenization import refuse_one_text
from splade_os.errors import SpladeError
from splade_os.vectors import SparseBatch
from splade_os.vocabulary import Vocabulary

_MOST = 64  # texts of one batch


class _Asked:
    """Texts of one caller, and what came of them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.vectors: SparseBatch | None = None
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.vectors is not None or self.error is not None


class SharedBatches:
    """Encodes as ``encoder`` does. Who is alone does not wait; callers of other threads that come
    while a batch runs share the next one. Safe from any thread, and after a fork.

    Attributes:
        batches, texts: how many have been encoded.
    """

    def __init__(self, encoder: QueryEncoder) -> None:
        self.encoder = encoder
        self.batches = self.texts = 0
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._waiting: list[_Asked] = []
        self._queue, self._running = threading.Lock(), threading.Lock()

    @property
    def vocabulary(self) -> Vocabulary:
        """Tokens of the output dimensions."""
        return self.encoder.vocabulary

    def encode(self, texts: Sequence[str]) -> SparseBatch:
        """`QueryEncoder.encode`, in a batch of its own."""
        return self.encoder.encode(texts)

    def tokens_cut(self, texts: Sequence[str]) -> list[int]:
        """`QueryEncoder.tokens_cut`."""
        return self.encoder.tokens_cut(texts)

    def encode_content(self, texts: Sequence[str]) -> SparseBatch:
        """`QueryEncoder.encode_content`, with the texts of others.

        Raises:
            EncodingError: one of these texts cannot be encoded; those of others do not matter.
        """
        refuse_one_text(texts)
        if self._process != os.getpid():  # the threads that hold the locks have not come along
            self._begin()
        mine = _Asked(texts)
        with self._queue:
            self._waiting.append(mine)
        while not mine.done:
            with self._running:
                if not mine.done:
                    self._encode(self._next())
        if mine.error is not None:
            raise mine.error
        assert mine.vectors is not None
        return mine.vectors

    def _next(self) -> list[_Asked]:
        """Those that have waited longest; at least one."""
        with self._queue:
            count = size = 0
            for asked in self._waiting:
                size += len(asked.texts)
                if count and size > _MOST:
                    break
                count += 1
            batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    def _encode(self, batch: list[_Asked]) -> None:
        texts = [text for asked in batch for text in asked.texts]
        try:
            vectors = self.encoder.encode_content(texts)
        except SpladeError as error:
            if len(batch) == 1:
                batch[0].error = error
            else:  # whose text it was: the error says its position among those of its caller
                for asked in batch:
                    self._encode([asked])
            return
        except BaseException as error:
            failed = error if isinstance(error, Exception) else RuntimeError("interrupted")
            for asked in batch:
                asked.error = failed
            raise
        self.batches, self.texts = self.batches + 1, self.texts + len(texts)
        start = 0
        for asked in batch:
            asked.vectors = vectors.take(range(start, start + len(asked.texts)))
            start += len(asked.texts)
