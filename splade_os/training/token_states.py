"""States of layers that are not trained, computed once and kept on disk.

What the layers above and the masked-LM head are trained on is then read instead of computed: a step
costs what they cost, a small part of the whole.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from splade_os.encoding.batching import token_budget
from splade_os.errors import SettingsError
from splade_os.training.model import SpladeModel, TextEncoder
from splade_os.vectors import Ids

_log = logging.getLogger(__name__)
TOKENS = 8192  # of a forward pass, about
_REPORT = 30.0  # seconds


class TokenStates:
    """States ``(T, H)`` of texts below the top layers, fp16, and the texts' mean states above them.

    Args:
        model: its body computes them.
        encoder: pads.
        tokens: ids of each text, special ones included.
        folder: files are written here, and read again if they are there for the same texts and
            body.
        layers: how many layers lie above the states.

    Attributes:
        means: mean state of each text behind the last layer, of length 1: ``(N, H)`` float32, the
            vector of a dense model.

    Raises:
        SettingsError: there is not enough space on the disk, or the body has too few layers.
    """

    def __init__(
        self,
        model: SpladeModel,
        encoder: TextEncoder,
        tokens: Sequence[Ids],
        folder: Path,
        layers: int = 0,
    ) -> None:
        lengths = np.array([len(ids) for ids in tokens], np.int64)
        self._offsets = np.concatenate([[0], lengths.cumsum()])
        hidden = int(model.document.mlm.config.hidden_size)
        shape = (int(self._offsets[-1]), hidden)
        self._file = folder / f"states-{_key(model, tokens, layers)}.f16"
        self._means_file = self._file.with_suffix(".means.npy")
        if not self._file.is_file():
            _require_space(folder, shape)
            part = self._file.with_suffix(".part")
            states = np.memmap(part, np.float16, "w+", shape=shape)
            np.save(self._means_file, self._compute(model, encoder, tokens, states, layers))
            states.flush()
            part.rename(self._file)
        self._states = np.memmap(self._file, np.float16, "r", shape=shape)
        self.means = torch.from_numpy(np.load(self._means_file))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        lengths: list[int] = np.diff(self._offsets).tolist()
        return lengths

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, texts: Sequence[int]) -> tuple[Tensor, list[int]]:
        """States of some texts one after the other, float32, and the tokens of each."""
        spans = [(int(self._offsets[i]), int(self._offsets[i + 1])) for i in texts]
        states = np.concatenate([self._states[a:b] for a, b in spans]).astype(np.float32)
        return torch.from_numpy(states), [b - a for a, b in spans]

    def delete(self) -> None:
        """Remove the files."""
        self._file.unlink(missing_ok=True)
        self._means_file.unlink(missing_ok=True)

    def _compute(
        self,
        model: SpladeModel,
        encoder: TextEncoder,
        tokens: Sequence[Ids],
        states: np.memmap[Any, np.dtype[np.float16]],
        layers: int,
    ) -> npt.NDArray[np.float32]:
        means = np.zeros((len(tokens), states.shape[1]), np.float32)
        began = told = time.monotonic()
        done = 0
        for rows in token_budget([len(ids) for ids in tokens], TOKENS):
            lengths = [len(tokens[i]) for i in rows]
            below, last = body_states(model, encoder.pad([tokens[i] for i in rows]), layers)
            means[rows] = mean_states(last, lengths).cpu().numpy()
            values, start = below.half().cpu().numpy(), 0
            for i, length in zip(rows, lengths, strict=True):
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
        return means


@torch.no_grad()  # type: ignore[untyped-decorator]
def body_states(
    model: SpladeModel, features: dict[str, Any], layers: int = 0
) -> tuple[Tensor, Tensor]:
    """States ``(T, H)`` of features, without padding, in the precision of the context.

    Returns:
        Those below the top ``layers``, and those behind the body's end.

    Raises:
        SettingsError: the body has too few layers.
    """
    device, body = model.device, model.document.mlm.base_model
    mask = features["attention_mask"].to(device)
    owner, name = _stack(body, layers)
    found: list[Any] = []
    handle = getattr(owner, name)[-layers - 1].register_forward_hook(
        lambda _module, _input, output: found.append(output)
    )
    try:
        last = body(input_ids=features["input_ids"].to(device), attention_mask=mask)
    finally:
        handle.remove()
    below = found[0] if isinstance(found[0], Tensor) else found[0][0]
    return below[mask.bool()], last.last_hidden_state[mask.bool()]


@contextmanager
def above(mlm: Any, layers: int) -> Iterator[Any]:
    """The masked-LM model, for a moment taking as ``inputs_embeds`` the states below its top
    ``layers``: it applies them, and what lies behind them, whatever the architecture calls it."""
    body = mlm.base_model
    owner, name = _stack(body, layers)
    stack, embeddings = getattr(owner, name), body.embeddings
    setattr(owner, name, nn.ModuleList(list(stack)[len(stack) - layers :]))
    body.embeddings = _Given()
    try:
        yield mlm
    finally:
        setattr(owner, name, stack)
        body.embeddings = embeddings


def top_layers(mlm: Any, layers: int) -> list[nn.Module]:
    """The top ``layers`` of a masked-LM model's body, the last one last."""
    owner, name = _stack(mlm.base_model, layers)
    stack = list(getattr(owner, name))
    return stack[len(stack) - layers :]


class _Given(nn.Module):  # type: ignore[misc]
    """Stands where the embeddings were: its output is its input."""

    def forward(
        self, _ids: Any = None, inputs_embeds: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor | None:
        return inputs_embeds


def _stack(body: nn.Module, layers: int) -> tuple[nn.Module, str]:
    """Where the list of the body's layers is: its owner, and its name there."""
    count = int(body.config.num_hidden_layers)
    if layers >= count:
        raise SettingsError(
            f"top_only.layers is {layers}; the body has {count} layers.",
            hint="To train all of them leave top_only out of the recipe.",
        )
    for module in body.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return module, name
    raise SettingsError(f"top_only does not know where {type(body).__name__} keeps its layers.")


def mean_states(states: Tensor, lengths: Sequence[int]) -> Tensor:
    """Mean state of each text, of length 1: ``(T, H)`` → ``(B, H)``."""
    means = torch.stack([part.mean(0) for part in states.split(list(lengths))])
    return nn.functional.normalize(means, dim=1)


def _key(model: SpladeModel, tokens: Sequence[Ids], layers: int) -> str:
    digest = hashlib.sha256(str(layers).encode())
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
