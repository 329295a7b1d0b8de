"""Give images the look of another: the low-frequency amplitudes of its spectrum.

An image's phase says where things are; the amplitudes of its lowest frequencies say little more than how it was taken:
tint, contrast, shading. Exchanging them alone turns one look into another (Yang and Soatto, CVPR 2020,
arXiv:2004.05498). Batch styles standardisation exchanges them for a whole batch at once: in each view every image has
the look of one image of the batch, drawn anew for the next view. Within a view nothing can then be told apart by its
look, and across views the look of an image changes.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nolabel.views.colour import ColourFactors, draw_factors, mix
from nolabel.views.pixels import to_float
from nolabel.views.sampling import check_bounds, check_probability, chosen, uniform

AREA = (0.01, 0.25)  # bounds of the window's share of the spectrum
ROUNDING = 1e-6  # amplitudes below this a pixel are rounding errors, and so are their phases
#: What a method says that passes one view at a time through its encoder.
ONE_STYLE = (
    "augment gives all images of a view one style, and {method} passes views through its encoder one at a time: batch norm "
    "then removes the style in training but not afterwards; take augment='fourier', or SimCLR, SwAV or MSN"
)
JITTER, JITTER_P, GREY_P = (0.4, 0.4, 0.4, 0.1), 0.8, 0.2  # as `Augment` has them


def amplitudes(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h half"]:
    """Amplitude of each frequency: all of them downwards, the non-negative half across (the rest is its mirror)."""
    return torch.fft.rfft2(images.float()).abs()


def restyle(
    images: Float[Tensor, "n c h w"],
    amplitude: Float[Tensor, "m c h half"],
    area: Float[Tensor, " n"],
    clip: bool = True,
) -> Float[Tensor, "n c h w"]:
    """`fourier_style` on what was checked before, from the amplitudes of one style (m = 1) or one an image (m = n)."""
    height, width = images.shape[2:]
    spectrum = torch.fft.rfft2(images.float())
    down = torch.fft.fftfreq(height, 1 / height, device=images.device).abs()  # 0, 1, ..., 2, 1
    across = torch.arange(width // 2 + 1, device=images.device)
    # From -reach to reach: always an odd number of frequencies with its mirror image, so the inverse is real.
    reach = area.sqrt()[:, None, None] / 2
    window = (down[:, None] <= (reach * height).floor()) & (across <= (reach * width).floor())  # (n, h, half)
    own = spectrum.abs()
    has_phase = window[:, None] & (own > ROUNDING * height * width)
    gain = torch.where(has_phase, amplitude / torch.where(has_phase, own, 1), 1)
    flat = torch.zeros_like(has_phase)
    flat[..., 0, 0] = ~has_phase[..., 0, 0]  # a mean of 0 has phase 0, as that of any pixels that are not negative
    spectrum = torch.where(flat, amplitude.to(spectrum.dtype), spectrum * gain)
    restyled = torch.fft.irfft2(spectrum, s=(height, width))
    return restyled.clamp(0, 1) if clip else restyled


def draw_styles(
    n: int, area: tuple[float, float], *, shared: bool, generator: torch.Generator, device: torch.device
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """For each of `n` images the row it takes its look from and the area of the window; one draw for all if `shared`."""
    if n < 2:
        raise ValueError(f"a batch must hold at least 2 images to borrow a style from, got {n}")
    draws = 1 if shared else n
    row = uniform(draws, (0.0, float(n)), generator=generator, device=device).long().clamp(max=n - 1)
    return row.expand(n), uniform(draws, area, generator=generator, device=device).expand(n)


def fourier_style(
    images: Tensor, style: Tensor, area: float | Float[Tensor, " n"], *, clip: bool = True
) -> Float[Tensor, "n c h w"]:
    """Give each image the low-frequency amplitudes of a style image; its own phases stay.

    The window is centred on frequency 0 and reaches ``floor(side * sqrt(area) / 2)`` to either side along each axis: an
    odd number of frequencies, 1 (the mean colour alone) to all. A coefficient of 0 has no phase and stays 0, save the
    mean.

    Parameters
    ----------
    images : uint8 or float in [0, 1], (n, c, h, w), before any normalisation by mean and deviation. Other integers are
        taken as 0 to 255, with a warning.
    style : (1, c, h, w) for all images, or (n, c, h, w).
    area : share of the spectrum that is exchanged, in (0, 1]; a number or one an image (n,). Large shares leave little
        but edges.
    clip : bring pixels back to [0, 1], which the exchange may leave. False: they are left, and any finite floats come in.

    Returns
    -------
    float32 (n, c, h, w), in [0, 1] if `clip`.

    Raises
    ------
    TypeError, ValueError
        Shapes that do not match, an area out of range, values outside [0, 1] (with `clip`), NaN.

    References
    ----------
    Yang and Soatto, CVPR 2020, arXiv:2004.05498; Xu et al., CVPR 2021, arXiv:2105.11120.

    >>> dark, bright = torch.full((1, 1, 8, 8), 0.25), torch.full((1, 1, 8, 8), 0.75)
    >>> fourier_style(dark, bright, 0.01).unique()
    tensor([0.7500])
    """
    content, look = _pixels("images", images, clip), _pixels("style", style, clip)
    n = len(content)
    if look.shape[1:] != content.shape[1:] or len(look) not in (1, n):
        expected = " or ".join(str((m, *content.shape[1:])) for m in dict.fromkeys((1, n)))
        raise ValueError(f"style must have shape {expected}, as the images, got {tuple(look.shape)}")
    shares = torch.as_tensor(area, dtype=torch.float32, device=content.device)
    if shares.shape not in ((), (n,)):
        raise ValueError(f"area must be a number or shape ({n},), got shape {tuple(shares.shape)}")
    if not bool(((shares > 0) & (shares <= 1)).all()):
        raise ValueError(f"area must lie in (0, 1], got {shares.flatten().tolist()[:4]}")
    return restyle(content, amplitudes(look), shares.expand(n), clip)


def _pixels(name: str, images: Tensor, clip: bool = True) -> Tensor:
    """`to_float`, with a word on the usual reason for values outside [0, 1]; without `clip` these pass."""
    if isinstance(images, Tensor) and images.dtype in (torch.int8, torch.int16, torch.int32, torch.int64):
        low, high = (int(bound) for bound in images.aminmax()) if images.numel() else (0, 0)
        if low < 0 or high > 255:
            raise ValueError(f"{name}: integer pixels must lie from 0 to 255, got {low} to {high}")
        warnings.warn(f"{name}: {images.dtype} pixels are taken as 0 to 255", stacklevel=3)
        images = images.to(torch.uint8)
    if not clip and isinstance(images, Tensor) and images.is_floating_point() and images.ndim == 4:
        if not bool(torch.isfinite(images).all()):
            raise ValueError(f"{name} must be finite, got NaN or infinity")
        return images.float()
    try:
        return to_float(images)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; styles are exchanged before pixels are normalised") from None


@dataclass(frozen=True)
class BatchStyleStandardize:
    """Views in each of which the whole batch has one look, that of one of its images, and one draw of the colours.

    For pipelines of one's own, or as a learner's ``augment``: ``"bss"`` there is `Augment` with ``style="batch"``, the same
    with the exchange after cropping. It has to see the whole batch, so it cannot stand in a data loader's workers, which
    see single images. Encode all views in ONE forward pass: in a pass of its own, a view's look is removed by batch norm
    while training and comes back at test time.

    Parameters
    ----------
    area : bounds of the window's share of the spectrum, of which one is drawn a view.
    style : ``"random"``, the row of the batch to take the look from, or a style image (c, h, w).
    jitter : draw colour jitter and loss of colour once for the ``"batch"``, for each ``"image"``, or not at all: None.
    p : probability that a view takes a look at all.
    geometry : crops and flips, ``(images, generator) -> images``, such as ``Augment(32, jitter_p=0, grey_p=0)``; None leaves
        images whole.
    where : exchange ``"after"`` or ``"before"`` the geometry.
    clip : bring pixels back to [0, 1], which the exchange may leave; the jitter always does.

    Raises
    ------
    ValueError
        A parameter out of range; when called: a row that is not there, a single image to borrow from, images of different
        sizes, values outside [0, 1] (with `clip`).

    References
    ----------
    Scalbert, Vakalopoulou and Couzinié-Devy, ICLR 2024, arXiv:2303.06088.

    >>> images, generator = torch.rand(6, 3, 16, 16), torch.Generator().manual_seed(0)
    >>> [view.shape for view in BatchStyleStandardize().views(images, 2, generator)]
    [torch.Size([6, 3, 16, 16]), torch.Size([6, 3, 16, 16])]
    """

    area: tuple[float, float] = AREA
    style: Literal["random"] | int | Tensor = "random"
    jitter: Literal["batch", "image"] | None = "batch"
    p: float = 1.0
    geometry: Callable[[Tensor, torch.Generator], Tensor] | None = None
    where: Literal["after", "before"] = "after"
    clip: bool = True

    def __post_init__(self) -> None:
        check_bounds("area", self.area, above=0, up_to=1)
        check_probability("p", self.p)
        known = isinstance(self.style, int | Tensor) and not isinstance(self.style, bool)
        if not known and self.style != "random":
            raise ValueError(f"style must be 'random', a row number or an image (c, h, w), got {self.style!r}")
        if self.jitter not in (None, "batch", "image"):
            raise ValueError(f"jitter must be 'batch', 'image' or None, got {self.jitter!r}")
        if self.where not in ("after", "before"):
            raise ValueError(f"where must be 'after' or 'before', got {self.where!r}")
        if self.jitter and not self.clip:
            raise ValueError(
                f"clip must be True with jitter={self.jitter!r}, which works on pixels in [0, 1]; got False"
            )

    def __call__(self, images: Tensor | Sequence[Tensor], generator: torch.Generator) -> Float[Tensor, "n c h w"]:
        """One view: uint8 or float (n, c, h, w), or a list of (c, h, w), to float32 (n, c, h, w)."""
        view = _pixels("images", images if isinstance(images, Tensor) else _stacked(images), self.clip)
        if self.where == "before":
            view = self._exchanged(view, generator)
        if self.geometry is not None:
            view = _pixels("what geometry returns", self.geometry(view, generator), self.clip)
        if self.where == "after":
            view = self._exchanged(view, generator)
        return view if self.jitter is None else self._jittered(view, generator)

    def views(
        self, images: Tensor | Sequence[Tensor], n: int, generator: torch.Generator
    ) -> list[Float[Tensor, "b c h w"]]:
        """`n` views of the batch, each with a look of its own."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n must be a whole number of views >= 1, got {n!r}")
        return [self(images, generator) for _ in range(n)]

    def _exchanged(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """The batch with one look."""
        n, device = len(batch), batch.device
        if isinstance(self.style, Tensor):
            area = uniform(1, self.area, generator=generator, device=device)
            look = self.style[None].to(device)
        else:
            rows, area = draw_styles(n, self.area, shared=True, generator=generator, device=device)
            row = int(rows[0]) if self.style == "random" else self.style
            if not 0 <= row < n:
                raise ValueError(f"style must be a row from 0 to {n - 1}, got {row}")
            look = batch[row : row + 1]
        if not bool(chosen(1, self.p, generator=generator, device=device)):
            return batch
        return fourier_style(batch, look, area[:1].expand(n), clip=self.clip)

    def _jittered(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """The batch in other colours, the same or each image's own."""
        n, draws = len(batch), 1 if self.jitter == "batch" else len(batch)
        factors = draw_factors(draws, JITTER, JITTER_P, generator=generator, device=batch.device)
        grey = chosen(draws, GREY_P, generator=generator, device=batch.device)
        factors = factors._replace(saturation=factors.saturation.masked_fill(grey, 0.0))
        return mix(batch, ColourFactors(*(factor.expand(n) for factor in factors)))


def has_one_style(view: object) -> bool:
    """Whether a recipe of views gives all images of a view one style, so that batch norm must see two views at a time.

    >>> has_one_style(BatchStyleStandardize()), has_one_style(lambda images, generator: images)
    (True, False)
    """
    return isinstance(view, BatchStyleStandardize) or getattr(view, "style", None) == "batch"


def _stacked(images: Sequence[Tensor]) -> Tensor:
    sizes = list(dict.fromkeys(tuple(image.shape) for image in images))
    if len(sizes) != 1:
        shown = ", ".join(map(str, sizes[:4])) or "no image"
        raise ValueError(f"images of a batch must have one size (c, h, w), got {shown}")
    return torch.stack(list(images))
