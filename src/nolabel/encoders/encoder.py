"""What every image encoder promises: pixels in [0, 1] in, one vector an image out, and the maps on the way."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d


def pooled(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c"]:
    """Mean over the map, in float32.

    `avg_pool2d` gives its gradient in the memory format of the map; that of `mean` is always channels-first, which
    slows a channels-last network's backward pass.
    """
    return avg_pool2d(maps.float(), maps.shape[2:]).flatten(1)


class Encoder(nn.Module):
    """Base of the image encoders: normalises its pixels itself, so that a saved model carries its preprocessing.

    A subclass sets `channels` and writes `stages`; where the vector is not the mean of the last map it also
    overrides `forward`.

    Parameters
    ----------
    in_channels : int
        Channels of the images, from 1.
    channels : dict of str to int
        Width of each map that `stages` returns, in order: ``{"stage1": 64, ...}``.
    mean, std : float or sequence of float
        Pixel mean and standard deviation, per channel or one for all; `set_normalisation` changes them later.

    Attributes
    ----------
    dim : int
        Width of the vector that `forward` returns.
    channels : dict of str to int
        Width of each map of `stages`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_channels: int,
        channels: dict[str, int],
        *,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.25,
    ) -> None:
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"channels must be at least 1, got {in_channels}")
        self.in_channels = in_channels
        self.channels = channels
        self.dim = list(channels.values())[-1] if channels else 0
        self.register_buffer("mean", torch.zeros(1, in_channels, 1, 1))
        self.register_buffer("std", torch.ones(1, in_channels, 1, 1))
        self.set_normalisation(mean, std)

    def set_normalisation(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        """Set the pixel mean and standard deviation, in units of the [0, 1] range; saved with the weights.

        Raises
        ------
        ValueError
            When the number of values is neither 1 nor the number of channels, or a standard deviation is not above 0.
        """
        for name, values in (("mean", mean), ("std", std)):
            new = torch.as_tensor(values, dtype=torch.float32).flatten()
            if len(new) not in (1, self.in_channels):
                raise ValueError(f"{name} has {len(new)} values, expected 1 or {self.in_channels} (one a channel)")
            if not torch.isfinite(new).all() or (name == "std" and new.min() <= 0):
                raise ValueError(f"{name} must be finite{' and above 0' if name == 'std' else ''}, got {new.tolist()}")
            getattr(self, name).copy_(new.view(1, -1, 1, 1))

    def normalise(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Pixels in [0, 1] to zero mean and unit spread; refuses what is no float batch of `in_channels` channels."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"images must have shape (n, {self.in_channels}, h, w), got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"images must be float in [0, 1], got {x.dtype}; divide uint8 by 255")
        return (x - self.mean).div_(self.std)  # in place: a batch of floats is large

    def stages(self, x: Float[Tensor, "n c h w"]) -> dict[str, Tensor]:
        """Maps (n, c_i, h_i, w_i) after each stage, keys as in `channels`."""
        raise NotImplementedError(f"{type(self).__name__} has no stages")

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """One vector an image: the mean of the last map, summed up in float32 whatever the precision of the map."""
        *_, last = self.stages(x).values()
        return pooled(last)


def scaled(width: int, factor: float) -> int:
    """Width times factor, as a whole number of at least 1.

    >>> scaled(64, 0.5)
    32
    """
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"width factor must be a number above 0, got {factor}")
    return max(1, round(width * factor))
