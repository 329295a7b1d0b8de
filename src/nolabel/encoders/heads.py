"""What stands on top of an encoder while it learns: projection heads and prototypes."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


def projection_head(in_dim: int, hidden_dim: int, out_dim: int, *, layers: int = 2, norm: bool = True) -> nn.Sequential:
    """Multi-layer perceptron from (n, in_dim) to (n, out_dim): linear, batch norm, ReLU, ..., linear.

    Parameters
    ----------
    in_dim, hidden_dim, out_dim : int
        Widths; one layer goes straight from in to out.
    layers : int
        Linear layers, from 1.
    norm : bool
        Batch norm after each hidden layer, which then needs no bias. The last layer is bare: a bias, no norm, no ReLU.

    Examples
    --------
    >>> projection_head(512, 2048, 128)(torch.rand(4, 512)).shape
    torch.Size([4, 128])
    """
    if layers < 1:
        raise ValueError(f"layers must be at least 1, got {layers}")
    parts: list[nn.Module] = []
    for _ in range(layers - 1):
        parts.append(nn.Linear(in_dim, hidden_dim, bias=not norm))
        if norm:
            parts.append(nn.BatchNorm1d(hidden_dim))
        parts.append(nn.ReLU(inplace=True))
        in_dim = hidden_dim
    return nn.Sequential(*parts, nn.Linear(in_dim, out_dim))


class Prototypes(nn.Linear):
    """Unit vectors that embeddings are compared with: a linear layer without bias (Caron et al., NeurIPS 2020,
    arXiv:2006.09882).

    Gives the cosine to each prototype (n, count) when the embeddings (n, dim) have unit length. An optimiser step
    moves prototypes off the sphere: call `normalise_` after it.

    Examples
    --------
    >>> prototypes = Prototypes(128, 300)
    >>> bool(prototypes(prototypes.weight).diagonal().allclose(torch.ones(300)))
    True
    """

    def __init__(self, dim: int, count: int) -> None:
        super().__init__(dim, count, bias=False)
        nn.init.normal_(self.weight)
        self.normalise_()

    @torch.no_grad()
    def normalise_(self) -> None:
        """Put every prototype back on the unit sphere, in place."""
        self.weight.copy_(normalize(self.weight))


class LearnedTemperature(nn.Module):
    """A temperature that is learned as the logarithm of its inverse, kept within bounds (Radford et al., CLIP, 2021,
    arXiv:2103.00020).

    One number in a vector, so that it takes no weight decay and can be shared out. Calling it gives the temperature as a
    scalar tensor.

    Parameters
    ----------
    start : at first; least, most : it stays between these, if `clamp_` is called after each step

    Examples
    --------
    >>> temperature = LearnedTemperature(0.07)
    >>> round(temperature().item(), 4)
    0.07
    """

    def __init__(self, start: float, *, least: float = 0.01, most: float = 1.0) -> None:
        super().__init__()
        if not 0 < least <= start <= most:
            raise ValueError(f"temperature must lie between {least} and {most}, got {start!r}")
        self.log_scale = nn.Parameter(torch.tensor([-math.log(start)]))
        self.bounds = -math.log(most), -math.log(least)

    def forward(self) -> Tensor:
        value: Tensor = torch.exp(-self.log_scale)[0]
        return value

    @torch.no_grad()
    def clamp_(self) -> None:
        """Back within the bounds, in place; to be called after a step of the optimiser."""
        self.log_scale.clamp_(*self.bounds)
