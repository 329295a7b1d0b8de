"""Batch norm over the rows of all ranks, while a network trains on several devices."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nolabel.encoders.batch_norm import normalised
from nolabel.training.ranks import total, world


class SynchronisedBatchNorm(nn.SyncBatchNorm):
    """PyTorch's synchronised batch norm on CUDA; the same on processors, where PyTorch has none."""

    process_group = (
        None  # all processes; of the class, for `synchronised` makes objects of it that never saw `__init__`
    )

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.is_cuda:
            return super().forward(x)
        self._check_input_dim(x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        wide = x if x.dtype == torch.float64 else x.float()
        sums = total(torch.cat([wide.sum(axes), wide.new_tensor([x.numel() / x.shape[1]])]))  # (c + 1,)
        mean, n = sums[:-1] / sums[-1], sums[-1].detach()
        if n < 2:
            raise ValueError(f"batch norm needs more than one value a channel, got a batch of shape {tuple(x.shape)}")
        variance = total((wide - mean.view(shape)).square().sum(axes)) / n
        self._remember(mean.detach(), variance.detach() * n / (n - 1))
        return normalised(self, x, mean, variance)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics as batch norm does."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


@contextmanager
def synchronised(net: nn.Module) -> Iterator[None]:
    """Inside, the batch norms of `net` that train use the statistics of all ranks together; nothing changes on one rank.

    The layers stay the same objects with the same parameters and buffers, moving-average targets among them. One whose
    forward pass is its own is left alone.
    """
    layers: list[Any] = []
    if world() > 1:
        layers = [m for m in net.modules() if isinstance(m, _BatchNorm) and type(m).forward is _BatchNorm.forward]
    kinds = [type(layer) for layer in layers]
    for layer in layers:
        layer.__class__ = SynchronisedBatchNorm
    try:
        yield
    finally:
        for layer, kind in zip(layers, kinds, strict=True):
            layer.__class__ = kind
