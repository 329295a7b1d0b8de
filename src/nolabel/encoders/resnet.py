"""Residual networks of basic blocks (He et al., CVPR 2016, arXiv:1512.03385), with stems for small and large images."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import relu_

from nolabel.encoders.convolution import Conv3x3
from nolabel.encoders.encoder import Encoder
from nolabel.encoders.pooling import halved_maximum

STEMS = ("small", "compact", "large")


class Block(nn.Module):
    """Two 3x3 convolutions and a short cut, ``relu(x + f(x))``; a block that strides or widens projects x.

    Where `signed` is set, the sum stays as it is.
    """

    signed = False

    def __init__(self, width_in: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = Conv3x3(width_in, width, stride=stride)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = Conv3x3(width, width)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            # Dropping unused pixels first leaves a dense 1x1 convolution: its gradient is faster than a strided one's.
            drop = nn.Identity() if stride == 1 else nn.AvgPool2d(1, stride)
            self.shortcut = nn.Sequential(drop, nn.Conv2d(width_in, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = relu_(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += self.shortcut(x)
        return out if self.signed else relu_(out)


class ResNet(Encoder):
    """Residual network of a few stages; each doubles the width, and all but the first halve the map.

    Batch norms start at scale 1, also the last one of a block: starting that one at 0, as some recipes for long
    training do, left a short self-supervised one far behind (rotation prediction on CIFAR-10, 240 steps, ResNet-10 of
    half width: 20-NN accuracy 26 % against 36 %).

    Parameters
    ----------
    blocks : sequence of int
        Basic blocks in each stage: (2, 2, 2, 2) is ResNet-18, (1, 1, 1, 1) ResNet-10, (1, 1, 1) ResNet-8.
    channels : int
        Channels of the images.
    width : int
        Width of the first stage: 64 gives 64-128-256-512, 32 gives 32-64-128-256.
    stem : {"small", "compact", "large"}
        First layer: 3x3 with stride 1 (32x32 images, the slowest), 3x3 with stride 2 (four times faster), or 7x7
        with stride 2 and max-pooling (from about 96x96).
    output_stride : int, optional
        How many pixels of the image lie between two places of the last map, a power of two: stages after it is reached
        keep the size of their map. Dense tasks want fine maps.
    signed : bool
        Leave out the ReLU after the last block: the features of the last stage may be negative.

    Examples
    --------
    >>> import torch
    >>> net = ResNet((1, 1, 1, 1), width=8)
    >>> net(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 64])
    >>> {name: tuple(m.shape[1:]) for name, m in net.stages(torch.rand(2, 3, 32, 32)).items()}
    {'stage1': (8, 16, 16), 'stage2': (16, 8, 8), 'stage3': (32, 4, 4), 'stage4': (64, 2, 2)}
    """

    def __init__(
        self,
        blocks: Sequence[int] = (2, 2, 2, 2),
        *,
        channels: int = 3,
        width: int = 64,
        stem: str = "compact",
        output_stride: int | None = None,
        signed: bool = False,
    ) -> None:
        if stem not in STEMS:
            raise ValueError(f"stem must be one of {', '.join(STEMS)}, got {stem!r}")
        stride = 2 ** STEMS.index(stem)
        possible = [stride * 2**i for i in range(len(blocks))]
        if output_stride is not None and output_stride not in possible:
            known = ", ".join(map(str, possible))
            raise ValueError(f"output_stride must be one of {known} with a {stem} stem, got {output_stride}")
        widths = [width * 2**i for i in range(len(blocks))]
        super().__init__(channels, {f"stage{i}": w for i, w in enumerate(widths, 1)})
        self.max_pool = stem == "large"
        if self.max_pool:
            self.stem: nn.Conv2d = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        else:
            self.stem = Conv3x3(channels, width, stride=1 if stem == "small" else 2)
        self.norm = nn.BatchNorm2d(width)
        self.layers = nn.ModuleList()
        width_in = width
        for i, (count, w) in enumerate(zip(blocks, widths)):
            halve = i > 0 and stride < (output_stride or possible[-1])
            stride *= 2 if halve else 1
            first = Block(width_in, w, stride=2 if halve else 1)
            self.layers.append(nn.Sequential(first, *(Block(w, w) for _ in range(count - 1))))
            width_in = w
        last: Any = self.layers[-1]
        last[-1].signed = signed
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self, x: Tensor) -> dict[str, Tensor]:
        x = self.norm(self.stem(self.normalise(x)))
        if self.max_pool:  # before the ReLU: the same result, on a quarter of the pixels
            x = halved_maximum(x)
        x = relu_(x)
        maps = {}
        for name, layer in zip(self.channels, self.layers):
            x = maps[name] = layer(x)
        return maps
