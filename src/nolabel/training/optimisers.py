"""Optimisers by name, with the parameter groups every system needs."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from nolabel.training.sharding import in_shards


class LARS(Optimizer):
    """SGD with momentum whose rate is scaled for each weight by ‖w‖ / ‖g‖ (You et al., 2017, arXiv:1708.03888).

    The local rate is ``trust * ‖w‖ / (‖g‖ + weight_decay * ‖w‖)``. Groups with ``adapt=False`` (biases, norms) take plain
    momentum steps.

    Parameters
    ----------
    params : parameters or groups
    lr, momentum, weight_decay : as in SGD
    trust : trust coefficient, 0.001 in SwAV
    """

    def __init__(
        self, params: Iterable[Any], lr: float, momentum: float = 0.9, weight_decay: float = 1e-6, trust: float = 0.001
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": True}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                update = weight.grad
                if group["adapt"]:
                    size, slope = weight.norm(), weight.grad.norm()
                    local = group["trust"] * size / (slope + group["weight_decay"] * size + 1e-12)
                    scale = torch.where((size > 0) & (slope > 0), local, torch.ones_like(local))
                    update = (update + group["weight_decay"] * weight) * scale
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                state["momentum_buffer"].mul_(group["momentum"]).add_(update)
                weight.add_(state["momentum_buffer"], alpha=-group["lr"])
        return loss


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices and kernels with weight decay; biases, norms and scalars without.

    Parameters that take no gradient, such as those of a moving-average target, belong to neither.
    """
    trained = [p for p in net.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim >= 2]
    plain = [p for p in trained if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [g for g in groups if g["params"]]


OPTIMISERS = ("sgd", "nesterov", "adamw", "adam", "lars")


def optimiser(name: str, net: nn.Module, lr: float, weight_decay: float) -> Optimizer:
    """`sgd` and `nesterov` (momentum 0.9), `adamw`, `adam` (fused kernels) or `lars` over the parameters of `net`.

    >>> type(optimiser("adamw", nn.Linear(2, 2), lr=1e-3, weight_decay=0.01)).__name__
    'AdamW'
    """
    groups = parameter_groups(net, weight_decay)
    if not groups:
        raise ValueError("the network built by this system has no parameters to train")
    if name in ("sgd", "nesterov"):
        fused = not in_shards(net)  # for which there is no such kernel
        sgd = torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=name == "nesterov", fused=fused)
        for group in groups:  # the fused kernel wants them all, also of weights that are frozen for the first steps
            for weight in group["params"]:
                sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        return sgd
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=True)
    if name == "adam":
        return torch.optim.Adam(groups, lr=lr, fused=True)
    if name == "lars":
        for group in groups:
            group["adapt"] = group["weight_decay"] > 0 or group["params"][0].ndim >= 2
        return LARS(groups, lr=lr, weight_decay=weight_decay)
    raise ValueError(f"optimiser must be one of {', '.join(OPTIMISERS)}, got {name!r}")
