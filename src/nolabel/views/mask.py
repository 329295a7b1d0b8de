"""Hide square blocks of each image."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nolabel.views.pixels import check_images, to_float
from nolabel.views.sampling import uniform


def block_masks(
    n: int,
    height: int,
    width: int,
    *,
    patch: int,
    ratio: float = 0.15,
    spread: float = 0.1,
    generator: torch.Generator,
    device: torch.device | None = None,
) -> Bool[Tensor, "n h w"]:
    """Choose which blocks of a grid are hidden, anew for each of `n` images.

    An image's share of hidden blocks is uniform in ratio - spread to ratio + spread (cut to [0, 1]), rounded to whole
    blocks; which ones is then uniform. Blocks at the right and bottom are cut off where the grid does not fit.

    Parameters
    ----------
    patch : side of a block in pixels; ratio, spread : the share of blocks and how far it strays either way.

    Returns
    -------
    bool (n, height, width), True where hidden.

    Source: masked student views as in MSN, Assran et al. 2022, arXiv:2204.07141, and BECLR, Poulakakis-Daktylidis and
    Jamali-Rad, ICLR 2024, arXiv:2402.02444.

    >>> block_masks(1, 4, 4, patch=2, ratio=0.5, spread=0, generator=torch.Generator()).sum().item()
    8
    """
    if not isinstance(patch, int) or patch < 1:
        raise ValueError(f"patch must be a whole number of pixels >= 1, got {patch}")
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio must be a share in [0, 1], got {ratio}")
    if not 0 <= spread <= 1:
        raise ValueError(f"spread must be a share in [0, 1], got {spread}")
    device = generator.device if device is None else device
    rows, columns = -(-height // patch), -(-width // patch)
    blocks = rows * columns
    share = uniform(n, (ratio - spread, ratio + spread), generator=generator, device=device).clamp_(0, 1)
    order = uniform(n * blocks, (0.0, 1.0), generator=generator, device=device).view(n, blocks).argsort(dim=1)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(blocks, device=device).expand(n, blocks))
    hidden = (rank < (share * blocks).round()[:, None]).view(n, rows, columns)
    return hidden.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, :height, :width]


def mask_blocks(
    images: Tensor, patch: int, ratio: float = 0.15, spread: float = 0.1, *, generator: torch.Generator
) -> Float[Tensor, "n c h w"]:
    """Set random blocks of each image to 0; see `block_masks` for how they are drawn.

    Parameters
    ----------
    images : uint8 or float in [0, 1], (n, c, h, w).

    Returns
    -------
    float32 (n, c, h, w).

    >>> mask_blocks(torch.ones(1, 3, 8, 8), 4, 0.5, 0, generator=torch.Generator()).mean().item()
    0.5
    """
    check_images(images)
    n, _, height, width = images.shape
    hidden = block_masks(
        n, height, width, patch=patch, ratio=ratio, spread=spread, generator=generator, device=images.device
    )
    return to_float(images).masked_fill(hidden[:, None], 0.0)
