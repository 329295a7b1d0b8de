"""Turn images: by quarter turns without touching a pixel's value, or by any angle with interpolation."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from nolabel.views.pixels import check_images, to_float
from nolabel.views.sampling import uniform


def rotate4(images: Tensor) -> tuple[Float[Tensor, "4n c h h"], Int[Tensor, " 4n"]]:
    """Give all four quarter turns of each image, made by transposing and mirroring only.

    No pixel is interpolated, so nothing but the content tells a turned image from an upright one (RotNet: Gidaris et
    al., ICLR 2018, arXiv:1803.07728). The four turns of one image stand next to each other, so that one batch always
    holds all of them.

    Parameters
    ----------
    images : uint8 or float in [0, 1], (n, c, h, h), square.

    Returns
    -------
    views : float32 (4n, c, h, h), channels last in memory; labels : int64 (4n,), 0 1 2 3 0 1 2 3 ..., quarter turns
    counter-clockwise as in `numpy.rot90`.

    Raises
    ------
    ValueError
        Images that are not square: crop them first.

    >>> views, labels = rotate4(torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]]))
    >>> labels.tolist(), views[1, 0].tolist()
    ([0, 1, 2, 3], [[1.0, 0.0], [0.0, 0.0]])
    """
    check_images(images)
    n, c, height, width = images.shape
    if height != width:
        raise ValueError(f"images must be square to be turned by 90 degrees, got {height}x{width}: crop them first")
    upright = images.permute(0, 2, 3, 1)  # (n, h, w, c)
    turned = upright.transpose(1, 2)
    four = torch.stack((upright, turned.flip(1), upright.flip(1, 2), turned.flip(2)), dim=1)  # (n, 4, h, w, c)
    views = four.view(4 * n, height, width, c).permute(0, 3, 1, 2)
    return to_float(views, torch.channels_last), torch.arange(4, device=images.device).repeat(n)


def turn(
    images: Float[Tensor, "n c h w"],
    degrees: Float[Tensor, " n"],
    shift: Float[Tensor, "n 2"] | None = None,
    zoom: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "n c h w"]:
    """Turn float images counter-clockwise about their centres, enlarge them `zoom` times, move them by `shift`.

    Bilinear; what comes in from outside is the image mirrored at its border. `shift` is (down, right) in shares of the
    sides.

    >>> image = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    >>> turn(image, torch.zeros(1), shift=torch.tensor([[0.0, 0.25]]))[0, 0].tolist()
    [[1.0, 1.0, 2.0, 3.0]]
    """
    n, c, height, width = images.shape
    radians = degrees.to(images) * (math.pi / 180)
    cosine, sine, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    # from a pixel of the view to its source; rows run downwards, and half a side counts as 1 on both axes
    across = torch.stack((cosine, -sine * (height / width), zero), dim=-1)
    down = torch.stack((sine * (width / height), cosine, zero), dim=-1)
    place = torch.stack((across, down), dim=1)  # (n, 2, 3)
    if zoom is not None:
        place = place / zoom.to(images)[:, None, None]
    if shift is not None:  # a pixel of the view was, before the move, as much to the left and further up
        place[:, :, 2] = -2 * (place[:, :, :2] @ shift.to(images).flip(1).unsqueeze(2)).squeeze(2)
    grid = F.affine_grid(place, [n, c, height, width], align_corners=False)
    return F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)


def rotate_by(images: Tensor, degrees: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Turn each image counter-clockwise about its centre by its own angle.

    Bilinear; what comes in from outside is the image mirrored at its border, because black corners would give the angle
    away.

    Parameters
    ----------
    images : uint8 or float in [0, 1], (n, c, h, w); degrees : (n,), counter-clockwise.

    Returns
    -------
    float32 (n, c, h, w).

    >>> image = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])
    >>> rotate_by(image, torch.tensor([90.0])).round(decimals=3)[0, 0].tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    images = to_float(images)
    if degrees.shape != images.shape[:1]:
        raise ValueError(f"degrees must be one angle an image, shape ({len(images)},), got {tuple(degrees.shape)}")
    return turn(images, degrees)


def rotate(
    images: Tensor, degrees: float | tuple[float, float] = 15.0, *, generator: torch.Generator
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, " n"]]:
    """Turn each image by a random angle.

    Parameters
    ----------
    images : uint8 or float in [0, 1], (n, c, h, w).
    degrees : angles are drawn in (-degrees, degrees), or between the two given.

    Returns
    -------
    views : float32 (n, c, h, w); angles : (n,) degrees, counter-clockwise.

    >>> rotate(torch.ones(2, 1, 4, 4), 0, generator=torch.Generator())[1].tolist()
    [0.0, 0.0]
    """
    bounds = degrees if isinstance(degrees, tuple) else (-degrees, degrees)
    if not bounds[0] <= bounds[1]:
        raise ValueError(f"degrees must be a width >= 0 or (low, high), got {degrees}")
    check_images(images)
    angles = uniform(len(images), bounds, generator=generator, device=images.device)
    return rotate_by(images, angles), angles
