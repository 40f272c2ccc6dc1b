"""A masked-LM transformer of a model folder, loaded from safetensors only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splade_os.encoding.layout import SpladePart
from splade_os.encoding.pooling import pool
from splade_os.errors import MissingExtraError, ModelError
from splade_os.vectors import Ids


class _Passthrough(nn.Module):  # type: ignore[misc]
    """Stands where the decoder was, so that the model returns what the decoder would get.

    That is all a new architecture needs: the transform in front of the decoder differs
    between BERT, DistilBERT, RoBERTa and ModernBERT, its place does not.
    """

    bias = None  # BERT's set_output_embeddings reads it

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden


class SpladeTransformer:
    """Runs body, transform and pooling head.

    Args:
        part: what to load.
        device: torch device.
        dtype: dtype of weights and activations.

    Raises:
        ModelError: weights are missing, damaged, not finite or not in safetensors.
    """

    def __init__(self, part: SpladePart, device: torch.device, dtype: torch.dtype) -> None:
        self.part, self.device = part, device
        model = _load(part, dtype).to(device).eval()
        decoder = model.get_output_embeddings()
        if decoder is None or decoder.weight.dim() != 2:
            raise ModelError(f"{part.folder}: a {part.family} model without a masked-LM decoder.")
        self._weight: Tensor = decoder.weight.detach()  # (V, H)
        self._bias: Tensor | None = None if decoder.bias is None else decoder.bias.detach()
        model.set_output_embeddings(_Passthrough())
        self._model = model

    @property
    def vocabulary_size(self) -> int:
        """V, the rows of the decoder."""
        return int(self._weight.shape[0])

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def __call__(self, tokens: Sequence[Ids]) -> Tensor:
        """Weights ``(B, V)`` float32 of texts given as token ids, none empty."""
        lengths = [len(ids) for ids in tokens]
        padded = np.zeros((len(tokens), max(lengths)), np.int64)
        mask = np.arange(max(lengths)) < np.array(lengths)[:, None]  # (B, L)
        padded[mask] = np.concatenate(tokens)
        keep = torch.from_numpy(mask).to(self.device)
        hidden = self._model(
            input_ids=torch.from_numpy(padded).to(self.device), attention_mask=keep.long()
        ).logits  # (B, L, H): the decoder passes through
        return pool(
            hidden[keep],  # (T, H): padding takes no part
            lengths,
            self._weight,
            self._bias,
            activation_name=self.part.activation,
            pooling=self.part.pooling,
        )


def _load(part: SpladePart, dtype: torch.dtype) -> Any:
    try:
        from transformers import AutoModelForMaskedLM
        from transformers.utils import logging
    except ImportError:
        raise MissingExtraError("Running a transformer", "torch") from None
    if not any(part.folder.glob("*.safetensors")):
        raise ModelError(
            f"{part.folder} has no *.safetensors file. Pickled weights are never loaded.",
            hint="Convert them once with transformers: "
            "AutoModelForMaskedLM.from_pretrained(...).save_pretrained(...).",
        )
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its report of unused tensors is for people who fine-tune
    logging.disable_progress_bar()
    try:
        model, report = AutoModelForMaskedLM.from_pretrained(
            part.folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # whatever transformers or safetensors met
        raise ModelError(
            f"{part.folder} cannot be loaded: {type(error).__name__}: {error}",
            hint="Download or save the model again.",
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"{part.folder} lacks {len(missing)} tensors of a {part.family} masked-LM model, "
            f"first {missing[0]}: it would run with random weights.",
        )
    for name, tensor in model.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{part.folder}: tensor {name} holds NaN or infinity.")
    return model
