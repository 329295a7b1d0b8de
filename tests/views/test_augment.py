"""A recipe is the sum of its steps: nothing at zero, each step when it is on, the same on every path through it."""

from dataclasses import replace

import pytest
import torch

import nolabel.views.augment as augment_module
from nolabel.views import (
    Augment,
    MultiCrop,
    adjust_colour,
    byol,
    centred,
    crop_resize,
    grey,
    rotate_by,
    simclr,
    solarise,
    swav,
)
from nolabel.views.fourier import fourier_style
from nolabel.views.recipes import recipe as recipe_named

NOTHING = Augment(area=(1, 1), ratio=(1, 1), flip_p=0, jitter=(0, 0, 0, 0), jitter_p=0, grey_p=0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 6, channels: int = 3, side: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (n, channels, side, side), dtype=torch.uint8, generator=seeded(5))


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_switched_on_is_the_image(channels: int) -> None:
    images = pictures(channels=channels)
    view = NOTHING.with_geometry(images, seeded())
    torch.testing.assert_close(view.image, images.float() / 255, atol=1e-5, rtol=0)
    assert not view.flipped.any()
    assert not view.angle.any()


def test_single_steps_are_the_public_functions() -> None:
    images = pictures()
    as_float = images.float() / 255
    for recipe, expected in (
        (replace(NOTHING, flip_p=1.0), as_float.flip(-1)),
        (replace(NOTHING, grey_p=1.0), grey(images, 1, generator=seeded())),
        (replace(NOTHING, solarise_p=1.0), None),
    ):
        got = recipe(images, seeded())
        if expected is None:  # pixels next to the threshold may fall on either side of it
            clear = (as_float - 0.5).abs() > 1e-3
            got, expected = got[clear], solarise(images, p=1, generator=seeded())[clear]
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    turned = replace(NOTHING, degrees=20.0).with_geometry(images, seeded())
    assert turned.angle.abs().max() > 3
    torch.testing.assert_close(turned.image, rotate_by(images, turned.angle), atol=1e-4, rtol=0)
    blurred = replace(NOTHING, blur_p=1.0, blur_sigma=(50.0, 50.0))(images, seeded())
    flat = as_float.mean((2, 3), keepdim=True).expand_as(as_float)
    torch.testing.assert_close(blurred, flat, atol=0.02, rtol=0)  # so wide a blur leaves the mean


@pytest.mark.parametrize("size", [8, 16, (10, 12)])
def test_geometry_reproduces_the_view(size: int | tuple[int, int]) -> None:
    images = pictures(40)
    view = replace(NOTHING, size=size, area=(0.1, 1.0), ratio=(0.7, 1.5), flip_p=0.5).with_geometry(images, seeded())
    assert 0 < view.flipped.sum() < 40
    expected = crop_resize(images, view.box, size, flipped=view.flipped)
    torch.testing.assert_close(view.image, expected, atol=1e-5, rtol=0)


def test_jitter_and_grey_are_one_adjustment() -> None:
    images = pictures(64)
    recipe = replace(NOTHING, jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=0.8, grey_p=0.3)
    plan = recipe.draw(64, 16, 16, generator=seeded(), device=images.device)
    assert 5 < (plan.saturation == 0).sum() < 35
    expected = adjust_colour(
        images, brightness=plan.brightness, contrast=plan.contrast, saturation=plan.saturation, hue=plan.hue
    )
    torch.testing.assert_close(recipe(images, seeded()), expected, atol=1e-4, rtol=0)


FULL = Augment(12, degrees=10.0, blur_p=0.5, solarise_p=0.2)


@pytest.mark.parametrize("channels", [1, 3])
def test_same_seed_same_views_bytes_equal_floats_and_range(channels: int) -> None:
    images = pictures(20, channels)
    first = FULL(images, seeded(1))
    assert torch.equal(first, FULL(images.float() / 255, seeded(1)))
    assert torch.equal(first, FULL.with_geometry(images, seeded(1)).image)
    assert not torch.equal(first, FULL(images, seeded(2)))
    assert first.dtype == torch.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_each_image_has_its_own_parameters() -> None:
    images = pictures(1).expand(30, 3, 16, 16)
    views = FULL(images, seeded())
    assert len(views.flatten(1).unique(dim=0)) == 30


