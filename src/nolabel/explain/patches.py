"""Square patches of images, each brought to the size of an image."""

import torch
from torch import Tensor

from nolabel.assess.inputs import as_count


def crops(images: Tensor, patch_size: int | None) -> Tensor:
    """Square patches of images (n, c, h, w), every 0.8 of their side, brought to the images' size: (n * patches, c, h, w).

    >>> crops(torch.rand(2, 1, 10, 10), 5).shape
    torch.Size([8, 1, 10, 10])
    """
    if images.ndim != 4:
        raise ValueError(f"X: spatial='crops' cuts images (n, c, h, w), got shape {tuple(images.shape)}")
    side = as_count(
        patch_size, "patch_size", low=2, high=min(images.shape[2:]), why=f"images of {tuple(images.shape[2:])}"
    )
    step = max(1, int(0.8 * side))
    patches = images.unfold(2, side, step).unfold(3, side, step)  # (n, c, rows, columns, side, side)
    cut = patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    large = torch.nn.functional.interpolate(cut.float(), size=images.shape[2:], mode="bilinear", align_corners=False)
    return large if images.is_floating_point() else large.round().to(images.dtype)
