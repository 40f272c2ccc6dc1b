"""The tiled heads against the formula on whole logits, values and gradients."""

from __future__ import annotations

import pytest
import torch

from splade_os.encoding.pooling import activation, pool, pool_padded
from splade_os.encoding.pooling_grad import max_pool

LENGTHS = [1, 7, 3, 12]


def tensors(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    hidden = torch.randn(sum(LENGTHS), 16, dtype=torch.float64)
    weight = torch.randn(101, 16, dtype=torch.float64)
    bias = torch.randn(101, dtype=torch.float64) - 2
    return tuple(t.float().requires_grad_() for t in (hidden, weight, bias))  # type: ignore[return-value]


def whole(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, name: str, pooling: str
) -> torch.Tensor:
    """As sentence-transformers' SpladePooling does it: f on every logit, then the reduction."""
    values = activation(name)(hidden @ weight.T + bias)
    parts = values.split(LENGTHS)
    return torch.stack([p.amax(0) if pooling == "max" else p.sum(0) for p in parts])


@pytest.mark.parametrize("tile", [1, 13, 101, 4096])
@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("name", ["relu", "log1p_relu"])
def test_values(name: str, pooling: str, tile: int) -> None:
    hidden, weight, bias = tensors()
    expected = whole(hidden, weight, bias, name, pooling)
    ours = pool(hidden, LENGTHS, weight, bias, activation_name=name, pooling=pooling, tile=tile)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(ours > 0, expected > 0) and bool((ours > 0).any())
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    padded = torch.full((*mask.shape, 16), 7.0)  # what lies in the padding must not matter
    padded[mask] = hidden.detach()
    ours = pool_padded(padded, mask, weight, bias, activation_name=name, pooling=pooling, tile=tile)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["relu", "log1p_relu"])
def test_gradients(name: str) -> None:
    upstream = torch.randn(len(LENGTHS), 101)
    gradients = []
    for run in (
        lambda *t: whole(*t, name, "max"),
        lambda h, w, b: max_pool(h, LENGTHS, w, b, name, 13),
    ):
        inputs = tensors(3)
        (run(*inputs) * upstream).sum().backward()
        gradients.append([t.grad for t in inputs])
    for theirs, ours in zip(*gradients, strict=True):
        assert theirs is not None and bool(theirs.abs().sum() > 0)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
