"""Networks that turn clips into vectors: a small one for cores, and residual networks of 18 layers.

What they share: pixels in [0, 1] come in as (n, 3, t, h, w) and are normalised inside; a clip of any length and size makes a
map, and the mean of the map is its vector. They follow

* 3-D convolutions: Tran et al., C3D, ICCV 2015, arXiv:1412.0767;
* R3D-18 and R(2+1)D-18, where a convolution over space is followed by one over time: Tran et al., CVPR 2018, arXiv:1711.11248.
"""

import difflib
import re
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu_

from nolabel.encoders.encoder import scaled

NAMES = ("small3d", "r3d18", "r2plus1d18")
#: What pixels are normalised by.
MEAN, STD = 0.45, 0.25
Three = tuple[int, int, int]


class VideoEncoder(nn.Module):
    """Base of the encoders of clips; a subclass writes `maps` and sets `dim`.

    Attributes
    ----------
    dim : width of the vector that `forward` returns
    """

    dim: int

    def maps(self, x: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n d t2 h2 w2"]:
        """The last map of normalised clips."""
        raise NotImplementedError(f"{type(self).__name__} has no maps")

    def forward(self, clips: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, "n d"]:
        """One vector a clip, the mean of the last map in float32; refuses what is no float batch of clips."""
        if clips.ndim != 5 or clips.shape[1] != 3:
            raise ValueError(f"clips must have shape (n, 3, t, h, w), got {tuple(clips.shape)}")
        if not clips.is_floating_point():
            raise TypeError(f"clips must be float in [0, 1], got {clips.dtype}; divide uint8 by 255")
        normal = ((clips - MEAN) / STD).contiguous(memory_format=torch.channels_last_3d)
        return self.maps(normal).float().mean(dim=(2, 3, 4))


class Small3d(VideoEncoder):
    """Four 3x3x3 convolutions of 16, 32, 64 and 64 channels, each with batch norm and ReLU.

    All halve the frames; only the last two halve the time, for what is fast is lost with every second frame. 8 frames of
    48 x 48 end in 2 x 3 x 3.

    Parameters
    ----------
    factor : multiplies all widths

    Examples
    --------
    >>> Small3d()(torch.rand(2, 3, 8, 32, 32)).shape
    torch.Size([2, 64])
    """

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        widths = [scaled(width, factor) for width in (16, 32, 64, 64)]
        strides: list[Three] = [(1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)]
        self.layers = nn.ModuleList()
        for width_in, width, stride in zip((3, *widths), widths, strides):
            conv = nn.Conv3d(width_in, width, 3, stride=stride, padding=1, bias=False)
            self.layers.append(nn.Sequential(conv, nn.BatchNorm3d(width), nn.ReLU(inplace=True)))
        self.dim = widths[-1]
        _initialise(self)

    def maps(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Block3d(nn.Module):
    """Two convolutions and a short cut, ``relu(x + f(x))``; with `split`, each is one over space and one over time."""

    def __init__(self, width_in: int, width: int, stride: int, *, split: bool) -> None:
        super().__init__()
        self.conv1 = convolution(width_in, width, stride=(stride,) * 3, split=split)
        self.norm1 = nn.BatchNorm3d(width)
        self.conv2 = convolution(width, width, stride=(1, 1, 1), split=split)
        self.norm2 = nn.BatchNorm3d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            one = nn.Conv3d(width_in, width, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(one, nn.BatchNorm3d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(relu_(self.norm1(self.conv1(x)))))
        return relu_(out + self.shortcut(x))


class ResNet3d(VideoEncoder):
    """Residual network of 18 layers for clips: 64-128-256-512 channels, eight blocks.

    Parameters
    ----------
    split : R(2+1)D: convolutions over space, then over time, with a ReLU between and as many weights as the 3-D ones
    factor : multiplies all widths

    Examples
    --------
    >>> ResNet3d(factor=0.125)(torch.rand(2, 3, 8, 32, 32)).shape
    torch.Size([2, 64])
    """

    def __init__(self, *, split: bool = False, factor: float = 1.0) -> None:
        super().__init__()
        widths = [scaled(width, factor) for width in (64, 128, 256, 512)]
        if split:  # the middle width is the paper's, in proportion
            middle = scaled(45, factor)
            self.stem: nn.Module = nn.Sequential(
                nn.Conv3d(3, middle, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
                nn.BatchNorm3d(middle),
                nn.ReLU(inplace=True),
                nn.Conv3d(middle, widths[0], (3, 1, 1), padding=(1, 0, 0), bias=False),
            )
        else:
            self.stem = nn.Conv3d(3, widths[0], (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False)
        self.norm = nn.BatchNorm3d(widths[0])
        blocks: list[nn.Module] = []
        for number, (width_in, width) in enumerate(zip((widths[0], *widths), widths)):
            blocks += [Block3d(width_in, width, 1 if number == 0 else 2, split=split)]
            blocks += [Block3d(width, width, 1, split=split)]
        self.blocks = nn.Sequential(*blocks)
        self.dim = widths[-1]
        _initialise(self)

    def maps(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(relu_(self.norm(self.stem(x))))
        return out


def convolution(width_in: int, width: int, *, stride: Three, split: bool) -> nn.Module:
    """A 3x3x3 convolution; split: 1x3x3 to as many channels as keep its number of weights, then 3x1x1.

    >>> sum(p.numel() for p in convolution(64, 64, stride=(1, 1, 1), split=True)[0].parameters())
    82944
    """
    if not split:
        return nn.Conv3d(width_in, width, 3, stride=stride, padding=1, bias=False)
    middle = (27 * width_in * width) // (9 * width_in + 3 * width)
    return nn.Sequential(
        nn.Conv3d(width_in, middle, (1, 3, 3), stride=(1, *stride[1:]), padding=(0, 1, 1), bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        nn.Conv3d(middle, width, (3, 1, 1), stride=(stride[0], 1, 1), padding=(1, 0, 0), bias=False),
    )


class WrappedVideo(VideoEncoder):
    """Any module that makes vectors (n, d), or maps (n, d, t, h, w), of normalised clips."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        training = module.training
        with torch.no_grad():
            module.eval()
            out = module(torch.zeros(1, 3, 8, 64, 64))
            module.train(training)
        if not isinstance(out, Tensor) or out.ndim not in (2, 5):
            came = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ValueError(f"encoder must give (n, d) or (n, d, t, h, w) for clips (n, 3, t, h, w), got {came}")
        self.dim = out.shape[1]

    def maps(self, x: Tensor) -> Tensor:
        out: Tensor = self.module(x)
        return out if out.ndim == 5 else out[:, :, None, None, None]


def build_video(spec: str | nn.Module) -> VideoEncoder:
    """Make an encoder of clips.

    Parameters
    ----------
    spec : ``small3d`` (16-32-64-64, the least work), ``r3d18`` or ``r2plus1d18`` (64-128-256-512), trained from scratch; a suffix
        ``-x<factor>`` multiplies all widths, so ``r3d18-x0.25`` is 16-32-64-128. A module that takes clips (n, 3, t, h, w) is
        wrapped; a `VideoEncoder` comes back as it is.

    Raises
    ------
    ValueError : an unknown name, or a module that gives neither vectors nor maps
    TypeError : neither a name nor a module

    Examples
    --------
    >>> build_video("r3d18-x0.25").dim
    128
    """
    if isinstance(spec, VideoEncoder):
        return spec
    if isinstance(spec, nn.Module):
        return WrappedVideo(spec)
    if not isinstance(spec, str):
        raise TypeError(f"encoder must be a name or an nn.Module, got {type(spec).__name__}")
    match = re.fullmatch(r"(.+?)(?:-x(\d+(?:\.\d+)?))?", spec)
    name, factor = match.groups() if match else (spec, None)
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        known = f"{', '.join(NAMES)}, with -x0.5 and the like for the width"
        raise ValueError(f"unknown encoder {spec!r}: {hint}expected {known}")
    wide = float(factor) if factor else 1.0
    return Small3d(wide) if name == "small3d" else ResNet3d(split=name == "r2plus1d18", factor=wide)


def _initialise(net: nn.Module) -> None:
    """Initial weights, channels last in memory: 10 to 25 % less time a step on a CPU."""
    net.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    for module in net.modules():
        made: Any = module
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
