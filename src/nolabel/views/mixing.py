"""Mixup: each image blended with another one of its batch."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nolabel.views.pixels import to_float


class Mixed(NamedTuple):
    """Blended images, and what they are made of.

    Attributes
    ----------
    images : (n, c, h, w) ``share * x_i + (1 - share) * x_partner(i)``
    share : of the image's own pixels, in [0.5, 1]; one for the batch
    partner : (n,) rows of the other images, a permutation
    """

    images: Float[Tensor, "n c h w"]
    share: float
    partner: Int64[Tensor, " n"]


def mixup(images: Tensor, *, alpha: float = 1.0, generator: torch.Generator) -> Mixed:
    """Blend each image of a batch with another one, by a share drawn from Beta(alpha, alpha).

    The larger part is the image's own (``max(share, 1 - share)``), so that it keeps its place. A loss is blended alike:
    ``share * loss(own target) + (1 - share) * loss(target of the partner)``.

    Parameters
    ----------
    images : (n, c, h, w), uint8 or float in [0, 1].
    alpha : at least 0; 0 leaves images as they are, 1 draws every share alike, more blends more.

    Raises
    ------
    ValueError
        alpha below 0 or not finite.

    References
    ----------
    Zhang, Cisse, Dauphin & Lopez-Paz, ICLR 2018, arXiv:1710.09412; the larger share as in MixMatch, Berthelot et al.,
    NeurIPS 2019, arXiv:1905.02249.

    >>> mixed = mixup(torch.rand(4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    >>> 0.5 <= mixed.share <= 1, sorted(mixed.partner.tolist())
    (True, [0, 1, 2, 3])
    """
    if not (alpha >= 0 and np.isfinite(alpha)):
        raise ValueError(f"alpha must be at least 0 and finite, got {alpha}")
    images = to_float(images)
    partner = torch.randperm(len(images), generator=generator, device=generator.device).to(images.device)
    if alpha == 0:
        return Mixed(images, 1.0, partner)
    # torch draws no beta distribution from a generator
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    share = max(share, 1.0 - share)
    return Mixed(images.mul(share).add_(images[partner], alpha=1.0 - share), share, partner)
