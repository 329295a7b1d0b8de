"""RandAugment: a few operations drawn at random for each image, all at about one strength.

The fourteen operations of Cubuk, Zoph, Shlens & Le, "RandAugment: practical automated data augmentation with a reduced
search space", NeurIPS 2020, arXiv:1909.13719, on whole batches: in each round every image draws one operation, and each
operation is computed for all the images that drew it. Differences: what comes in from outside after a geometric operation is
the image mirrored at its border, not grey, which would give the operation away; strengths stray a little (a normal
distribution, as usual for this recipe in self-supervised learning).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nolabel.views.colour import adjust_colour
from nolabel.views.pixels import full_precision, to_float
from nolabel.views.rotation import turn
from nolabel.views.sampling import uniform

STRONGEST = 10.0  # the level at which an operation is as strong as it gets


Pair = tuple[Tensor | float, Tensor | float]


def affine(images: Float[Tensor, "n c h w"], shear: Pair = (0.0, 0.0), shift: Pair = (0.0, 0.0)) -> Tensor:
    """Shear by factors and shift by shares of a side, each (across, down), a number or (n,); bilinear, mirrored borders.

    >>> affine(torch.tensor([[[[0.0, 1.0]]]]), shift=(0.5, 0.0))[0, 0].tolist()
    [[0.0, 0.0]]
    """
    n, c, height, width = images.shape
    shear_x, shear_y, shift_x, shift_y = (torch.as_tensor(v).to(images).expand(n) for v in (*shear, *shift))
    one = torch.ones_like(shift_x)
    # from a pixel of the view to its source, in units of half a side
    across = torch.stack((one, shear_x * (height / width), -2 * shift_x), dim=-1)
    down = torch.stack((shear_y * (width / height), one, -2 * shift_y), dim=-1)
    grid = F.affine_grid(torch.stack((across, down), dim=1), [n, c, height, width], align_corners=False)
    return F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)


def posterise(images: Float[Tensor, "n c h w"], bits: Tensor) -> Float[Tensor, "n c h w"]:
    """Keep the leading bits (n,), from 0 to 8, of each pixel's byte.

    >>> posterise(torch.tensor([[[[200 / 255]]]]), torch.tensor([1])).mul(255).item()
    128.0
    """
    step = torch.exp2(8 - bits.to(images))[:, None, None, None]
    return ((images * 255).round() / step).floor() * step / 255


def autocontrast(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Stretch each channel to the whole range; a constant one stays.

    >>> autocontrast(torch.tensor([[[[0.25, 0.5, 0.75]]]])).flatten().tolist()
    [0.0, 0.5, 1.0]
    """
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, (images - low) / (high - low).clamp(min=1e-6), images).clamp(0, 1)


