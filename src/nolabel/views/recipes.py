"""The views of well-known papers, by name.

Blur is off up to 32 pixels, where it would wipe out most of what there is to see.
"""

import difflib
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from nolabel.views.augment import Augment

SMALL = 32  # pixels: up to here recipes use the half-strength jitter of CIFAR and no blur


def blur_bounds(size: int) -> tuple[float, float]:
    """The papers' blur widths, 0.1 to 2 pixels in views of 224, carried over to views of `size`."""
    return 0.1 * size / 224, 2.0 * size / 224


def simclr(size: int) -> Augment:
    """Views of SimCLR (Chen et al., ICML 2020, arXiv:2002.05709); up to 32 pixels its CIFAR variant.

    >>> simclr(32).blur_p, simclr(96).blur_p
    (0.0, 0.5)
    """
    if size <= SMALL:
        return Augment(size)
    return Augment(size, jitter=(0.8, 0.8, 0.8, 0.2), blur_p=0.5, blur_sigma=blur_bounds(size))


def swav(size: int) -> Augment:
    """Large crops of SwAV (Caron et al., NeurIPS 2020, arXiv:2006.09882): as SimCLR, from at least 14 % of the image.

    >>> swav(32).area
    (0.14, 1.0)
    """
    if size <= SMALL:
        return Augment(size, area=(0.14, 1.0))
    return Augment(size, area=(0.14, 1.0), jitter=(0.8, 0.8, 0.8, 0.2), blur_p=0.5, blur_sigma=blur_bounds(size))


def byol(size: int) -> tuple[Augment, Augment]:
    """The two unlike views of BYOL (Grill et al., NeurIPS 2020, arXiv:2006.07733); neither is blurred up to 32 pixels.

    The first is always blurred; the second rarely, and sometimes solarised.

    >>> [view.solarise_p for view in byol(64)]
    [0.0, 0.2]
    """
    jitter = (0.4, 0.4, 0.2, 0.1)
    first, second = (0.0, 0.0) if size <= SMALL else (1.0, 0.1)
    return (
        Augment(size, jitter=jitter, blur_p=first, blur_sigma=blur_bounds(size)),
        Augment(size, jitter=jitter, blur_p=second, blur_sigma=blur_bounds(size), solarise_p=0.2),
    )


def centred(size: int) -> Augment:
    """Views of centred, upright objects on an even ground: no mirroring, small rotations, no change of hue.

    For digits, characters, clothing; not for photos, whose objects are anywhere and may face either way.

    >>> centred(28).flip_p
    0.0
    """
    return Augment(size, area=(0.5, 1.0), flip_p=0.0, degrees=15.0, jitter=(0.3, 0.3, 0.0, 0.0), grey_p=0.0)


def convirt(size: int) -> Augment:
    """Views of ConVIRT (Zhang et al., MLHC 2022, arXiv:2010.00747), which keep most of a radiograph in sight.

    Crops of at least 60 %, turns of up to 20 degrees, small moves, brightness and contrast, blur; no change of hue.

    >>> convirt(224).blur_sigma
    (0.1, 3.0)
    """
    blur_p = 0.0 if size <= SMALL else 1.0
    return Augment(
        size, area=(0.6, 1.0), degrees=20.0, shift=0.1, zoom=(0.95, 1.05), jitter=(0.4, 0.4, 0.0, 0.0), jitter_p=1.0,
        grey_p=0.0, blur_p=blur_p, blur_sigma=(0.1 * size / 224, 3.0 * size / 224),
    )  # fmt: skip


def align(size: int) -> Augment:
    """Views of ALIGN (Jia et al., ICML 2021, arXiv:2102.05918): a crop of 289 of 346 pixels' side, mirrored or not.

    >>> round(align(289).area[0], 3)
    0.698
    """
    share = (289 / 346) ** 2
    return Augment(size, area=(share, share), ratio=(1.0, 1.0), jitter=(0.0, 0.0, 0.0, 0.0), jitter_p=0.0, grey_p=0.0)


def standard(size: int, channels: int) -> Augment:
    """The views used where nothing else is said: SimCLR's for colour images; for grey ones (digits, scans) `centred`.

    >>> standard(28, channels=1).flip_p
    0.0
    """
    return simclr(size) if channels == 3 else centred(size)


def bss(size: int, channels: int) -> Augment:
    """Batch styles standardisation (Scalbert et al., ICLR 2024, arXiv:2303.06088): `standard`, one look a view.

    The low frequencies of one image of the batch and one draw of the colour jitter serve the whole view; the next view
    has others. For images of several looks (scanners, stainings, drawing styles) whose borders nobody labelled.

    >>> bss(64, channels=3).style, bss(64, channels=3).shared_colour
    ('batch', True)
    """
    return replace(standard(size, channels), style="batch", shared_colour=True)


def fourier(size: int, channels: int) -> Augment:
    """`standard` with the low frequencies of another image, drawn for each image: what `bss` is compared with.

    Xu et al., CVPR 2021, arXiv:2105.11120.

    >>> fourier(64, channels=3).style
    'image'
    """
    return replace(standard(size, channels), style="image")


#: Recipes that `recipe` knows by name, as functions of side and channels.
NAMED: dict[str, Callable[[int, int], Augment]] = {
    "standard": standard,
    "simclr": lambda size, channels: simclr(size),
    "swav": lambda size, channels: swav(size),
    "centred": lambda size, channels: centred(size),
    "convirt": lambda size, channels: convirt(size),
    "align": lambda size, channels: align(size),
    "bss": bss,
    "fourier": fourier,
}

Recipe = Callable[[Tensor, torch.Generator], Tensor]


def recipe(augment: Recipe | str | None, size: int, channels: int) -> Recipe:
    """The views that a learner's ``augment`` asks for: a name, any callable (images, generator), or ``None``: `standard`.

    >>> recipe("swav", 32, channels=3).area
    (0.14, 1.0)
    """
    if augment is None or isinstance(augment, str):
        name = augment or "standard"
        if name not in NAMED:
            near = difflib.get_close_matches(name, NAMED, n=2, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise ValueError(f"unknown views {name!r}: {hint}there are {', '.join(NAMED)}")
        return NAMED[name](size, channels)
    return augment