def test_slices_of_a_batch_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(23)
    whole = FULL(images, seeded())
    monkeypatch.setattr(augment_module, "FLOATS_AT_ONCE", 3 * 16 * 16 * 5)
    torch.testing.assert_close(FULL(images, seeded()), whole, atol=1e-5, rtol=0)
    monkeypatch.setattr(augment_module, "FLOATS_AT_ONCE", 1)
    torch.testing.assert_close(FULL(images, seeded()), whole, atol=1e-5, rtol=0)


def test_batch_of_one() -> None:
    images = pictures(1)
    view = replace(NOTHING, size=12, area=(0.1, 0.5)).with_geometry(images, seeded())
    torch.testing.assert_close(view.image, crop_resize(images, view.box, 12), atol=1e-5, rtol=0)


def test_gradients_reach_the_images() -> None:
    images = torch.rand(4, 3, 16, 16, requires_grad=True)
    FULL(images, seeded()).square().sum().backward()
    assert torch.isfinite(images.grad).all()
    assert (images.grad.abs().sum((1, 2, 3)) > 0).all()


def test_the_input_is_never_written_into() -> None:
    images = torch.rand(8, 3, 16, 16)
    before = images.clone()
    FULL(images, seeded())
    NOTHING(images, seeded())
    assert torch.equal(images, before)