def equalise(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Give each channel as even a histogram of its 256 levels as a mapping of levels can; a constant one stays.

    >>> dark = torch.arange(256.0).repeat(2, 1).view(1, 1, 16, 32) / 765
    >>> [round(images.max().item(), 2) for images in (dark, equalise(dark))]
    [0.33, 1.0]
    """
    n, c, height, width = images.shape
    levels = (images * 255).round().long().view(n * c, height * width)
    counts = torch.zeros(n * c, 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels))
    brightest = counts.gather(1, levels.amax(1, keepdim=True))  # pixels of the last level that occurs
    step = (height * width - brightest) // 255
    mapped = ((counts.cumsum(1) - counts + step // 2) // step.clamp(min=1)).clamp(max=255)
    mapped = torch.where(step > 0, mapped, torch.arange(256, device=images.device))
    return (mapped.gather(1, levels).float() / 255).view(n, c, height, width)


def sharpen(images: Float[Tensor, "n c h w"], factor: Tensor) -> Float[Tensor, "n c h w"]:
    """Move away from (factor above 1) or towards (below 1) a smoothed copy; factors (n,). The outermost pixels stay.

    >>> sharpen(torch.ones(1, 1, 3, 3), torch.tensor([2.0])).unique().tolist()
    [1.0]
    """
    c = images.shape[1]
    kernel = torch.ones(3, 3, device=images.device)
    kernel[1, 1] = 5
    smooth = images.clone()
    if min(images.shape[2:]) > 2:
        with full_precision(images):
            smooth[:, :, 1:-1, 1:-1] = F.conv2d(images, (kernel / 13).expand(c, 1, 3, 3), groups=c)
    return torch.lerp(smooth, images, factor[:, None, None, None]).clamp(0, 1)


def _solarised(images: Tensor, amount: Tensor) -> Tensor:
    return torch.where(images >= 1 - amount.abs()[:, None, None, None], 1 - images, images)


#: Operations on images (n, c, h, w) by an amount (n,): strength in [0, 1] with a random sign, which only some heed.
OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda images, amount: images,
    "autocontrast": lambda images, amount: autocontrast(images),
    "equalise": lambda images, amount: equalise(images),
    "rotate": lambda images, amount: turn(images, 30 * amount),
    "solarise": _solarised,
    "saturation": lambda images, amount: adjust_colour(images, saturation=1 + 0.9 * amount),
    "posterise": lambda images, amount: posterise(images, (8 - 4 * amount.abs()).round()),
    "contrast": lambda images, amount: adjust_colour(images, contrast=1 + 0.9 * amount),
    "brightness": lambda images, amount: adjust_colour(images, brightness=1 + 0.9 * amount),
    "sharpness": lambda images, amount: sharpen(images, 1 + 0.9 * amount),
    "shear across": lambda images, amount: affine(images, shear=(0.3 * amount, 0.0)),
    "shear down": lambda images, amount: affine(images, shear=(0.0, 0.3 * amount)),
    "shift across": lambda images, amount: affine(images, shift=(0.45 * amount, 0.0)),
    "shift down": lambda images, amount: affine(images, shift=(0.0, 0.45 * amount)),
}


@dataclass(frozen=True)
class RandAugment:
    """Change each image by some random operations of one strength; a recipe (images, generator) -> images.

    Parameters
    ----------
    operations : drawn for each image, one after the other, with replacement.
    magnitude : mean strength, 0 to 10: at 10 turns of 30 degrees, shears of 0.3, shifts of 45 % of a side, colour factors of
    0.1 and 1.9, 4 of 8 bits, all pixels inverted.
    spread : standard deviation of the strength, which is cut to [0, 10].

    Raises
    ------
    ValueError
        A parameter out of its range, named.

    >>> RandAugment()(torch.rand(4, 3, 16, 16), torch.Generator().manual_seed(0)).shape
    torch.Size([4, 3, 16, 16])
    """

    operations: int = 2
    magnitude: float = 10.0
    spread: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.operations, int) or self.operations < 1:
            raise ValueError(f"operations must be a whole number >= 1, got {self.operations}")
        if not 0 <= self.magnitude <= STRONGEST:
            raise ValueError(f"magnitude must lie in [0, {STRONGEST:g}], got {self.magnitude}")
        if not 0 <= self.spread < math.inf:
            raise ValueError(f"spread must be a standard deviation >= 0, got {self.spread}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Float[Tensor, "n c h w"]:
        """uint8 or float (n, c, h, w) to float32 (n, c, h, w) in [0, 1]."""
        images = to_float(images)
        for _ in range(self.operations):
            choice, amount = self.draw(len(images), generator=generator, device=images.device)
            changed = images.clone()
            for number, operation in enumerate(OPERATIONS.values()):
                rows = (choice == number).nonzero().squeeze(1)
                if len(rows):
                    changed[rows] = operation(images[rows], amount[rows])
            images = changed.clamp_(0, 1)
        return images

    def draw(self, n: int, *, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
        """The operation of each of `n` images, and its strength in [0, 1] with a random sign: (n,) both."""
        choice = uniform(n, (0, len(OPERATIONS)), generator=generator, device=device).long()
        sign = uniform(n, (-1, 1), generator=generator, device=device).sign()
        stray = torch.randn(n, generator=generator, device=generator.device).to(device)
        level = (self.magnitude + self.spread * stray).clamp_(0, STRONGEST)
        return choice.clamp_(max=len(OPERATIONS) - 1), sign * level / STRONGEST
