"""States of a body that is not trained, computed once and kept on disk.

What a masked-LM head is trained on is then read instead of computed: a step costs what the head
costs, a small part of the whole.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from splade_os.encoding.batching import token_budget
from splade_os.errors import SettingsError
from splade_os.training.model import SpladeModel, TextEncoder
from splade_os.vectors import Ids

_log = logging.getLogger(__name__)
_TOKENS = 8192  # of a forward pass, about
_TEXTS = 256  # read at a time
_REPORT = 30.0  # seconds


class GivenStates(nn.Module):  # type: ignore[misc]
    """Stands where the body was: its output is its input.

    The masked-LM model around it then applies only what lies behind the body, whatever the
    architecture calls it.
    """

    def forward(self, input_ids: Tensor, **_: Any) -> BaseModelOutput:
        """``(1, T, H)`` states, named as the model around it passes them on."""
        return BaseModelOutput(last_hidden_state=input_ids)


class TokenStates:
    """States ``(T, H)`` of texts, fp16.

    Args:
        model: its body computes them.
        encoder: pads.
        tokens: ids of each text, special ones included.
        folder: the file is written here, and read again if it is there for the same texts and body.

    Raises:
        SettingsError: there is not enough space on the disk.
    """

    def __init__(
        self, model: SpladeModel, encoder: TextEncoder, tokens: Sequence[Ids], folder: Path
    ) -> None:
        lengths = np.array([len(ids) for ids in tokens], np.int64)
        self._offsets = np.concatenate([[0], lengths.cumsum()])
        hidden = int(model.document.mlm.config.hidden_size)
        shape = (int(self._offsets[-1]), hidden)
        self._file = folder / f"states-{_key(model, tokens)}.f16"
        if not self._file.is_file():
            _require_space(folder, shape)
            part = self._file.with_suffix(".part")
            states = np.memmap(part, np.float16, "w+", shape=shape)
            self._compute(model, encoder, tokens, states)
            states.flush()
            part.rename(self._file)
        self._states = np.memmap(self._file, np.float16, "r", shape=shape)

    def __getitem__(self, texts: Sequence[int]) -> tuple[Tensor, list[int]]:
        """States of some texts one after the other, float32, and the tokens of each."""
        spans = [(int(self._offsets[i]), int(self._offsets[i + 1])) for i in texts]
        states = np.concatenate([self._states[a:b] for a, b in spans]).astype(np.float32)
        return torch.from_numpy(states), [b - a for a, b in spans]

    def means(self) -> Tensor:
        """Mean state of each text, of length 1: ``(N, H)``, the vector of a dense model."""
        starts = range(0, len(self._offsets) - 1, _TEXTS)
        blocks = [range(a, min(a + _TEXTS, len(self._offsets) - 1)) for a in starts]
        return torch.cat([mean_states(*self[block]) for block in blocks])

    def delete(self) -> None:
        """Remove the file."""
        self._file.unlink(missing_ok=True)

    def _compute(
        self,
        model: SpladeModel,
        encoder: TextEncoder,
        tokens: Sequence[Ids],
        states: np.memmap[Any, np.dtype[np.float16]],
    ) -> None:
        began = told = time.monotonic()
        done = 0
        for rows in token_budget([len(ids) for ids in tokens], _TOKENS):
            found = body_states(model, encoder.pad([tokens[i] for i in rows]))
            values, start = found.half().cpu().numpy(), 0
            for i in rows:
                length = len(tokens[i])
                first = self._offsets[i]
                states[first : first + length] = values[start : start + length]
                start += length
            done += start
            if time.monotonic() - told > _REPORT:
                told = time.monotonic()
                rate = done / (told - began)
                left = (len(states) - done) / rate / 60
                _log.warning("%s of %s token states, %.0f a second, %.1f min left",
                             f"{done:,}", f"{len(states):,}", rate, left)  # fmt: skip


@torch.no_grad()  # type: ignore[untyped-decorator]
def body_states(model: SpladeModel, features: dict[str, Any]) -> Tensor:
    """States ``(T, H)`` of features, without padding, in the precision of the context."""
    device = model.device
    mask = features["attention_mask"].to(device)
    body = model.document.mlm.base_model
    states = body(input_ids=features["input_ids"].to(device), attention_mask=mask)
    rows: Tensor = states.last_hidden_state[mask.bool()]
    return rows


def mean_states(states: Tensor, lengths: Sequence[int]) -> Tensor:
    """Mean state of each text, of length 1: ``(T, H)`` → ``(B, H)``."""
    means = torch.stack([part.mean(0) for part in states.split(list(lengths))])
    return nn.functional.normalize(means, dim=1)


def _key(model: SpladeModel, tokens: Sequence[Ids]) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.document.mlm.base_model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    for ids in tokens:
        digest.update(np.asarray(ids, np.int32).tobytes() + b"|")
    return digest.hexdigest()[:16]


def _require_space(folder: Path, shape: tuple[int, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = shape[0] * shape[1] * 2, shutil.disk_usage(folder).free
    if needed > free:
        raise SettingsError(
            f"The states of the training documents take {needed / 1e9:.1f} GB; {folder} has "
            f"{free / 1e9:.1f} GB left.",
            hint="Train on fewer rows (data.limit) or shorter texts (model.max_length).",
        )
