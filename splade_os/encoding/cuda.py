"""A masked-LM transformer on a GPU: the host is always one batch ahead.

`launch` puts upload, forward pass and pooling head of a batch on the device's queue and returns
without waiting; the batch before it is then made sparse and fetched on a second stream, through
pinned memory, while the device works. Lengths are rounded up to a few buckets, so that kernels
see the same shapes again and again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from splade_os.encoding.architecture import Architecture, square_mask, takes_square_mask
from splade_os.encoding.backend import NonFiniteError
from splade_os.encoding.batching import BUCKETS, pad, padded_lengths
from splade_os.encoding.layout import SpladePart
from splade_os.encoding.transformer import SpladeTransformer, sparsify
from splade_os.errors import EncodingError, SpladeWarning
from splade_os.vectors import Ids, SparseBatch


class CudaTransformer(SpladeTransformer):
    """See the module.

    A batch for which the device lacks memory is halved until it fits, and later ones are launched
    in parts of that size; a `SpladeWarning` says so, once.

    Args:
        part, device, dtype: see `SpladeTransformer`.

    Raises:
        ModelError: see `SpladeTransformer`.
    """

    batch_tokens = 65_536
    batch_bytes: int | None = 1 << 30
    buckets: tuple[int, ...] = BUCKETS
    ahead = 2

    def __init__(self, part: SpladePart, device: torch.device, dtype: torch.dtype) -> None:
        with torch.cuda.device(device):
            self._copies = torch.cuda.Stream()
        self._pinned, self._pinned_lock = torch.empty(0, dtype=torch.uint8), Lock()
        self._fitting: int | None = None  # padded tokens, once there was too little memory
        super().__init__(part, device, dtype)

    def _look_at(self, model: Any) -> Architecture:
        found = super()._look_at(model)
        self._square = takes_square_mask(model, found)
        return found

    def launch(
        self, tokens: Sequence[Ids], max_active_dims: int | None
    ) -> Callable[[], SparseBatch]:
        """See `Backend.launch`. What does not fit waits until the batches before it are fetched.

        Raises:
            EncodingError: (from the returned function) there is too little memory for one text.
        """
        if len(tokens) > 1 and self._fitting and self._padded(tokens) > self._fitting:
            middle = len(tokens) // 2
            first = self.launch(tokens[:middle], max_active_dims)
            second = partial(self.encode, tokens[middle:], max_active_dims)
            return partial(self._joined, first, second, middle)
        try:
            with torch.cuda.device(self._device):
                dense = self(tokens)
                ready = torch.cuda.Event()
                ready.record()
        except torch.OutOfMemoryError as error:
            reason = str(error).splitlines()[0]
        else:
            return partial(self._fetch, dense, ready, max_active_dims)
        # outside of the except clause: its traceback keeps the tensors of the failed pass alive
        torch.cuda.empty_cache()
        return partial(self._in_halves, tokens, max_active_dims, reason)

    def encode(self, tokens: Sequence[Ids], max_active_dims: int | None) -> SparseBatch:
        """See `Backend.encode`."""
        return self.launch(tokens, max_active_dims)()

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def __call__(self, tokens: Sequence[Ids]) -> Tensor:
        """Weights ``(B, V)`` float32 of texts given as token ids, none empty."""
        length = self._padded(tokens) // len(tokens)
        padded, mask = pad(tokens, length, pad_id=self.architecture.pad_id)
        ids = torch.from_numpy(padded.astype(np.int32)).pin_memory()
        real = torch.from_numpy(mask).pin_memory().to(self._device, non_blocking=True)
        attention = square_mask(real) if self._square else real.long()
        return self._weights(ids.to(self._device, non_blocking=True).long(), real, attention)

    def _padded(self, tokens: Sequence[Ids]) -> int:
        longest = max(len(ids) for ids in tokens)
        return len(tokens) * int(padded_lengths([longest], self.buckets, self.max_length)[0])

    def _in_halves(
        self, tokens: Sequence[Ids], max_active_dims: int | None, reason: str
    ) -> SparseBatch:
        """A batch for which there was too little memory."""
        if len(tokens) == 1:
            raise EncodingError(
                f"{self.device} lacks the memory to encode one text of {len(tokens[0]):,} tokens: "
                f"{reason}",
                hint="Free memory on it, or lower --max-length.",
            )
        count = self._padded(tokens)
        if self._fitting is None:
            warnings.warn(
                f"{self.device} lacks the memory for a batch of {count:,} tokens; it goes on "
                "with smaller ones. --batch-tokens sets their size from the start.",
                SpladeWarning,
                stacklevel=2,
            )
        self._fitting = min(self._fitting or count, count // 2)
        return self.encode(tokens, max_active_dims)  # now in parts

    def _joined(
        self, first: Callable[[], SparseBatch], second: Callable[[], SparseBatch], middle: int
    ) -> SparseBatch:
        parts = [first()]
        try:
            parts.append(second())
        except NonFiniteError as error:
            raise NonFiniteError(middle + error.row) from None
        return SparseBatch.concat(parts, self.vocabulary_size)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _fetch(
        self, dense: Tensor, ready: torch.cuda.Event, max_active_dims: int | None
    ) -> SparseBatch:
        try:
            with torch.cuda.device(self._device), torch.cuda.stream(self._copies):
                self._copies.wait_event(ready)
                dense.record_stream(self._copies)
                return sparsify(dense, max_active_dims, self._to_host)
        except torch.OutOfMemoryError:
            if len(dense) == 1:
                raise
        torch.cuda.empty_cache()
        middle = len(dense) // 2
        halves = (dense[:middle], dense[middle:])
        first, second = (partial(self._fetch, half, ready, max_active_dims) for half in halves)
        return self._joined(first, second, middle)

    def _to_host(self, tensors: Sequence[Tensor]) -> list[npt.NDArray[Any]]:
        """Copies by way of one pinned buffer, which stays."""
        with self._pinned_lock:  # searches come from several threads
            needed = sum(-(-tensor.nbytes // 16) * 16 for tensor in tensors)
            if needed > len(self._pinned):
                self._pinned = torch.empty(needed * 5 // 4, dtype=torch.uint8).pin_memory()
            views, start = [], 0
            for tensor in tensors:
                view = self._pinned[start : start + tensor.nbytes].view(tensor.dtype)
                views.append(view.view(tensor.shape).copy_(tensor, non_blocking=True))
                start += -(-tensor.nbytes // 16) * 16
            self._copies.synchronize()
            return [view.numpy().copy() for view in views]
