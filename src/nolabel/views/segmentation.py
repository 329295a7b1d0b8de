"""Views of images that carry a mask: what moves the image moves the mask alike."""

import torch
from jaxtyping import Float
from torch import Tensor

from nolabel.views.colour import colour_jitter
from nolabel.views.flip import random_flip


def masked_views(
    images: Tensor, masks: Tensor, *, flip: bool = True, jitter: float = 0.2, generator: torch.Generator
) -> tuple[Float[Tensor, "n c h w"], Tensor]:
    """Mirror half of the images left to right with their masks, and change brightness and contrast a little.

    Parameters
    ----------
    images : uint8 or float in [0, 1], (n, c, h, w)
    masks : (n, h, w)
    flip : False where left and right differ in meaning, as in the body
    jitter : factors of brightness and contrast are drawn in [1 - jitter, 1 + jitter]

    >>> views, masks = masked_views(
    ...     torch.rand(2, 1, 4, 4), torch.zeros(2, 4, 4), jitter=0.0, generator=torch.Generator().manual_seed(0)
    ... )
    >>> views.shape, masks.shape
    (torch.Size([2, 1, 4, 4]), torch.Size([2, 4, 4]))
    """
    if masks.shape != (len(images), *images.shape[2:]):
        raise ValueError(
            f"masks must be one for each of the images {tuple(images.shape)}, got shape {tuple(masks.shape)}"
        )
    views, flipped = random_flip(images, 0.5 if flip else 0.0, generator=generator)
    masks = torch.where(flipped[:, None, None], masks.flip(-1), masks)
    return colour_jitter(views, jitter, jitter, 0.0, 0.0, p=1.0, generator=generator), masks
