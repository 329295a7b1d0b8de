import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from nolabel.views.rand_augment import OPERATIONS, RandAugment, affine, autocontrast, equalise, posterise, sharpen
from nolabel.views.rotation import rotate_by


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def batch():
    """Four smooth colour images with unlike histograms, uint8."""
    low = torch.rand(4, 3, 4, 4, generator=generator(7)) ** torch.tensor([0.5, 1.0, 2.0, 4.0])[:, None, None, None]
    smooth = torch.nn.functional.interpolate(low, size=(20, 24), mode="bicubic").clamp(0, 1)
    return (smooth * 200 + 20).byte()


def by_pillow(batch, change):
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in batch]
    changed = np.stack([np.asarray(change(picture)) for picture in pictures])
    return torch.from_numpy(changed).permute(0, 3, 1, 2)


def bytes_of(images):
    return (images * 255).round().int()


def test_equalise_and_autocontrast_are_pillows(batch):
    assert torch.equal(bytes_of(equalise(batch / 255)), by_pillow(batch, ImageOps.equalize).int())
    difference = bytes_of(autocontrast(batch / 255)) - by_pillow(batch, ImageOps.autocontrast).int()
    assert difference.abs().max() <= 1  # Pillow cuts decimals off


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_posterise_is_pillows(batch, bits):
    expected = by_pillow(batch, lambda picture: ImageOps.posterize(picture, bits)).int()
    assert torch.equal(bytes_of(posterise(batch / 255, torch.full((4,), bits))), expected)


@pytest.mark.parametrize("factor", [0.1, 1.0, 1.9])
def test_sharpness_is_pillows(batch, factor):
    expected = by_pillow(batch, lambda picture: ImageEnhance.Sharpness(picture).enhance(factor)).int()
    assert (bytes_of(sharpen(batch / 255, torch.full((4,), factor))) - expected).abs().max() <= 1


def test_constant_images_stay():
    flat = torch.full((2, 3, 6, 6), 0.4)
    for name in ("autocontrast", "equalise", "sharpness", "rotate", "shear down", "shift across"):
        torch.testing.assert_close(OPERATIONS[name](flat, torch.tensor([1.0, -0.5])), flat, atol=2e-3, rtol=0)


def test_each_image_has_its_own_amount(batch):
    images, amount = batch / 255, torch.tensor([1.0, -0.3, 0.0, 0.6])
    for name, operation in OPERATIONS.items():
        together = operation(images, amount)
        for i in range(4):
            alone = operation(images[i : i + 1], amount[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, msg=name)


def test_no_strength_changes_nothing(batch):
    images = batch / 255
    for name in OPERATIONS.keys() - {"autocontrast", "equalise"}:
        torch.testing.assert_close(OPERATIONS[name](images, torch.zeros(4)), images, atol=2e-3, rtol=0, msg=name)


def test_shift_by_whole_pixels():
    image = torch.arange(20.0).view(1, 1, 2, 10) / 20
    shifted = affine(image, shift=(torch.tensor([0.2]), 0.0))
    torch.testing.assert_close(shifted[..., 2:], image[..., :-2])
    torch.testing.assert_close(shifted[..., :2], image[..., [1, 0]])  # mirrored
    torch.testing.assert_close(affine(image.mT, shift=(0.0, 0.2)).mT, shifted)


def test_shear_moves_rows_by_their_height():
    """Row y, h rows above the centre, shows the source s h pixels to the side."""
    ramp = torch.arange(41.0).expand(1, 1, 11, 41) / 41
    sheared = affine(ramp, shear=(0.5, 0.0))
    for row in range(11):
        moved = (sheared[0, 0, row, 15:26] - ramp[0, 0, row, 15:26]) * 41
        torch.testing.assert_close(moved, torch.full((11,), 0.5 * (row - 5)), atol=1e-3, rtol=0)
    torch.testing.assert_close(affine(ramp.mT, shear=(0.0, 0.5)).mT, sheared)


def test_strongest_amounts(batch):
    images = batch / 255
    one = torch.ones(4)
    torch.testing.assert_close(OPERATIONS["solarise"](images, -one), 1 - images)
    torch.testing.assert_close(OPERATIONS["rotate"](images, one), rotate_by(images, 30 * one))
    assert bytes_of(OPERATIONS["posterise"](images, one)).remainder(16).max() == 0
    half = OPERATIONS["solarise"](images, 0.5 * one)
    torch.testing.assert_close(half, torch.where(images >= 0.5, 1 - images, images))


def test_every_operation_is_applied_to_the_rows_that_drew_it(batch):
    images = (batch / 255).repeat(20, 1, 1, 1)
    once = RandAugment(operations=1)
    choice, amount = once.draw(80, generator=generator(3), device=images.device)
    seen = once(images, generator(3))
    for i in range(80):
        operation = list(OPERATIONS.values())[choice[i]]
        expected = operation(images[i : i + 1], amount[i : i + 1]).clamp(0, 1)
        torch.testing.assert_close(seen[i : i + 1], expected)


def test_draws():
    choice, amount = RandAugment(magnitude=6, spread=1).draw(20000, generator=generator(), device=torch.device("cpu"))
    shares = torch.bincount(choice, minlength=14) / 20000
    assert len(shares) == len(OPERATIONS) == 14
    assert (shares - 1 / 14).abs().max() < 0.01
    assert float((amount > 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(amount.abs().mean()) == pytest.approx(0.6, abs=0.005)
    assert float(amount.abs().std()) == pytest.approx(0.1, abs=0.005)
    _, capped = RandAugment().draw(20000, generator=generator(), device=torch.device("cpu"))
    assert capped.abs().max() <= 1
    assert float(capped.abs().mean()) == pytest.approx(1 - 0.05 / math.sqrt(2 * math.pi), abs=0.002)


def test_same_generator_same_views_and_input_untouched(batch):
    images = batch / 255
    before = images.clone()
    recipe = RandAugment()
    assert torch.equal(recipe(images, generator(1)), recipe(batch, generator(1)))
    assert not torch.equal(recipe(images, generator(1)), recipe(images, generator(2)))
    assert torch.equal(images, before)
    grey = recipe(batch[:, :1].repeat(8, 1, 1, 1), generator())
    assert grey.shape == (32, 1, 20, 24)
    assert grey.min() >= 0
    assert grey.max() <= 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"operations": 0}, "operations must be a whole number >= 1, got 0"),
        ({"magnitude": 11}, r"magnitude must lie in \[0, 10\], got 11"),
        ({"spread": -1}, "spread must be a standard deviation >= 0, got -1"),
    ],
)
def test_bad_input(params, message):
    with pytest.raises(ValueError, match=message):
        RandAugment(**params)
