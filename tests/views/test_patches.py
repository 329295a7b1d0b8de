"""Patches from a jittered grid: where they lie, what they share, and what is refused."""

from dataclasses import replace

import pytest
import torch

from nolabel.views import Augment, crop_resize
from nolabel.views.patches import GridPatches

NOTHING = Augment(ratio=(1, 1), flip_p=0, jitter_p=0, grey_p=0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 6, channels: int = 3, side: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (n, channels, side, side), dtype=torch.uint8, generator=seeded(5))


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_of_the_whole_image_are_its_pixels(channels: int) -> None:
    """Side 32, patch 16, jitter 3: the grid's corners are 0, 6 and 12, shifted by 0 to 3 whole pixels."""
    images = pictures(60, channels)
    views = GridPatches(4, 16, area=(1, 1), augment=NOTHING).with_geometry(images, seeded())
    assert len(views.images) == 4
    corners = torch.stack(views.boxes, dim=1)[:, :, :2].round()  # (60, 4, 2)
    for number, patch in enumerate(views.images):
        for row, (y, x) in enumerate(corners[:, number].long().tolist()):
            expected = images[row, :, y : y + 16, x : x + 16].float() / 255
            torch.testing.assert_close(patch[row], expected, atol=1e-5, rtol=0)
    cells, shifts = corners // 6, corners % 6
    cells, shifts = cells.long(), shifts.long()
    assert shifts.unique().tolist() == [0, 1, 2, 3]
    names = cells[..., 0] * 3 + cells[..., 1]
    assert names.unique().tolist() == list(range(9))
    assert all(len(set(chosen)) == 4 for chosen in names.tolist())  # no place of the grid twice


def test_all_nine() -> None:
    views = GridPatches(9, 16, area=(1, 1), jitter=0, augment=NOTHING).with_geometry(pictures(), seeded())
    corners = torch.stack(views.boxes, dim=1)[:, :, :2].round().long()
    grid = {(y, x) for y in (0, 8, 16) for x in (0, 8, 16)}
    assert all({tuple(corner) for corner in image} == grid for image in corners.tolist())


@pytest.mark.parametrize("side", [28, 32, 64, 96])
def test_geometry_reproduces_the_patches(side: int) -> None:
    images = pictures(40, side=side)
    augment = replace(NOTHING, ratio=(3 / 4, 4 / 3), flip_p=0.5)
    views = GridPatches(3, side // 2, augment=augment).with_geometry(images, seeded())
    for patch, box, flipped in zip(views.images, views.boxes, views.flipped, strict=True):
        assert 5 < flipped.sum() < 35
        expected = crop_resize(images, box, side // 2, flipped=flipped)  # refuses boxes outside the image
        torch.testing.assert_close(patch, expected, atol=1e-3, rtol=0)
        share = (box[:, 2:] - box[:, :2]).prod(1) / side**2
        assert share.min() > 0.6 / 4 - 1e-4
        assert share.max() < 1 / 4 + 1e-4


def test_patches_of_an_image_share_crop_colours_and_mirroring() -> None:
    plain = torch.rand(20, 3, 1, 1, generator=seeded(2)).expand(20, 3, 24, 24)
    views = GridPatches(5, 10, augment=Augment()).with_geometry(plain, seeded())
    for patch in views.images:
        torch.testing.assert_close(patch, views.images[0], atol=1e-5, rtol=0)
    assert (views.images[0] - plain[:, :, :10, :10]).abs().mean() > 0.02  # they were changed
    assert all(torch.equal(flipped, views.flipped[0]) for flipped in views.flipped)


def test_everything_but_size_area_and_blur_comes_from_the_recipe() -> None:
    images = pictures(8)
    calm = GridPatches(2, 12, augment=Augment())
    blurred = GridPatches(2, 12, augment=Augment(7, area=(0.1, 0.2), blur_p=1.0, blur_sigma=(5.0, 5.0)))
    for one, other in zip(calm(images, seeded()), blurred(images, seeded()), strict=True):
        assert torch.equal(one, other)
    for patch in GridPatches(2, 12, augment=Augment(grey_p=1.0))(images, seeded()):
        torch.testing.assert_close(patch[:, 0], patch[:, 2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_same_seed_same_patches_bytes_equal_floats_and_range(channels: int) -> None:
    images, patches = pictures(channels=channels), GridPatches(3, 12)
    first = torch.cat(patches(images, seeded(1)))
    assert torch.equal(first, torch.cat(patches(images.float() / 255, seeded(1))))
    assert not torch.equal(first, torch.cat(patches(images, seeded(2))))
    assert first.dtype == torch.float32
    assert first.min() >= 0
    assert first.max() <= 1
    same = pictures(1).expand(30, 3, 32, 32)
    assert len(patches(same, seeded())[0].flatten(1).unique(dim=0)) == 30  # each image has its own
    assert patches(pictures(), seeded())[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"number": 0}, "number of patches must be a whole number from 1 to 9, got 0"),
        ({"number": 10}, "from 1 to 9, got 10"),
        ({"size": 0}, "size must be"),
        ({"size": (4, 4)}, r"size must be one whole number, got \(4, 4\)"),
        ({"area": (0.0, 1.0)}, "area must be"),
        ({"jitter": -0.1}, r"jitter must be a share of the crop's side in \[0, 1\), got -0.1"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GridPatches(**arguments)


def test_patches_larger_than_the_image() -> None:
    with pytest.raises(ValueError, match="patches must fit into the image, got size 30 and jitter 3 for side 32"):
        GridPatches(3, 30)(pictures(), seeded())
    assert GridPatches(3, 29)(pictures(), seeded())[0].shape == (6, 3, 29, 29)
