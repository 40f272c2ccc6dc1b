"""The tiled heads against the formula on whole logits, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from splade_os.encoding.pooling import activation, pool
from splade_os.encoding.pooling_grad import pool_with_gradient

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


MASK = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]


def padded(hidden: torch.Tensor) -> torch.Tensor:
    """What lies in the padding must not matter."""
    out = torch.full((*MASK.shape, hidden.shape[1]), 7.0)
    return out.masked_scatter(MASK[:, :, None], hidden)


@pytest.mark.parametrize("tile", [1, 13, 101, 4096, None])
@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("name", ["relu", "log1p_relu"])
def test_values(name: str, pooling: str, tile: int | None) -> None:
    hidden, weight, bias = tensors()
    expected = whole(hidden, weight, bias, name, pooling)
    ours = pool(
        padded(hidden), MASK, weight, bias, activation_name=name, pooling=pooling, tile=tile
    )
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(ours > 0, expected > 0) and bool((ours > 0).any())
    bare = pool(padded(hidden), MASK, weight, None, activation_name=name, pooling=pooling)
    expected = whole(hidden, weight, torch.zeros(101), name, pooling)
    torch.testing.assert_close(bare, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fixed_shapes", [False, True])
@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("name", ["relu", "log1p_relu"])
def test_gradients(name: str, pooling: str, fixed_shapes: bool) -> None:
    upstream = torch.randn(len(LENGTHS), 101)

    def ours(h: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return pool_with_gradient(
            padded(h),
            MASK,
            w,
            b,
            activation_name=name,
            pooling=pooling,
            tile=13,
            fixed_shapes=fixed_shapes,
        )

    values, gradients = [], []
    for run in (lambda *t: whole(*t, name, pooling), ours):
        inputs = tensors(3)
        values.append(run(*inputs))
        (values[-1] * upstream).sum().backward()
        gradients.append([t.grad for t in inputs])
    torch.testing.assert_close(values[1], values[0], rtol=1e-5, atol=1e-6)
    for theirs, mine in zip(*gradients, strict=True):
        assert theirs is not None and bool(theirs.abs().sum() > 0)
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_what_is_frozen_gets_no_gradient(pooling: str) -> None:
    for fixed_shapes in (False, True):
        hidden, weight, bias = tensors()
        weight.requires_grad_(False)
        pool_with_gradient(
            padded(hidden), MASK, weight, bias, pooling=pooling, fixed_shapes=fixed_shapes
        ).sum().backward()
        assert weight.grad is None and hidden.grad is not None and bias.grad is not None


@pytest.mark.parametrize("fixed_shapes", [False, True])
@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_leak(leak: float, fixed_shapes: bool) -> None:
    """Autograd of the plain formula; below zero the slope that is promised."""
    inputs = hidden, weight, bias = tensors(3)
    flow = torch.randn(len(LENGTHS), 101)
    found = pool_with_gradient(
        padded(hidden), MASK, weight, bias, leak=leak, fixed_shapes=fixed_shapes
    )
    (found * flow).sum().backward()
    ours = [t.grad.clone() for t in inputs if t.grad is not None]
    for tensor in inputs:
        tensor.grad = None
    best = torch.stack([part.amax(0) for part in (hidden @ weight.T).split(LENGTHS)]) + bias
    below = leak * (torch.exp(best) - torch.exp(best).detach())  # value 0, slope leak · exp(x)
    expected = torch.where(best > 0, torch.log1p(best.relu()), below)
    (expected * flow).sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for mine, tensor in zip(ours, inputs, strict=True):
        torch.testing.assert_close(mine, tensor.grad, rtol=1e-4, atol=1e-5)


class Operations(TorchDispatchMode):
    """Counts what is asked of the device, and how often the host waits for an answer."""

    WAITS = ("aten.nonzero", "aten._local_scalar_dense", "aten.item", "aten.masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.count = self.waits = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += 1
        self.waits += str(func).startswith(self.WAITS)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_operations_do_not_grow_with_the_texts(pooling: str) -> None:
    """48 texts took 10,206 operations and 720 waits, 64 took 13,566 and 960, when the head went
    text by text over a vocabulary of 30,522."""
    found = {}
    for texts in (48, 256):
        for fixed in (False, True):
            torch.manual_seed(0)
            hidden = torch.randn(texts, 5, 4, requires_grad=True)
            weight, bias = torch.randn(30_522, 4), torch.randn(30_522)
            mask = torch.ones(texts, 5, dtype=torch.bool)
            with Operations() as forward:
                out = pool_with_gradient(
                    hidden, mask, weight, bias, pooling=pooling, fixed_shapes=fixed
                )
            with Operations() as backward:
                out.sum().backward()
            found[texts, fixed] = (forward.count, forward.waits, backward.count, backward.waits)
    for fixed in (False, True):
        assert found[48, fixed][:2] == found[256, fixed][:2]
        assert found[48, fixed][0] <= 510
    assert found[48, True] == found[256, True]
    assert found[48, True][1] == found[48, True][3] == 0


def test_inference_does_not_grow_with_the_texts() -> None:
    found = []
    for texts in (48, 256):
        hidden, mask = torch.randn(texts, 5, 4), torch.ones(texts, 5, dtype=torch.bool)
        with Operations() as operations:
            pool(hidden, mask, torch.randn(30_522, 4), None, activation_name="relu", pooling="max")
        found.append((operations.count, operations.waits))
    assert found[0] == found[1] and found[0][1] == 0
