"""What the processes of a run on several devices share: rows and sums with gradient, and what they agree on."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nolabel.training.place import first_rank

distributed: Any = torch.distributed

_apart = False  # inside a fit on one device, in a process that belongs to several


def world() -> int:
    """How many processes train together; 1 inside a fit on one device."""
    if _apart or not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return int(distributed.get_world_size())


@contextmanager
def together(processes: int) -> Iterator[None]:
    """Inside, `world` is 1 if `processes` is: a fit on one device shares nothing, whatever its process belongs to."""
    global _apart
    before, _apart = _apart, processes == 1
    try:
        yield
    finally:
        _apart = before


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(world())]
        distributed.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return _sum(slope).chunk(world())[distributed.get_rank()]


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _sum(values)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return _sum(slope)


def _sum(values: Tensor) -> Tensor:
    """A new tensor: the sum over ranks."""
    values = values.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(values)
    return values


def gather(rows: Tensor) -> Tensor:
    """Concatenate a tensor (n, ...) over all ranks: (world * n, ...), differentiable; the tensor itself on one rank.

    A loss over gathered rows, computed on every rank and averaged by data-parallel training, has the gradient of the
    same loss on one process: each rank receives the sum of the ranks' gradients for its own rows.

    >>> gather(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """
    return rows if world() == 1 else _Gather.apply(rows.contiguous())


def total(values: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, differentiable as `gather` is.

    >>> total(torch.ones(2)).tolist()
    [1.0, 1.0]
    """
    return values if world() == 1 else _Total.apply(values)


# On the side of the processor, whatever the devices: no wait for a device, and a lost process is noticed at once ---------


@functools.cache
def _talk() -> Any:
    """The group of all processes in which numbers and objects travel between processors."""
    return None if distributed.get_backend() == "gloo" else distributed.new_group(backend="gloo")


def any_of(flag: bool) -> bool:
    """Whether the flag is set on any rank."""
    if world() == 1:
        return flag
    flags = torch.tensor(int(flag))
    distributed.all_reduce(flags, op=distributed.ReduceOp.MAX, group=_talk())
    return bool(flags)


def mean_of(numbers: list[float]) -> list[float]:
    """The mean over ranks of each of some numbers."""
    if world() == 1 or not numbers:
        return numbers
    sums = torch.tensor(numbers, dtype=torch.float64)
    distributed.all_reduce(sums, group=_talk())
    return [float(value) for value in sums / world()]


def of_first(make: Callable[[], Any]) -> Any:
    """What the first rank makes, on every rank; the others wait for it."""
    if world() == 1:
        return make()
    made = [make() if first_rank() else None]
    distributed.broadcast_object_list(made, src=0, group=_talk())
    return made[0]
