"""The recipe of one random view.

The steps run in the papers' order: crop with flip, small rotation, style, colour with grey, blur, solarise. A three-channel
view comes out channels last in memory, for a copy of half a millisecond in 256 views of 32 x 32: a small residual
network whose weights are laid out plainly then trained 13 % (bf16) to 20 % (float32) faster on a CPU, and one with
channels-last weights needs no copy of its own.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nolabel.views.blur import blur_rows
from nolabel.views.colour import ColourFactors, check_jitter, draw_factors, invert_bright, mix
from nolabel.views.crop import random_boxes, resample, two_sides
from nolabel.views.fourier import AREA, amplitudes, draw_styles, restyle
from nolabel.views.pixels import check_images, to_float
from nolabel.views.rotation import turn
from nolabel.views.sampling import check_bounds, check_probability, chosen, uniform

# floats a buffer holds at most on a CPU: larger batches go through in slices that stay in the cache
FLOATS_AT_ONCE = 2**18


@dataclass(frozen=True)
class View:
    """One view of every image of a batch, and where in the images it was taken.

    Attributes
    ----------
    image : float32 (n, c, size, size) in [0, 1].
    box : float32 (n, 4), y0, x0, y1, x1 in pixels of the input.
    flipped : bool (n,), mirrored left to right after cropping.
    angle : float32 (n,), degrees counter-clockwise, turned about the view's centre after flipping; zeros without
    rotation.
    """

    image: Float[Tensor, "n c size size"]
    box: Float[Tensor, "n 4"]
    flipped: Bool[Tensor, " n"]
    angle: Float[Tensor, " n"]


class Plan(NamedTuple):
    """What is drawn for each view, first dimension (n,)."""

    box: Tensor  # (n, 4)
    flipped: Tensor
    angle: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    blurred: Tensor
    sigma: Tensor
    solarised: Tensor
    style_row: Tensor  # whose style; meaningless without a style step, like its area
    style_area: Tensor
    shift: Tensor  # (n, 2)
    zoom: Tensor


def rows_of(plan: Plan, rows: slice | Tensor) -> Plan:
    """What was drawn for some of the views."""
    return Plan(*(drawn[rows] for drawn in plan))


@dataclass(frozen=True)
class Augment:
    """The recipe of one random view; calling it gives views, `with_geometry` also where they were taken.

    Anything else that maps (images, generator) to a float batch can stand in its place where no geometry is needed.

    Parameters
    ----------
    size : side of the view, or (height, width); None keeps the image's.
    area : bounds of the crop's share of the image; ratio : bounds of its width / height.
    flip_p : probability of mirroring left to right.
    degrees : turns by up to this many degrees either way.
    shift : moves by up to this share of the sides either way; zoom : bounds of an enlargement. Both after the turn, and
        like it about the view's centre; `View` does not tell them.
    jitter : widths of brightness, contrast, saturation and hue; jitter_p : probability of any.
    grey_p : probability of losing all colour.
    blur_p : probability of a Gaussian blur; blur_sigma : bounds of its standard deviation in pixels of the view.
    solarise_p : probability of inverting pixels of at least 0.5.
    style : whether low-frequency amplitudes are taken from the view of another image (`fourier_style`): ``None``;
        ``"batch"``, one image for the whole view (batch styles standardisation); ``"image"``, another for each.
    style_area : bounds of the share of the spectrum that is taken.
    shared_colour : draw jitter, grey and solarising once for the whole batch instead of for each image.

    Raises
    ------
    ValueError
        A bound or probability out of its range, named; when called, a style to borrow in a batch of one.

    >>> augment = Augment(size=16)
    >>> augment(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0)).shape
    torch.Size([4, 3, 16, 16])
    """

    size: int | tuple[int, int] | None = None
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_p: float = 0.5
    degrees: float = 0.0
    shift: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_p: float = 0.8
    grey_p: float = 0.2
    blur_p: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarise_p: float = 0.0
    style: Literal["batch", "image"] | None = None
    style_area: tuple[float, float] = AREA
    shared_colour: bool = False

    def __post_init__(self) -> None:
        if self.size is not None:
            two_sides("size", self.size)
        check_bounds("area", self.area, above=0, up_to=1)
        check_bounds("ratio", self.ratio, above=0)
        check_bounds("blur_sigma", self.blur_sigma, above=0)
        check_bounds("style_area", self.style_area, above=0, up_to=1)
        if self.style not in (None, "batch", "image"):
            raise ValueError(f"style must be None, 'batch' or 'image', got {self.style!r}")
        for name in ("flip_p", "jitter_p", "grey_p", "blur_p", "solarise_p"):
            check_probability(name, getattr(self, name))
        if not self.degrees >= 0:
            raise ValueError(f"degrees must be a width >= 0, got {self.degrees}")
        if not 0 <= self.shift <= 1:
            raise ValueError(f"shift must be a share of the sides in [0, 1], got {self.shift}")
        check_bounds("zoom", self.zoom, above=0)
        if len(self.jitter) != 4:
            raise ValueError(f"jitter must be (brightness, contrast, saturation, hue), got {self.jitter}")
        check_jitter(*self.jitter)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Float[Tensor, "n c size size"]:
        """One view of each image: uint8 or float (n, c, h, w) to float32 (n, c, size, size)."""
        return self.with_geometry(images, generator).image

    def with_geometry(self, images: Tensor, generator: torch.Generator) -> View:
        """The same view as calling gives, with its boxes, flips and angles."""
        check_images(images)
        n, c, height, width = images.shape
        size = (height, width) if self.size is None else two_sides("size", self.size)
        plan = self.draw(n, height, width, generator=generator, device=images.device)
        image = torch.empty((n, c, *size), dtype=torch.float32, device=images.device, memory_format=torch.channels_last)
        floats = n * c * max(height * width, size[0] * size[1])
        slices = min(n, math.ceil(floats / FLOATS_AT_ONCE)) if images.device.type == "cpu" else 1
        shared = self.borrowed(images, size, plan, plan.style_row[:1]) if self.style == "batch" else None
        for part in range(slices):
            some = slice(part * n // slices, (part + 1) * n // slices)
            look = self.borrowed(images, size, plan, plan.style_row[some]) if self.style == "image" else shared
            image[some] = self.paint(to_float(images[some]), size, rows_of(plan, some), look)
        return View(image, plan.box, plan.flipped, plan.angle)

    def draw(self, n: int, height: int, width: int, *, generator: torch.Generator, device: torch.device) -> Plan:
        """Everything random about the views of `n` images, before any pixel is touched."""
        box = random_boxes(n, height, width, area=self.area, ratio=self.ratio, generator=generator, device=device)
        flipped = chosen(n, self.flip_p, generator=generator, device=device)
        angle = uniform(n, (-self.degrees, self.degrees), generator=generator, device=device)
        draws = 1 if self.shared_colour else n
        factors = draw_factors(draws, self.jitter, self.jitter_p, generator=generator, device=device)
        grey = chosen(draws, self.grey_p, generator=generator, device=device)
        blurred = chosen(n, self.blur_p, generator=generator, device=device)
        sigma = uniform(n, self.blur_sigma, generator=generator, device=device)
        solarised = chosen(draws, self.solarise_p, generator=generator, device=device).expand(n)
        factors = factors._replace(saturation=factors.saturation.masked_fill(grey, 0.0))
        colours = ColourFactors(*(factor.expand(n) for factor in factors))
        row, share = torch.zeros_like(flipped, dtype=torch.long), torch.zeros_like(angle)
        if self.style is not None:
            shared = self.style == "batch"
            row, share = draw_styles(n, self.style_area, shared=shared, generator=generator, device=device)
        shift, zoom = torch.zeros_like(angle).expand(2, n).T, torch.ones_like(angle)
        if self.moves:
            bounds = (-self.shift, self.shift)
            shift = uniform(2 * n, bounds, generator=generator, device=device).view(n, 2)
            zoom = uniform(n, self.zoom, generator=generator, device=device)
        return Plan(box, flipped, angle, *colours, blurred, sigma, solarised, row, share, shift, zoom)

    @property
    def moves(self) -> bool:
        """Whether a view is moved or enlarged after its crop."""
        return self.shift > 0 or tuple(self.zoom) != (1.0, 1.0)

    def place(self, images: Float[Tensor, "n c h w"], size: tuple[int, int], plan: Plan) -> Tensor:
        """The views that `plan` describes as far as geometry goes."""
        image = resample(images, plan.box, size, plan.flipped)
        if self.moves:
            return turn(image, plan.angle, plan.shift, plan.zoom)
        return turn(image, plan.angle) if self.degrees else image

    def borrowed(self, images: Tensor, size: tuple[int, int], plan: Plan, rows: Tensor) -> Tensor:
        """Amplitudes of the views of some `rows`, each cut out as its own view is: what others take their style from."""
        return amplitudes(self.place(to_float(images[rows]), size, rows_of(plan, rows)))

    def paint(self, images: Float[Tensor, "n c h w"], size: tuple[int, int], plan: Plan, look: Tensor | None) -> Tensor:
        """The views that `plan` describes, with the style of the amplitudes `look`."""
        image = self.place(images, size, plan)
        if look is not None:
            image = restyle(image, look, plan.style_area)
        image = mix(image, ColourFactors(plan.brightness, plan.contrast, plan.saturation, plan.hue))
        if self.blur_p:
            image = blur_rows(image, plan.blurred, plan.sigma).clamp(0, 1)
        if self.solarise_p:
            image = invert_bright(image, 0.5, plan.solarised)
        return image
