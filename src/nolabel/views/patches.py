"""Small overlapping patches of each image, from a grid that is jittered anew for every image."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from nolabel.views.augment import Augment
from nolabel.views.crop import two_sides
from nolabel.views.multi_crop import Views
from nolabel.views.pixels import check_images
from nolabel.views.sampling import check_bounds, uniform

GRID = 3  # patches a side


@dataclass(frozen=True)
class GridPatches:
    """Cut patches out of one random crop of each image (OBoW: Gidaris et al., CVPR 2021, arXiv:2012.11552).

    The crop is coloured, perhaps mirrored, and brought to the shorter side of the images; nothing is blurred. On it lies
    a grid of 3 x 3 overlapping patches, each shifted by up to `jitter`; some of the nine are chosen for each image.
    Patches of one image share crop, colours and mirroring.

    Parameters
    ----------
    number : patches of each image, at most 9.
    size : side of a patch in pixels of the crop; the paper's is 96 in crops of 256.
    area : bounds of the crop's share of the image.
    jitter : largest shift of a patch, as a share of the crop's side; the paper's is 24 of 256 pixels.
    augment : everything else about the crop; its own size, area and blur are not used.

    Raises
    ------
    ValueError
        A number, size or share out of range; when called, patches that do not fit into the crop.

    >>> patches = GridPatches(3, 16)(torch.rand(5, 3, 32, 32), torch.Generator())
    >>> [tuple(patch.shape) for patch in patches]
    [(5, 3, 16, 16), (5, 3, 16, 16), (5, 3, 16, 16)]
    """

    number: int = 5
    size: int = 96
    area: tuple[float, float] = (0.6, 1.0)
    jitter: float = 24 / 256
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        if not isinstance(self.number, int) or not 1 <= self.number <= GRID**2:
            raise ValueError(f"number of patches must be a whole number from 1 to {GRID**2}, got {self.number}")
        if isinstance(self.size, tuple):
            raise ValueError(f"size must be one whole number, got {self.size}")
        two_sides("size", self.size)
        check_bounds("area", self.area, above=0, up_to=1)
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter must be a share of the crop's side in [0, 1), got {self.jitter}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        """`number` patches of each image: uint8 or float (n, c, h, w) to float32 (n, c, size, size) each."""
        return self.with_geometry(images, generator).images

    def with_geometry(self, images: Tensor, generator: torch.Generator) -> Views:
        """The same patches as calling gives, with the boxes, flips and angles of each.

        Where the recipe turns images, it turns the whole crop about its middle; boxes are those before the turn.
        """
        check_images(images)
        side = min(images.shape[2:])
        reach = round(self.jitter * side)
        if self.size + reach > side:
            raise ValueError(
                f"size: patches must fit into the image, got size {self.size} and jitter {reach} for side {side}"
            )
        whole = replace(self.augment, size=side, area=self.area, blur_p=0.0).with_geometry(images, generator)
        top, left = self.corners(len(images), side, reach, generator=generator, device=images.device)
        # every patch of the crop as a view (n, c, places, places, size, size); those at the corners are copied
        windows = whole.image.unfold(2, self.size, 1).unfold(3, self.size, 1)
        rows = torch.arange(len(images), device=images.device)
        cut = [windows[rows, :, y, x] for y, x in zip(top.T, left.T, strict=True)]
        if images.shape[1] == 3:
            cut = [patch.contiguous(memory_format=torch.channels_last) for patch in cut]
        boxes = [self.boxes(whole.box, whole.flipped, y, x, side) for y, x in zip(top.T, left.T, strict=True)]
        return Views(cut, boxes, [whole.flipped] * self.number, [whole.angle] * self.number)

    def corners(
        self, n: int, side: int, reach: int, *, generator: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Upper left corners of the patches chosen for each image: y and x (n, number), in pixels of the crop."""
        drawn = uniform(3 * n * GRID**2, (0.0, 1.0), generator=generator, device=device).view(3, n, GRID**2)
        chosen = drawn[0].argsort(dim=1)[:, : self.number]  # different places of the grid
        shift = (drawn[1:] * (reach + 1)).long().clamp(max=reach)[:, :, : self.number]
        step = (side - self.size - reach) // (GRID - 1)
        return chosen // GRID * step + shift[0], chosen % GRID * step + shift[1]

    def boxes(self, whole: Tensor, flipped: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
        """Where patches lie in the images, y0, x0, y1, x1 in pixels (n, 4), given the boxes of the crops."""
        left = torch.where(flipped, side - left - self.size, left)  # a mirrored crop's right is the image's left
        corners = torch.stack((top, left, top + self.size, left + self.size), dim=-1) / side
        start, extent = whole[:, :2].repeat(1, 2), (whole[:, 2:] - whole[:, :2]).repeat(1, 2)
        return torch.minimum(start + corners * extent, whole[:, 2:].repeat(1, 2))
