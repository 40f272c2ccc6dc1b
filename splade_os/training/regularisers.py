"""What keeps vectors short, computed on the mean over the whole step.

Every regulariser here is a function F of column means m_v = mean_i x_iv over all texts of a step:
all ranks, all accumulated batches. A batch at hand holds only a part of them, so it takes the value
of the whole mean and the gradient of its own::

    m = mean of the step (a number) + own mean − own mean (a number)

The average over ranks and accumulated batches, which training takes anyway, is then exactly the
gradient of F of the joint batch. FLOPS of a part is another, stronger regulariser, because
E[m²] = μ² + σ²/n.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from splade_os.training.recipe import RegulariserPart

_DF_BASE, _DF_SHARPNESS, _DF_MOMENTUM = 0.1, 10.0, 0.99


def column_means(vectors: Tensor, threshold: int | None = None) -> Tensor:
    """Mean weight of each term in each column of texts: ``(K, B, V)`` → ``(K, V)``.

    Args:
        vectors: weights; queries are one column.
        threshold: texts with at most so many active dimensions count as empty (ℓ0 mask of
            arXiv 2504.14839; the mean is still over all).
    """
    if threshold is not None:
        vectors = vectors * ((vectors > 0).sum(-1, keepdim=True) > threshold)
    return vectors.mean(1)


def flops(means: Tensor, convention: str = "sentence-transformers") -> Tensor:
    """Σ_v m_v² (arXiv 2004.05665), in one of three conventions.

    Args:
        means: ``(K, V)`` of K columns of documents.
        convention: ``sentence-transformers``: over the mean of all columns; ``opensearch``: the sum
            of the columns' own; ``naver``: the mean of the positives' and the negatives'.
    """
    if convention == "sentence-transformers" or len(means) == 1:
        return means.mean(0).square().sum()
    if convention == "opensearch":
        return means.square().sum()
    return (means[0].square().sum() + means[1:].mean(0).square().sum()) / 2


def df_weights(frequency: Tensor) -> Tensor:
    """Weight of each term by the part of documents that it occurs in (arXiv 2505.15070).

    ``g(x) = 1 / (1 + (x^{log_a 2} − 1)^b)``, a = 0.1, b = 10: near 0 for rare terms, 1/2 at a,
    near 1 for terms that are everywhere.
    """
    exponent = torch.log(torch.tensor(2.0)) / torch.log(torch.tensor(_DF_BASE))
    base = frequency.clamp_min(1e-6).pow(exponent) - 1  # large for rare terms
    return 1 / (1 + base.clamp_min(0).pow(_DF_SHARPNESS))


@dataclass
class Regulariser:
    """One side's regulariser with its state.

    Attributes:
        part: of the recipe.
        weight: λ at the end of the warm-up; moved by the controller.
        frequency: (df-flops) running part of documents that each term occurs in ``(V,)``.
        dims: running mean of active dimensions, for the controller.
    """

    part: RegulariserPart
    weight: float
    frequency: Tensor | None = None
    dims: float | None = None

    @classmethod
    def of(cls, part: RegulariserPart) -> Regulariser:
        """At the start."""
        return cls(part, part.weight)

    def value(self, means: Tensor) -> Tensor:
        """F of the column means ``(K, V)``, without λ."""
        if self.part.kind == "l1":
            return means.mean(0).sum()
        if self.part.kind == "df-flops":
            assert self.frequency is not None
            return (df_weights(self.frequency) * means.mean(0)).square().sum()
        return flops(means, self.part.convention)

    def factor(self, step: int, total: int) -> float:
        """Warm-up ``min(1, (t / T)²)`` at step t (from 0)."""
        warmup = self.part.warmup
        length = int(total * warmup) if warmup <= 1 else int(warmup)
        return 1.0 if step >= length else (step / length) ** 2

    def observe(self, frequency: Tensor, dims: float, warm: bool) -> None:
        """Take in what a step saw: term frequencies ``(V,)`` and mean active dimensions.

        The controller begins when the warm-up is over: before, λ has not shown what it does, and
        would be driven far beyond what is needed.
        """
        if self.part.kind == "df-flops":
            if self.frequency is None:
                self.frequency = frequency.clone()
            else:
                self.frequency.mul_(_DF_MOMENTUM).add_(frequency, alpha=1 - _DF_MOMENTUM)
        if self.part.target_dims is not None:
            self.dims = dims if self.dims is None else 0.9 * self.dims + 0.1 * dims
            if warm:
                self.weight = steer(self.weight, self.dims, self.part.target_dims)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        state = {"weight": torch.tensor(self.weight, dtype=torch.float64)}
        if self.dims is not None:
            state["dims"] = torch.tensor(self.dims, dtype=torch.float64)
        if self.frequency is not None:
            state["frequency"] = self.frequency.cpu()
        return state

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Go on from a checkpoint."""
        self.weight = float(state["weight"])
        self.dims = float(state["dims"]) if "dims" in state else None
        self.frequency = state["frequency"].to(device) if "frequency" in state else None


_GAIN, _LARGEST_CHANGE = 0.02, 0.02
_SMALLEST, _LARGEST = 1e-8, 1e3


def steer(weight: float, dims: float, target: float) -> float:
    """λ after a step of the controller.

    Multiplicative integral control: log λ moves in proportion to log(dims / target), by at most
    2 % a step, so that λ can travel a factor of 7 in a hundred steps and still settles.
    """
    import math

    error = math.log(max(dims, 1.0) / target)
    change = max(-_LARGEST_CHANGE, min(_LARGEST_CHANGE, _GAIN * error))
    return min(max(max(weight, _SMALLEST) * math.exp(change), _SMALLEST), _LARGEST)
