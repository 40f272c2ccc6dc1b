"""Several processes as one batch.

Vectors of all ranks are gathered; those of the own rank keep their gradient. The loss of the joint
batch is then the same number everywhere, and its gradient is the sum of what the ranks hold.
Training averages over ranks, so the gradient is multiplied by their number.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """Rank and number of processes."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather(tensor: Tensor, dim: int = 0) -> Tensor:
    """Of all ranks, one behind the other along ``dim``; the own part keeps its gradient."""
    rank, size = world()
    if size == 1:
        return tensor
    own = tensor.contiguous()
    parts = [torch.empty_like(own) for _ in range(size)]
    dist.all_gather(parts, own.detach())
    parts[rank] = own
    return torch.cat(parts, dim)


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """Mean over the ranks, without a gradient."""
    _, size = world()
    if size == 1:
        return tensor.detach()
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total / size


def with_gradient_of(value: Tensor, own: Tensor) -> Tensor:
    """The number ``value`` with the gradient of ``own``."""
    return value.detach() + (own - own.detach())


def scaled_gradient(loss: Tensor, factor: float) -> Tensor:
    """``loss`` with ``factor`` times its gradient."""
    return loss.detach() + factor * (loss - loss.detach())


def sum_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """Average the gradients over ranks, by hand, where no reducer did."""
    _, size = world()
    if size == 1:
        return
    for parameter in parameters:
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
        parameter.grad /= size
