"""From a name or a module to an encoder."""

import difflib
import re

from torch import nn

from nolabel.encoders.conv4 import Conv4
from nolabel.encoders.encoder import Encoder, scaled
from nolabel.encoders.nin import NIN
from nolabel.encoders.pretrained import HuggingFace, Timm, Wrapped
from nolabel.encoders.resnet import STEMS, ResNet
from nolabel.encoders.vit import PATCHES, ViT

NAMES = ("conv4", "conv4-growing", "nin", "resnet8", "resnet10", "resnet18", "vit-tiny")
_BLOCKS = {"resnet8": (1, 1, 1), "resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2)}
_WITH_STEM = (*_BLOCKS, "vit-tiny")


def build(spec: str | nn.Module, *, channels: int, image_size: int, stem: str = "auto") -> Encoder:
    """Make an encoder for images of a shape.

    Parameters
    ----------
    spec : str or nn.Module
        ``conv4`` (64-64-64-64), ``conv4-growing`` (32-64-128-256), ``nin``, ``resnet8`` (64-128-256), ``resnet10``,
        ``resnet18`` (64-128-256-512) or ``vit-tiny``, trained from scratch. A suffix ``-x<factor>`` multiplies all
        widths, so ``resnet18-x0.5`` is 32-64-128-256 (the transformer keeps whole heads of 64). For the residual nets
        ``-map<side>`` after it stops halving before the last map is smaller: ``resnet8-x0.5-map6`` ends in 8x8 for 32
        pixels and in 6x6 for 96. ``-signed`` at the end leaves out their last ReLU, so that features have both signs.
        ``hf:<identifier or folder>`` and ``timm:<name>`` are pre-trained. A module is wrapped; an `Encoder` comes back
        as it is.
    channels : int
        Channels of the images; pre-trained encoders take 1 (repeated) or 3.
    image_size : int
        Side of the images in pixels.
    stem : {"auto", "small", "compact", "large"}
        How fast the first layers of the residual nets and of the transformer shrink the image: by 1, 2 and 4 (by 2,
        4 and 16 for the transformer, which has 6 blocks, and 12 with the large stem). ``auto`` is compact up to 64
        pixels and large above; small is the slowest and the finest.

    Returns
    -------
    Encoder
        Images (n, channels, h, w) in [0, 1] to vectors (n, dim).

    Raises
    ------
    ValueError
        Unknown name or stem, a stem for an encoder that has none, a shape the encoder cannot take.
    TypeError
        `spec` is neither a string nor a module.

    Examples
    --------
    >>> build("resnet10-x0.5", channels=1, image_size=28).dim
    256
    """
    if stem not in ("auto", *STEMS):
        raise ValueError(f"stem must be one of auto, {', '.join(STEMS)}, got {stem!r}")
    if channels < 1 or image_size < 1:
        raise ValueError(f"channels and image_size must be at least 1, got {channels} and {image_size}")
    if isinstance(spec, str):
        name, factor, least_map, signed = _parse(spec)
        if stem != "auto" and name not in _WITH_STEM:
            raise ValueError(f"stem must be auto for {spec!r}, which has no stem to choose, got {stem!r}")
        if name in NAMES:
            return _from_scratch(name, factor, least_map, signed, channels, image_size, stem)
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3 for the pre-trained {spec!r}, got {channels}")
        source, _, model = name.partition(":")
        return HuggingFace(model) if source == "hf" else Timm(model)
    if not isinstance(spec, nn.Module):
        raise TypeError(f"encoder must be a name or an nn.Module, got {type(spec).__name__}")
    if stem != "auto":
        raise ValueError(f"stem must be auto for a module, got {stem!r}")
    if not isinstance(spec, Encoder):
        return Wrapped(spec, channels=channels, image_size=image_size)
    return spec


def _parse(spec: str) -> tuple[str, float, int | None, bool]:
    """Name, width factor, least side of the last map, signed features; names of pre-trained models have none of these."""
    if re.fullmatch(r"(hf|timm):.+", spec):
        return spec, 1.0, None, False
    match = re.fullmatch(r"(.+?)(?:-x(\d+(?:\.\d+)?))?(?:-map(\d+))?(-signed)?", spec)
    name, factor, side, signed = match.groups() if match else (spec, None, None, None)
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(
            f"unknown encoder {spec!r}: {hint}expected one of {', '.join(NAMES)} "
            "(with -x0.5 and the like for the width), hf:<name> or timm:<name>"
        )
    for suffix in ([f"-map{side}"] if side else []) + ([signed] if signed else []):
        if name not in _BLOCKS:
            raise ValueError(f"{suffix} is for {', '.join(_BLOCKS)}, got {spec!r}")
    return name, float(factor) if factor else 1.0, int(side) if side else None, signed is not None


def _from_scratch(
    name: str, factor: float, least_map: int | None, signed: bool, channels: int, image_size: int, stem: str
) -> Encoder:
    if stem == "auto":
        stem = "compact" if image_size <= 64 else "large"
    if name in ("conv4", "conv4-growing"):
        if image_size < 16:
            raise ValueError(f"image_size must be at least 16 for {name}, got {image_size}")
        widths = (64, 64, 64, 64) if name == "conv4" else (32, 64, 128, 256)
        return Conv4([scaled(width, factor) for width in widths], channels=channels)
    if name == "nin":
        return NIN(channels=channels, factor=factor)
    if name == "vit-tiny":
        heads = scaled(3, factor)
        depth = 12 if stem == "large" else 6
        return ViT(image_size, dim=64 * heads, depth=depth, heads=heads, patch=PATCHES[stem], channels=channels)
    stride = None if least_map is None else _output_stride(name, stem, image_size, least_map)
    width = scaled(64, factor)
    return ResNet(_BLOCKS[name], channels=channels, width=width, stem=stem, output_stride=stride, signed=signed)


def _output_stride(name: str, stem: str, image_size: int, least_map: int) -> int:
    """The largest stride a residual net can have whose last map is not smaller than wanted."""
    first = 2 ** STEMS.index(stem)
    strides = [first * 2**i for i in range(len(_BLOCKS[name]))]
    fine = [stride for stride in strides if -(-image_size // stride) >= least_map]
    if not fine:
        largest = -(-image_size // first)
        raise ValueError(f"-map{least_map}: the {stem} stem leaves at most {largest}x{largest} of {image_size} pixels")
    return fine[-1]
