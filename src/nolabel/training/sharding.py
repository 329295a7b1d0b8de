"""Weights in shards: each rank keeps its part of every weight, gradient and optimiser state (FSDP).

A step gathers the weights for the forward pass and scatters the gradients' sums in the backward pass. Between steps a weight
is a distributed tensor, of which everything here that must be whole is gathered, on all ranks at once.

Zhao et al., "PyTorch FSDP: experiences on scaling fully sharded data parallel", VLDB 2023, arXiv:2304.11277.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(module: nn.Module, mesh: Any) -> nn.Module:
    """Share the weights of `module` out over the ranks of Lightning's device mesh.

    Raises
    ------
    ValueError : a weight is a single number, which cannot be shared out
    """
    single = [name for name, weight in module.named_parameters() if weight.ndim == 0]
    if single:
        raise ValueError(
            f"training.strategy='fsdp' shares out every weight, but {single[0].removeprefix('net.')} is a single number: "
            "leave training.strategy at 'auto'"
        )
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # shards are cut along the first axis
    if mesh.device_type == "cuda":
        module.to(torch.device("cuda", torch.cuda.current_device()))
    return fully_shard(module, mesh=mesh["data_parallel"])  # type: ignore[return-value]


def in_shards(net: nn.Module) -> bool:
    return any(isinstance(weight, DTensor) for weight in net.parameters())


def whole(tensor: Tensor) -> Tensor:
    """A tensor as one process would hold it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shared_out(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, shared out as `like` is."""
    return distribute_tensor(value, like.device_mesh, like.placements) if isinstance(like, DTensor) else value


def load_whole(net: nn.Module, tensors: dict[str, Tensor]) -> None:
    """``load_state_dict`` of whole tensors, whether or not the weights of `net` are in shards."""
    there = net.state_dict()
    net.load_state_dict({k: shared_out(v, there[k]) if k in there else v for k, v in tensors.items()})


@contextmanager
def assembled(module: Any) -> Iterator[None]:
    """Inside, the weights are whole and plain, to be read; nothing happens where they are not in shards."""
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


def assemble(net: nn.Module) -> None:
    """Make weights in shards plain ones, for good."""
    for module in net.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if isinstance(weight, DTensor):
                setattr(module, name, nn.Parameter(weight.full_tensor().detach(), requires_grad=weight.requires_grad))
