"""A masked-LM transformer of a model folder, as it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from splade_os.encoding.architecture import Architecture, Passthrough, probe
from splade_os.encoding.backend import NonFiniteError
from splade_os.encoding.batching import pad
from splade_os.encoding.checkpoint import load_checkpoint
from splade_os.encoding.layout import SpladePart
from splade_os.encoding.pooling import pool, pool_logits
from splade_os.errors import MissingExtraError, ModelError
from splade_os.vectors import Ids, SparseBatch

_WHOLE_TOKENS = 1024  # of a batch whose logits (B, L, V) exist, as those of most heads never do


class SpladeTransformer:
    """Runs body, transform and pooling head; on a CPU. `CudaTransformer` does on a GPU.

    In bf16 and fp16 the transform in front of the decoder stays in fp32, weights and work: it
    costs about 1 % of the work, and its rounding weighs most (mean error of the starter's weights
    in bf16: 5.4 % with all of it, 3.0 % with that of its weights alone, 1.5 % without). The
    decoder's bias is added in fp32.

    Args:
        part: what to load; activation and pooling are known.
        device: torch device.
        dtype: dtype of weights and activations.

    Raises:
        ModelError: weights are missing, damaged or not finite.
    """

    batch_tokens = 1024
    batch_bytes: int | None = None
    buckets: tuple[int, ...] = ()
    ahead = 1

    def __init__(self, part: SpladePart, device: torch.device, dtype: torch.dtype) -> None:
        if part.activation is None or part.pooling is None:
            raise ValueError("activation and pooling are not known")
        self.part, self.device, self._device = part, str(device), device
        self._activation, self._pooling = part.activation, part.pooling
        self.precision = str(dtype).removeprefix("torch.")
        model = load_masked_lm(part)
        self.architecture = self._look_at(model)
        model = model.to(device)
        self.bias: Tensor | None = None
        self.weight = torch.empty(0)
        if self.architecture.decoder:
            decoder = model.get_output_embeddings()
            self.bias = None if decoder.bias is None else decoder.bias.detach()
        if dtype != torch.float32:
            _lower(model, dtype, self.architecture.transform)
        if self.architecture.decoder:
            self.weight = decoder.weight.detach()  # (V, H)
            model.set_output_embeddings(Passthrough())
        else:
            self.batch_tokens = _WHOLE_TOKENS
        self.model = model
        self.vocabulary_size = self.architecture.vocabulary_size
        self.max_length = self.architecture.max_length
        self([np.zeros(1, np.int32)])  # a lack of memory shows now, not in the middle of a corpus

    def _look_at(self, model: Any) -> Architecture:
        """In float32, on the CPU, before the decoder is taken out."""
        return probe(model, str(self.part.folder))

    def launch(
        self, tokens: Sequence[Ids], max_active_dims: int | None
    ) -> Callable[[], SparseBatch]:
        """See `Backend.launch`."""
        return partial(self.encode, tokens, max_active_dims)

    def encode(self, tokens: Sequence[Ids], max_active_dims: int | None) -> SparseBatch:
        """See `Backend.encode`: sparsified on the device, then one copy to the host."""
        return sparsify(self(tokens), max_active_dims)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def __call__(self, tokens: Sequence[Ids]) -> Tensor:
        """Weights ``(B, V)`` float32 of texts given as token ids, none empty."""
        padded, mask = pad(tokens, max(len(ids) for ids in tokens), pad_id=self.architecture.pad_id)
        real = torch.from_numpy(mask).to(self._device)
        return self._weights(torch.from_numpy(padded).to(self._device), real, real.long())

    def _weights(self, ids: Tensor, real: Tensor, attention_mask: Tensor) -> Tensor:
        """Weights ``(B, V)`` of ids and real places ``(B, L)``, without a wait for the device."""
        hidden = self.model(input_ids=ids, attention_mask=attention_mask).logits  # (B, L, H)
        if not self.architecture.decoder:
            return pool_logits(
                hidden, real, activation_name=self._activation, pooling=self._pooling
            )
        return pool(
            hidden.to(self.weight.dtype),
            real,
            self.weight,
            self.bias,
            activation_name=self._activation,
            pooling=self._pooling,
        )


def to_numpy(tensors: Sequence[Tensor]) -> list[npt.NDArray[Any]]:
    """Copies on the host."""
    return [tensor.cpu().numpy() for tensor in tensors]


def sparsify(
    dense: Tensor,
    max_active_dims: int | None,
    fetch: Callable[[Sequence[Tensor]], list[npt.NDArray[Any]]] = to_numpy,
) -> SparseBatch:
    """Weights ``(B, V)`` on any device → rows of what is above zero, the heaviest only.

    Args:
        fetch: copies tensors to the host.

    Raises:
        NonFiniteError: naming the first row with NaN or infinity.
    """
    # NaN and infinity survive a maximum, so one number per row says whether there are any
    finite = torch.isfinite(dense.amax(1))
    if max_active_dims is not None and max_active_dims < dense.shape[1]:
        top = dense.topk(max_active_dims, dim=1)
        dense = torch.zeros_like(dense).scatter_(1, top.indices, top.values)
    rows, columns = dense.nonzero(as_tuple=True)
    counts = torch.bincount(rows, minlength=dense.shape[0])
    wanted = (finite, counts, columns.to(torch.int32), dense[rows, columns])
    finite_rows, row_counts, indices, values = fetch(wanted)
    if not finite_rows.all():
        raise NonFiniteError(int(np.flatnonzero(~finite_rows)[0]))
    indptr = np.concatenate(([0], row_counts.cumsum())).astype(np.int64)
    return SparseBatch(indptr, indices, values, dense.shape[1])


def _lower(model: nn.Module, dtype: torch.dtype, transform: Sequence[str]) -> None:
    """All weights but the transform's, which stay as they were stored. Buffers stay as well:
    rotary frequencies must not be rounded."""

    def widen(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (arguments[0].float(), *arguments[1:])

    for name, module in model.named_modules():
        if name in transform:
            module.register_forward_pre_hook(widen)
            continue
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.to(dtype)


def load_masked_lm(part: SpladePart) -> Any:
    """The transformers model of a folder, in float32, on the CPU, to be run and not trained.

    Raises:
        ModelError: see `SpladeTransformer`.
    """
    try:
        from transformers import AutoModelForMaskedLM
    except ImportError:
        raise MissingExtraError("Running a transformer", "torch") from None
    model, missing = load_checkpoint(AutoModelForMaskedLM, part.folder)
    if missing:
        raise ModelError(
            f"{part.folder} lacks {len(missing)} tensors of a {part.family} masked-LM model, "
            f"first {missing[0]}: it would run with random weights.",
        )
    for name, tensor in model.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{part.folder}: tensor {name} holds NaN or infinity.")
    return model.eval()
