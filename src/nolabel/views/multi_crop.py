"""Several views of each image at different sizes: a few large crops and more small, cheap ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nolabel.views.augment import Augment
from nolabel.views.crop import two_sides
from nolabel.views.pixels import check_images
from nolabel.views.sampling import check_bounds

Spec = tuple[tuple[int, int, tuple[float, float]], ...]


def two_scales(side: int) -> Spec:
    """Two large crops of the image's side and two small ones, for images of few pixels.

    >>> two_scales(32)
    ((2, 32, (0.3, 1.0)), (2, 20, (0.1, 0.3)))
    """
    return ((2, side, (0.3, 1.0)), (2, max(side * 5 // 8, 8), (0.1, 0.3)))


def as_spec(crops: Sequence[tuple[int, int, Sequence[float]]]) -> Spec:
    """(number, side, (least, largest area)) of each kind of crop as tuples, whatever sequences they came in."""
    return tuple((number, size, (area[0], area[1])) for number, size, area in crops)


@dataclass(frozen=True)
class Views:
    """All views of a batch, one entry a crop; see `View` for what the entries are."""

    images: list[Float[Tensor, "n c size size"]]
    boxes: list[Float[Tensor, "n 4"]]
    flipped: list[Bool[Tensor, " n"]]
    angles: list[Float[Tensor, " n"]]


@dataclass(frozen=True)
class MultiCrop:
    """Cut large and small views out of each image (SwAV: Caron et al., NeurIPS 2020, arXiv:2006.09882).

    Parameters
    ----------
    spec : for each size (how many, side in pixels, bounds of the crop's share of the image), large sizes first.
    augment : everything else about the views; its own size and area are replaced by those of `spec`.

    Raises
    ------
    ValueError
        An entry out of range or small sizes before large ones; when called, a crop larger than the image.

    >>> views = MultiCrop(((2, 16, (0.3, 1.0)), (4, 8, (0.1, 0.3))))(torch.rand(5, 3, 16, 16), torch.Generator())
    >>> [view.shape[-1] for view in views]
    [16, 16, 8, 8, 8, 8]
    """

    spec: Spec = ((2, 32, (0.3, 1.0)), (4, 20, (0.1, 0.3)))
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        if not self.spec:
            raise ValueError("spec must name at least one crop, got none")
        for count, size, area in self.spec:
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"spec: the number of crops must be a whole number >= 1, got {count} for size {size}")
            two_sides("spec: size", size)
            check_bounds("spec: area", area, above=0, up_to=1)
        sizes = [size for _, size, _ in self.spec]
        if sizes != sorted(sizes, reverse=True):
            raise ValueError(f"spec must go from large crops to small ones, got sizes {sizes}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> list[Float[Tensor, "n c size size"]]:
        """All views, large ones first: uint8 or float (n, c, h, w) to float32 (n, c, size, size) each."""
        return self.with_geometry(images, generator).images

    def with_geometry(self, images: Tensor, generator: torch.Generator) -> Views:
        """The same views as calling gives, with the boxes, flips and angles of each."""
        check_images(images)
        height, width = images.shape[2:]
        largest = max(size for _, size, _ in self.spec)
        if largest > min(height, width):
            raise ValueError(f"spec: crops must fit into the image, got size {largest} for images of {height}x{width}")
        views = [
            replace(self.augment, size=size, area=area).with_geometry(images, generator)
            for count, size, area in self.spec
            for _ in range(count)
        ]
        return Views(
            [view.image for view in views],
            [view.box for view in views],
            [view.flipped for view in views],
            [view.angle for view in views],
        )
