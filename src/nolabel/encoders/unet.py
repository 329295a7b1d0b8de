"""A compact U-Net (Ronneberger, Fischer & Brox, MICCAI 2015, arXiv:1505.04597), with batch norm, for images of any shape."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from nolabel.encoders.convolution import Conv3x3
from nolabel.encoders.encoder import Encoder


def _twice(width_in: int, width: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU."""
    parts: list[nn.Module] = []
    for wide in (width_in, width):
        parts += [Conv3x3(wide, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts)


class UNet(Encoder):
    """Maps as fine as the image that have seen all around: down over halved maps, up again beside the maps on the way.

    Convolutions keep the size of their map, where the paper's shrink it; halving rounds up, so that images need no shape of
    multiples of two, and enlarging repeats places.

    Parameters
    ----------
    widths : sequence of int
        Channels of each level, the finest first; at least 2 levels.
    channels : int
        Channels of the images.

    Attributes
    ----------
    finest : str
        Name of the stage whose map is as fine as the image, (n, widths[0], h, w).

    Examples
    --------
    >>> net = UNet((4, 8, 16), channels=1)
    >>> {name: tuple(maps.shape[1:]) for name, maps in net.stages(torch.rand(2, 1, 30, 22)).items()}
    {'down1': (4, 30, 22), 'down2': (8, 15, 11), 'down3': (16, 8, 6), 'up2': (8, 15, 11), 'up1': (4, 30, 22)}
    """

    finest = "up1"

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 96), *, channels: int = 3) -> None:
        whole = all(isinstance(width, int) and not isinstance(width, bool) and width >= 1 for width in widths)
        if len(widths) < 2 or not whole:
            raise ValueError(f"widths must be at least 2 whole numbers of at least 1, got {widths!r}")
        down = {f"down{level}": width for level, width in enumerate(widths, 1)}
        up = {f"up{level}": widths[level - 1] for level in range(len(widths) - 1, 0, -1)}
        super().__init__(channels, down | up)
        self.down = nn.ModuleList(_twice(a, b) for a, b in zip((channels, *widths), widths))
        self.up = nn.ModuleList(_twice(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1]))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self, x: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = {}
        x = self.normalise(x)
        for level, layers in enumerate(self.down, 1):
            x = maps[f"down{level}"] = layers(x if level == 1 else max_pool2d(x, 2, ceil_mode=True))
        for level, layers in zip(range(len(self.up), 0, -1), self.up):
            beside = maps[f"down{level}"]
            height, width = beside.shape[2:]
            large = interpolate(x, scale_factor=2.0)[:, :, :height, :width]
            x = maps[f"up{level}"] = layers(torch.cat([beside, large], dim=1))
        return maps
