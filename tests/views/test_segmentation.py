"""Images and masks move together."""

import pytest
import torch

from nolabel.views.segmentation import masked_views


def test_masks_are_mirrored_with_their_images():
    masks = torch.randint(0, 200, (32, 6, 5), generator=torch.Generator().manual_seed(0))
    images = masks[:, None].to(torch.uint8)
    views, moved = masked_views(images, masks, jitter=0.0, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(views[:, 0] * 255, moved.float(), atol=1e-3, rtol=0)
    mirrored = (moved != masks).flatten(1).any(dim=1)
    assert 5 < mirrored.sum() < 27
    assert torch.equal(moved[mirrored], masks[mirrored].flip(-1))
    assert torch.equal(masked_views(images, masks, flip=False, jitter=0.0, generator=torch.Generator())[1], masks)


def test_brightness_changes_the_image_alone():
    images, masks = torch.full((16, 3, 4, 4), 0.5), torch.ones(16, 4, 4, dtype=torch.long)
    views, same = masked_views(images, masks, jitter=0.3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(same, masks)
    levels = views[:, 0, 0, 0]
    assert levels.std() > 0.02
    assert 0.35 - 1e-4 <= levels.min() <= levels.max() <= 0.65 + 1e-4


def test_masks_of_another_shape():
    with pytest.raises(ValueError, match=r"masks must be one for each of the images \(2, 1, 4, 4\), got shape"):
        masked_views(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 5), generator=torch.Generator())