def test_recipes() -> None:
    assert simclr(32).blur_p == 0
    assert simclr(96).jitter == (0.8, 0.8, 0.8, 0.2)
    assert simclr(224).blur_sigma == pytest.approx((0.1, 2.0))
    assert swav(96).area == (0.14, 1.0)
    assert [recipe.blur_p for recipe in byol(64)] == [1.0, 0.1]
    digits = centred(16)
    assert (digits.flip_p, digits.degrees, digits.grey_p) == (0.0, 15.0, 0.0)
    for recipe in (simclr(40), swav(40), *byol(40), centred(40)):
        assert recipe(pictures(3, 1), seeded()).shape == (3, 1, 40, 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be"),
        ({"size": 8.5}, "size must be"),
        ({"area": (0.5, 0.1)}, "area must be"),
        ({"area": (0.5, 1.2)}, "area must be"),
        ({"ratio": (0.0, 1.0)}, "ratio must be"),
        ({"flip_p": 1.5}, "flip_p must be a probability"),
        ({"grey_p": -0.5}, "grey_p must be a probability"),
        ({"degrees": -1.0}, "degrees must be"),
        ({"jitter": (0.4, 0.4, 0.4)}, "jitter must be"),
        ({"jitter": (0.4, 0.4, 0.4, 0.7)}, "hue must be"),
        ({"blur_sigma": (0.0, 1.0)}, "blur_sigma must be"),
    ],
)
def test_bad_recipes(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment(**arguments)


def test_bad_images() -> None:
    with pytest.raises(ValueError, match="c = 1 or 3"):
        FULL(torch.rand(2, 16, 16, 3), seeded())
    with pytest.raises(ValueError, match=r"in \[0, 1\], got values"):
        FULL(torch.rand(2, 3, 16, 16) * 255, seeded())


STYLED = replace(NOTHING, style="batch", style_area=(0.05, 0.3))


def test_batch_style_is_one_image_of_the_batch_in_its_own_crop() -> None:
    images = pictures(12)
    recipe = replace(STYLED, size=10, area=(0.2, 0.8), flip_p=0.5, degrees=15.0)
    view = recipe.with_geometry(images, seeded(3))
    plan = recipe.draw(12, 16, 16, generator=seeded(3), device=images.device)
    assert len(plan.style_row.unique()) == len(plan.style_area.unique()) == 1
    assert torch.equal(view.box, plan.box)
    placed = replace(recipe, style=None)(images, seeded(3))  # the same crops: style is drawn last
    row = int(plan.style_row[0])
    expected = fourier_style(placed, placed[row : row + 1], plan.style_area)
    torch.testing.assert_close(view.image, expected, atol=1e-4, rtol=0)
    assert (view.image - placed).abs().mean() > 0.01


def test_image_style_is_another_image_for_each() -> None:
    images = pictures(30)
    recipe = replace(STYLED, style="image", size=10, area=(0.2, 0.8))
    plan = recipe.draw(30, 16, 16, generator=seeded(3), device=images.device)
    assert len(plan.style_row.unique()) > 10
    assert len(plan.style_area.unique()) == 30
    placed = replace(recipe, style=None)(images, seeded(3))
    expected = fourier_style(placed, placed[plan.style_row], plan.style_area)
    torch.testing.assert_close(recipe(images, seeded(3)), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("style", ["batch", "image"])
def test_styles_survive_the_slices(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(23)
    recipe = replace(FULL, style=style, shared_colour=True)
    whole = recipe(images, seeded())
    monkeypatch.setattr(augment_module, "FLOATS_AT_ONCE", 3 * 16 * 16 * 5)
    torch.testing.assert_close(recipe(images, seeded()), whole, atol=1e-4, rtol=0)
    monkeypatch.setattr(augment_module, "FLOATS_AT_ONCE", 1)
    torch.testing.assert_close(recipe(images, seeded()), whole, atol=1e-4, rtol=0)


def test_shared_colour_is_one_draw_for_the_batch() -> None:
    images = pictures(40)
    recipe = replace(NOTHING, jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=0.5, grey_p=0.3, solarise_p=0.5)
    own = recipe.draw(40, 16, 16, generator=seeded(), device=images.device)
    assert len(own.brightness.unique()) > 10
    assert own.solarised.unique().numel() == 2
    shared = replace(recipe, shared_colour=True)
    greys = set()
    for seed in range(12):
        plan = shared.draw(40, 16, 16, generator=seeded(seed), device=images.device)
        for factor in (plan.brightness, plan.contrast, plan.saturation, plan.hue, plan.solarised):
            assert factor.shape == (40,)
            assert len(factor.unique()) == 1
        assert len(plan.box.unique(dim=0)) == 1  # NOTHING crops nothing
        greys.add(bool(plan.saturation[0] == 0))
    assert greys == {True, False}
    jitter = replace(NOTHING, jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=1.0, shared_colour=True)
    plan = jitter.draw(40, 16, 16, generator=seeded(), device=images.device)
    factors = {name: float(getattr(plan, name)[0]) for name in ("brightness", "contrast", "saturation", "hue")}
    torch.testing.assert_close(jitter(images, seeded()), adjust_colour(images, **factors), atol=1e-4, rtol=0)


def test_style_leaves_other_draws_alone() -> None:
    """What a recipe without style draws is what it drew before there were styles: the same box for the same seed."""
    plain, styled = (
        r.draw(5, 16, 16, generator=seeded(4), device=torch.device("cpu")) for r in (FULL, replace(FULL, style="image"))
    )
    for name in set(plain._fields) - {"style_row", "style_area"}:
        assert torch.equal(getattr(plain, name), getattr(styled, name)), name


@pytest.mark.parametrize("name", ["bss", "fourier"])
def test_named_style_recipes(name: str) -> None:
    made = recipe_named(name, 48, 3)
    assert made == replace(simclr(48), style="batch" if name == "bss" else "image", shared_colour=name == "bss")
    assert recipe_named(name, 28, 1).flip_p == 0.0  # `centred` for grey images
    view = made(pictures(6, 3, 48), seeded())
    assert view.shape == (6, 3, 48, 48)
    assert view.min() >= 0
    assert view.max() <= 1


def test_multi_crop_has_one_style_a_crop() -> None:
    """Amplitudes of all images agree within each crop, small ones included, and differ between crops."""
    images = pictures(6, 1, 24)
    crops = MultiCrop(((2, 24, (0.5, 1.0)), (2, 8, (0.1, 0.3))), replace(STYLED, style_area=(1.0, 1.0), jitter_p=0))
    means = []
    for view in crops(images * 0.2 / 255 + 0.4, seeded()):  # nothing to clip
        mean = view.mean((1, 2, 3))
        torch.testing.assert_close(mean, mean[:1].expand(6), atol=1e-4, rtol=0)
        means.append(float(mean[0]))
    assert len({round(mean, 4) for mean in means}) > 1


def test_bad_styles() -> None:
    with pytest.raises(ValueError, match="style must be None, 'batch' or 'image', got 'all'"):
        Augment(style="all")
    with pytest.raises(ValueError, match="style_area must be"):
        Augment(style_area=(0.0, 0.5))
    with pytest.raises(ValueError, match="at least 2 images to borrow a style from, got 1"):
        STYLED(pictures(1), seeded())
