"""Several processes as one batch.

Vectors of all ranks are gathered; those of the own rank keep their gradient. The loss of the joint
batch is then the same number everywhere, and its gradient is the sum of what the ranks hold.
Training averages over ranks, so the gradient is multiplied by their number.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

_ANY_TIME = timedelta(days=365)
_T = TypeVar("_T")


def world() -> tuple[int, int]:
    """Rank and number of processes."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def torchrun_command(processes: int) -> str:
    """What starts the running command once for each GPU."""
    script = Path(sys.argv[0])
    inside = script.name == "__main__.py" and script.parent.name == "splade_os"
    what = ["-m", "splade_os"] if inside or script.stem == "splade-os" else [str(script)]
    return shlex.join(["torchrun", f"--nproc-per-node={processes}", *what, *sys.argv[1:]])


def on_first_rank(work: Callable[[], _T]) -> _T:
    """What the first rank alone works out, on every rank, however long it takes; all call this.

    The others wait in a group of their own: a collective of the default group that is not over
    within its time-out (``ddp_timeout``) ends the run. If the first rank dies, its connection
    breaks, and so the others do not wait for ever. The group is gone afterwards: a process that
    ends while the threads of one still run may be aborted.
    """
    rank, size = world()
    if size == 1:
        return work()
    # made by all ranks together, so before the work
    group = dist.new_group(backend="gloo", timeout=_ANY_TIME)
    box = [work() if rank == 0 else None]
    dist.broadcast_object_list(box, 0, group=group)
    dist.destroy_process_group(group)
    return cast(_T, box[0])


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
