"""Adam that moves only what was looked up: for tables of embeddings, of which a step sees a few rows."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nolabel.training.settings import Training
from nolabel.training.sharding import in_shards


class RowAdam(Optimizer):
    """Adam (Kingma & Ba, ICLR 2015, arXiv:1412.6980) for sparse gradients, such as of ``nn.Embedding(sparse=True)``.

    A row that has no gradient in a step stands still, and so do its moments and its step count: the first steps of a
    rare row are corrected for their bias as those of a frequent one were. A dense gradient counts as one of all rows.

    Parameters
    ----------
    params : parameters with at least one axis, or groups of them
    lr, betas, epsilon : as in Adam
    """

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "epsilon": epsilon})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, **{k: group[k] for k in ("lr", "betas", "epsilon")})
        return loss

    def _move(self, weight: Tensor, slope: Tensor, lr: float, betas: tuple[float, float], epsilon: float) -> None:
        state = self.state[weight]
        if not state:
            state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
            state["steps"] = torch.zeros(len(weight), device=weight.device)  # of each row
        rows, slopes = summed_rows(slope)
        shape = (-1, *[1] * (weight.ndim - 1))
        steps = state["steps"].index_select(0, rows).add_(1)
        mean = state["mean"].index_select(0, rows).lerp_(slopes, 1 - betas[0])
        square = state["square"].index_select(0, rows).mul_(betas[1]).addcmul_(slopes, slopes, value=1 - betas[1])
        for name, values in (("steps", steps), ("mean", mean), ("square", square)):
            state[name].index_copy_(0, rows, values)
        deviation = square.div_((1 - betas[1] ** steps).view(shape)).sqrt_().add_(epsilon)
        weight.index_add_(0, rows, mean.div_(deviation).div_((1 - betas[0] ** steps).view(shape)), alpha=-lr)


def summed_rows(slope: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that a gradient touches, each once, and their sums; a dense gradient touches all."""
    if not slope.is_sparse:
        return torch.arange(len(slope), device=slope.device), slope
    if slope.is_coalesced():
        return slope.indices()[0], slope.values()
    found, values = slope._indices()[0], slope._values()
    touched = torch.zeros(len(slope), dtype=torch.bool, device=slope.device).index_fill_(0, found, True)
    rows = touched.nonzero()[:, 0]
    place = torch.empty(len(slope), dtype=torch.long, device=slope.device)
    place[rows] = torch.arange(len(rows), device=slope.device)
    sums = torch.zeros(len(rows), *values.shape[1:], dtype=values.dtype, device=slope.device)
    return rows, sums.index_add_(0, place[found], values)


def row_adam(net: nn.Module, settings: Training) -> dict[str, Optimizer]:
    """The one optimiser of tables of words: Adam on the rows that a step sees."""
    if settings.optimiser != "adam" or settings.weight_decay or settings.clip:
        raise ValueError(
            "tables of words are trained by adam on the rows that a step sees, without weight decay or clipping; got "
            f"training.optimiser={settings.optimiser!r}, weight_decay={settings.weight_decay}, clip={settings.clip}"
        )
    if in_shards(net):
        raise ValueError(
            "training.strategy='fsdp' is not for tables of words, of which a step moves single rows: use auto"
        )
    assert settings.lr is not None
    return {"main": RowAdam(net.parameters(), lr=settings.lr)}
