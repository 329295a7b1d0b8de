"""Target networks that follow their online twin by an exponential moving average."""

import copy
import math
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def target_copy(online: M) -> M:
    """A copy that receives no gradient, to be moved by `ema_update`.

    >>> target_copy(nn.Linear(2, 2)).weight.requires_grad
    False
    """
    return copy.deepcopy(online).requires_grad_(False)


@torch.no_grad()
def ema_update(target: nn.Module, online: nn.Module, momentum: float, *, buffers: bool = True) -> None:
    """Move `target` towards `online`: target = momentum * target + (1 - momentum) * online.

    Parameters are averaged. Buffers (running statistics, counters) are copied, or left alone with ``buffers=False``, for a
    target that keeps statistics of its own in training mode. Source: He et al., MoCo, CVPR 2020, arXiv:1911.05722;
    Tarvainen & Valpola, Mean Teacher, NeurIPS 2017, arXiv:1703.01780.

    >>> online, target = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(online.weight, 1.0), nn.init.constant_(target.weight, 0.0)
    >>> ema_update(target, online, momentum=0.75); target.weight.item()
    0.25
    """
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"momentum must lie in [0, 1], got {momentum}")
    torch._foreach_lerp_(list(target.parameters()), [p.detach() for p in online.parameters()], 1.0 - momentum)
    if buffers:
        for kept, new in zip(target.buffers(), online.buffers(), strict=True):
            kept.copy_(new)


def momentum_schedule(fraction: float, start: float = 0.996, end: float = 1.0) -> float:
    """Momentum that rises from `start` to `end` along half a cosine (Grill et al., BYOL, 2020, arXiv:2006.07733).

    >>> momentum_schedule(0.0), momentum_schedule(1.0)
    (0.996, 1.0)
    """
    return end - (end - start) * (math.cos(math.pi * min(fraction, 1.0)) + 1.0) / 2.0
