"""A masked-LM transformer on a GPU: the host is always one batch ahead.

`launch` puts upload, forward pass and pooling head of a batch on the device's queue and returns
without waiting; the batch before it is then made sparse and fetched on a second stream, through
pinned memory, while the device works. Lengths are rounded up to a few buckets, so that kernels
(and CUDA graphs, which are captured once for each bucket) see the same shapes again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splade_os.encoding.batching import pad
from splade_os.encoding.layout import SpladePart
from splade_os.encoding.pooling import activation, pool_padded
from splade_os.encoding.transformer import SpladeTransformer, sparsify
from splade_os.errors import MissingExtraError, SettingsError
from splade_os.vectors import Ids, SparseBatch

BUCKETS = (8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512)
"""Lengths in tokens to which batches are padded; longer ones to multiples of 256."""


def bucket(length: int) -> int:
    """The bucket of a length."""
    return next((b for b in BUCKETS if b >= length), -(-length // 256) * 256)


class CudaTransformer(SpladeTransformer):
    """See the module.

    Args:
        part, device, dtype: see `SpladeTransformer`.
        head: ``torch`` (the reference), or ``triton``: product, maximum and activation in one
            kernel that never writes logits to memory; max pooling only.
        graphs: replay captured CUDA graphs, which pays for models so small that launching
            kernels costs more than running them.

    Raises:
        ModelError: see `SpladeTransformer`.
        SettingsError: the Triton head was asked for with sum pooling.
        MissingExtraError: Triton is not installed.
    """

    batch_tokens = 65_536
    ahead = 2

    def __init__(
        self,
        part: SpladePart,
        device: torch.device,
        dtype: torch.dtype,
        *,
        head: str = "torch",
        graphs: bool = False,
    ) -> None:
        self._head, self._graphs = head, graphs
        self._captured: dict[int, _Graph] = {}
        if head == "triton":
            if part.pooling != "max":
                raise SettingsError("The Triton head pools by maximum only.")
            try:
                import triton as _triton  # noqa: F401
            except ImportError:
                raise MissingExtraError("The Triton head", "triton") from None
        with torch.cuda.device(device):
            self._copies = torch.cuda.Stream()
        super().__init__(part, device, dtype)
        config = self.model.config
        # models with local attention make two kinds of masks themselves
        self._plain_attention = not any(
            getattr(config, name, None) for name in ("sliding_window", "local_attention")
        )

    def launch(
        self, tokens: Sequence[Ids], max_active_dims: int | None
    ) -> Callable[[], SparseBatch]:
        """See `Backend.launch`."""
        with torch.cuda.device(self._device):
            dense = self(tokens)
            ready = torch.cuda.Event()
            ready.record()
        return partial(self._fetch, dense, ready, max_active_dims)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _fetch(
        self, dense: Tensor, ready: torch.cuda.Event, max_active_dims: int | None
    ) -> SparseBatch:
        with torch.cuda.device(self._device), torch.cuda.stream(self._copies):
            self._copies.wait_event(ready)
            dense.record_stream(self._copies)
            return sparsify(dense, max_active_dims)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def __call__(self, tokens: Sequence[Ids]) -> Tensor:
        """Weights ``(B, V)`` float32 of texts given as token ids, none empty."""
        longest = max(len(ids) for ids in tokens)
        length = bucket(longest)
        limit = self.part.max_length
        if longest <= limit < length:
            length = limit  # positions end there
        if not self._graphs:
            ids, mask = self._upload(*pad(tokens, length))
            return self._forward(ids, mask)
        rows = max(len(tokens), self.batch_tokens // length)
        graph = self._captured.get(length)
        if graph is None or graph.rows < rows:
            graph = self._captured[length] = _Graph(self._forward, rows, length, self._device)
        ids, mask = self._upload(*pad(tokens, length, graph.rows))
        mask[len(tokens) :, 0] = True  # a row of padding has one token, so that no softmax is empty
        return graph(ids, mask)[: len(tokens)].clone()

    def _upload(self, padded: Any, mask: Any) -> tuple[Tensor, Tensor]:
        ids = torch.from_numpy(padded.astype(np.int32)).pin_memory()
        real = torch.from_numpy(mask).pin_memory()
        return (
            ids.to(self._device, non_blocking=True).long(),
            real.to(self._device, non_blocking=True),
        )

    def _forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """``(B, L)`` ids and mask → ``(B, V)``, without a wait for the host."""
        attention: Tensor = mask
        if self._plain_attention:
            # made here, because transformers looks whether anything is masked at all, and
            # that look waits for the device
            rows, length = mask.shape
            attention = mask[:, None, None, :].expand(rows, 1, length, length)
        hidden = self.model(input_ids=ids, attention_mask=attention).logits  # (B, L, H)
        hidden = hidden.to(self.weight.dtype)
        if self._head == "torch":
            return pool_padded(
                hidden,
                mask,
                self.weight,
                self.bias,
                activation_name=self._activation,
                pooling=self._pooling,
            )
        from splade_os.encoding.triton_head import max_logits

        rows, length, _ = hidden.shape
        hidden = torch.where(mask[:, :, None], hidden, hidden[:, :1])
        texts = torch.arange(rows, dtype=torch.int32, device=mask.device)
        peaks = max_logits(
            hidden.reshape(rows * length, -1),
            texts.repeat_interleave(length, output_size=rows * length),
            rows,
            self.weight,
            self.bias,
        )
        return activation(self._activation)(peaks)


class _Graph:
    """One captured forward pass of a fixed shape."""

    def __init__(
        self,
        forward: Callable[[Tensor, Tensor], Tensor],
        rows: int,
        length: int,
        device: torch.device,
    ) -> None:
        self.rows = rows
        self._ids = torch.zeros(rows, length, dtype=torch.int64, device=device)
        self._mask = torch.ones(rows, length, dtype=torch.bool, device=device)
        warm = torch.cuda.Stream(device)
        warm.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(warm):
            for _ in range(3):  # libraries choose kernels and workspaces before the capture
                forward(self._ids, self._mask)
        torch.cuda.current_stream(device).wait_stream(warm)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._out = forward(self._ids, self._mask)

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The result lies in a buffer that the next call writes again."""
        self._ids.copy_(ids)
        self._mask.copy_(mask)
        self._graph.replay()
        return self._out
