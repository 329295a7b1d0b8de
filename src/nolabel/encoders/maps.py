"""What stands on top of a feature map while it learns: the same small network at every location."""

from torch import nn


def map_head(in_dim: int, hidden_dim: int, out_dim: int, *, layers: int = 2) -> nn.Sequential:
    """Multi-layer perceptron at every location of a map, from (n, in_dim, h, w) to (n, out_dim, h, w).

    1x1 convolution, batch norm, ReLU, ..., 1x1 convolution: `projection_head` for maps. Batch norm sees all locations of all
    images at once.

    Parameters
    ----------
    in_dim, hidden_dim, out_dim : int
        Widths; one layer goes straight from in to out.
    layers : int
        Convolutions, from 1. Hidden ones need no bias beside their batch norm; the last one is bare: a bias, no norm.

    Examples
    --------
    >>> import torch
    >>> map_head(128, 256, 64)(torch.rand(4, 128, 6, 6)).shape
    torch.Size([4, 64, 6, 6])
    """
    if layers < 1:
        raise ValueError(f"layers must be at least 1, got {layers}")
    parts: list[nn.Module] = []
    for _ in range(layers - 1):
        parts += [nn.Conv2d(in_dim, hidden_dim, 1, bias=False), nn.BatchNorm2d(hidden_dim), nn.ReLU(inplace=True)]
        in_dim = hidden_dim
    return nn.Sequential(*parts, nn.Conv2d(in_dim, out_dim, 1))
