"""On what a run computes: devices, strategy and precision, by Lightning Fabric."""

import logging
import os
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators.cuda import CUDAAccelerator
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.parallel import ParallelStrategy

from nolabel.training.launch import join, refuse_alone
from nolabel.training.settings import Training
from nolabel.training.sharding import shard


def precision(settings: Training) -> str:
    """The precision that ``auto`` stands for here: bfloat16 autocast where the hardware multiplies it natively."""
    if settings.precision != "auto":
        return settings.precision
    if settings.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return "bf16-mixed" if native and settings.accelerator in ("auto", "cpu") else "32-true"


def launched(settings: Training, single: bool = False) -> Fabric:
    """Fabric with the settings' devices (one for encoding), launched."""
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    several = not single and settings.devices * settings.nodes > 1
    fabric = Fabric(
        accelerator=settings.accelerator,
        devices=settings.devices if several else _own_device(settings),
        num_nodes=settings.nodes if several else 1,
        strategy=_strategy(settings) if several else "auto",
        precision=precision(settings),  # type: ignore[arg-type]
    )
    if isinstance(fabric.strategy, ParallelStrategy):
        on_cuda = isinstance(fabric.accelerator, CUDAAccelerator)
        join(fabric.strategy.cluster_environment, settings.devices, settings.nodes, cuda=on_cuda)
    elif not single:
        refuse_alone()
    fabric.launch()
    return fabric


def _strategy(settings: Training) -> ParallelStrategy:
    """How several processes share the work."""
    if settings.strategy == "fsdp":
        world = settings.devices * settings.nodes
        return ModelParallelStrategy(shard, data_parallel_size=world, tensor_parallel_size=1)
    return DDPStrategy(
        find_unused_parameters=True,  # weights may stand still for a while, losses may use some of them
        forward_sync_buffers=False,  # batch norm and queues see the rows of all ranks, so that their buffers are equal
    )


def _own_device(settings: Training) -> int | list[int]:
    """One device: the first, or on a machine whose devices train together that of this process."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    on_cuda = settings.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return [local] if on_cuda and local else 1
