"""Low-frequency amplitudes travel, phases stay: against the full spectrum taken apart by hand."""

import math
import re

import numpy as np
import pytest
import torch

import nolabel
from nolabel.learn import SimCLR
from nolabel.training import Training
from nolabel.views import Augment
from nolabel.views.fourier import AREA, BatchStyleStandardize, fourier_style


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(n: int, channels: int = 3, height: int = 16, width: int = 16, seed: int = 3) -> torch.Tensor:
    """Mid grey with some texture, far enough from 0 and 1 that nothing is clipped."""
    noise = torch.rand(n, channels, height, width, generator=seeded(seed))
    return 0.45 + 0.1 * noise


def slow(image: np.ndarray, style: np.ndarray, area: float) -> tuple[np.ndarray, float]:
    """The steps on one channel: shift, replace a centred rectangle of amplitudes, shift back; and what is dropped."""
    height, width = image.shape
    content, look = (np.fft.fftshift(np.fft.fft2(x.astype(np.float64))) for x in (image, style))
    amplitude, phase = np.abs(content), np.angle(content)
    middle_y, middle_x = height // 2, width // 2
    down, across = math.floor(height * math.sqrt(area) / 2), math.floor(width * math.sqrt(area) / 2)
    rows = slice(middle_y - down, middle_y + down + 1)
    columns = slice(middle_x - across, middle_x + across + 1)
    amplitude[rows, columns] = np.abs(look)[rows, columns]
    back = np.fft.ifft2(np.fft.ifftshift(amplitude * np.exp(1j * phase)))
    return back.real, float(np.abs(back.imag).max())


@pytest.mark.parametrize(("height", "width"), [(16, 16), (15, 12), (9, 17)])
@pytest.mark.parametrize("area", [0.005, 0.03, 0.1, 0.3, 0.6])
def test_equals_the_rectangle_of_the_shifted_spectrum(height: int, width: int, area: float) -> None:
    images, styles = photos(3, 1, height, width), photos(3, 1, height, width, seed=8)
    got = fourier_style(images, styles, area)
    for i in range(3):
        expected, dropped = slow(images[i, 0].numpy(), styles[i, 0].numpy(), area)
        assert dropped < 1e-12  # an odd window on frequency 0 keeps the spectrum that of a real image
        np.testing.assert_allclose(got[i, 0].numpy(), expected.clip(0, 1), atol=2e-6)


def test_own_style_changes_nothing_and_the_smallest_window_is_the_mean_colour() -> None:
    images = photos(4)
    torch.testing.assert_close(fourier_style(images, images, 0.3), images, atol=1e-6, rtol=0)
    got = fourier_style(images, photos(1, seed=8) + 0.1, 0.01)  # 16 * 0.1 / 2 = 0.8: frequency 0 alone
    means = (photos(1, seed=8) + 0.1).mean((2, 3), keepdim=True)
    torch.testing.assert_close(got, images - images.mean((2, 3), keepdim=True) + means, atol=1e-6, rtol=0)


def test_the_whole_spectrum_keeps_only_the_phase() -> None:
    images, style = photos(2, 1), photos(1, 1, seed=8)
    got = torch.fft.fft2(fourier_style(images, style, 1.0))
    torch.testing.assert_close(got.abs(), torch.fft.fft2(style).abs().expand_as(got.abs()), atol=1e-3, rtol=1e-3)
    there = torch.fft.fft2(style).abs().expand_as(got.abs()) > 0.05
    turned = torch.angle(got * torch.fft.fft2(images).conj())
    assert turned[there].abs().max() < 0.02


def test_one_area_an_image_and_bytes() -> None:
    images, styles = photos(3), photos(3, seed=8)
    areas = torch.tensor([0.02, 0.2, 0.9])
    together = fourier_style(images, styles, areas)
    for i in range(3):
        alone = fourier_style(images[i : i + 1], styles[i : i + 1], float(areas[i]))
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=0)
    as_bytes = (images * 255).round().to(torch.uint8)
    got = fourier_style(as_bytes, styles, 0.2)
    torch.testing.assert_close(got, fourier_style(as_bytes / 255, styles, 0.2))


def test_flat_images_take_the_mean_colour_and_no_noise() -> None:
    """Where there is no phase there is nothing to hang amplitudes on; black is no exception."""
    flat = torch.stack([torch.zeros(3, 16, 16), torch.full((3, 16, 16), 0.8)])
    style = photos(1)
    got = fourier_style(flat, style, 0.25)
    torch.testing.assert_close(got, style.mean((2, 3), keepdim=True).expand_as(got), atol=1e-5, rtol=0)


def test_result_is_clipped_and_gradients_flow() -> None:
    images = torch.rand(3, 3, 16, 16, generator=seeded(), requires_grad=True)
    got = fourier_style(images, torch.rand(1, 3, 16, 16, generator=seeded(1)), 0.3)
    assert got.min() == 0
    assert got.max() == 1
    got.square().sum().backward()
    assert torch.isfinite(images.grad).all()
    assert (images.grad.abs().sum((1, 2, 3)) > 0).all()


def test_a_view_has_one_style_and_another_has_another() -> None:
    """With the whole spectrum taken, every image of a view has the same amplitudes, those of one row of the batch."""
    images = photos(6, 1)
    step = BatchStyleStandardize(area=(1.0, 1.0), jitter=None)
    own = torch.fft.rfft2(images).abs()
    rows = set()
    for view in step.views(images, 5, seeded()):
        amplitude = torch.fft.rfft2(view).abs()
        distance = (amplitude[:, None] - own[None]).flatten(2).abs().amax(2)  # (6, 6)
        assert len(set(distance.argmin(1).tolist())) == 1
        assert distance.min(1).values.max() < 1e-2
        rows.add(int(distance[0].argmin()))
    assert len(rows) > 1


def test_given_styles() -> None:
    images, look, generator = photos(5), photos(1, seed=8)[0], seeded()

    def with_style(style, given):
        return BatchStyleStandardize((0.2, 0.2), style, jitter=None)(given, generator)

    torch.testing.assert_close(with_style(look, images), fourier_style(images, look[None], 0.2))
    fourth = with_style(3, images)
    torch.testing.assert_close(fourth, fourier_style(images, images[3:4], 0.2))
    torch.testing.assert_close(fourth[3], images[3], atol=1e-6, rtol=0)
    single = with_style(look, images[:1])  # nothing to borrow is needed
    torch.testing.assert_close(single, fourier_style(images[:1], look[None], 0.2))
    assert torch.equal(with_style(3, list(images)), fourth)


def test_area_is_drawn_once_a_view_within_its_bounds_and_follows_the_generator() -> None:
    images, step = photos(4, 1, 32, 32), BatchStyleStandardize(style=0, jitter=None)
    content, look = torch.fft.rfft2(images).abs(), torch.fft.rfft2(images[:1]).abs()
    reaches = set()
    for view in step.views(images, 12, seeded()):
        changed = (torch.fft.rfft2(view).abs() - content).abs()[1:] > 1e-3 * look  # (3, 1, 32, 17)
        reach = [int(c[0].any(0).nonzero().max()) for c in changed]
        assert len(set(reach)) == 1
        reaches.add(reach[0])
    assert min(reaches) >= math.floor(32 * math.sqrt(AREA[0]) / 2)
    assert max(reaches) <= math.floor(32 * math.sqrt(AREA[1]) / 2)
    assert len(reaches) > 2
    first, again = (BatchStyleStandardize()(images, seeded(2)) for _ in range(2))
    assert torch.equal(first, again)


def test_jitter_is_one_for_the_batch_or_each_images_own() -> None:
    """Copies of one image stay copies of each other in the first case alone; across views both change."""
    copies = photos(1).expand(8, -1, -1, -1)
    for jitter, alike in (("batch", True), ("image", False), (None, True)):
        views = BatchStyleStandardize(style=0, jitter=jitter).views(copies, 6, seeded())
        spread = [float((view - view[:1]).abs().max()) for view in views]
        assert (max(spread) < 1e-5) == alike
        changed = max(float((view - copies).abs().max()) for view in views)
        assert (changed > 0.02) == (jitter is not None)  # the style is the images' own


def test_a_share_of_the_views_takes_a_look() -> None:
    images = photos(4)
    step = BatchStyleStandardize(style=photos(1, seed=8)[0] + 0.2, p=0.5, jitter=None)
    taken = [bool((view - images).abs().max() > 1e-3) for view in step.views(images, 40, seeded())]
    assert 8 < sum(taken) < 32
    never = BatchStyleStandardize(p=0.0, jitter=None)
    assert torch.equal(never(images, seeded()), images)


def test_exchange_before_or_after_the_geometry() -> None:
    """Cropping to the left half: what is borrowed is the look of the whole row, or of its left half."""
    images = photos(3, 1)
    images[1, :, :, 8:] += 0.3

    def left(batch, generator):
        return batch[..., :8]

    settings = {"area": (0.2, 0.2), "style": 1, "jitter": None, "geometry": left}
    before = BatchStyleStandardize(where="before", **settings)(images, seeded())
    torch.testing.assert_close(before, fourier_style(images, images[1:2], 0.2)[..., :8])
    after = BatchStyleStandardize(where="after", **settings)(images, seeded())
    torch.testing.assert_close(after, fourier_style(images[..., :8], images[1:2, ..., :8], 0.2))
    assert (before[0].mean() - after[0].mean()).abs() > 0.05


def test_without_clipping_pixels_may_lie_anywhere() -> None:
    """A spectrum scales with its image, and each coefficient keeps its own sign, the mean too."""
    images, style = photos(3), photos(1, seed=8)
    wide = fourier_style(images * 8, style * 8, 0.3, clip=False)
    torch.testing.assert_close(wide, 8 * fourier_style(images, style, 0.3), atol=1e-5, rtol=0)
    assert wide.max() > 1
    negative = fourier_style(-images, style, 0.3, clip=False)
    torch.testing.assert_close(negative, -fourier_style(images, style, 0.3), atol=1e-5, rtol=0)
    steep = torch.stack([torch.cat([torch.zeros(3, 16, 8), torch.ones(3, 16, 8)], 2)] * 2)
    dark = style - 0.4
    assert fourier_style(steep, dark, 0.3, clip=False).min() < -0.01
    assert fourier_style(steep, dark, 0.3).min() >= 0
    step = BatchStyleStandardize(area=(0.3, 0.3), style=style[0] * 8, jitter=None, clip=False)
    torch.testing.assert_close(step(images * 8, seeded()), wide)


def test_other_integers_are_converted_and_said() -> None:
    as_bytes = (photos(2) * 255).round().to(torch.uint8)
    for dtype in (torch.int64, torch.int16):
        with pytest.warns(UserWarning, match=f"images: {dtype} pixels are taken as 0 to 255"):
            got = fourier_style(as_bytes.to(dtype), photos(1), 0.1)
        assert torch.equal(got, fourier_style(as_bytes, photos(1), 0.1))
    with pytest.raises(ValueError, match="images: integer pixels must lie from 0 to 255, got 0 to 300"):
        fourier_style(torch.tensor([0, 300]).view(2, 1, 1, 1), photos(1, 1, 1, 1), 0.1)
    with pytest.raises(TypeError, match=r"uint8 or floating in \[0, 1\], got torch.bool"):
        fourier_style(torch.ones(2, 1, 4, 4, dtype=torch.bool), photos(1, 1, 4, 4), 0.1)


def test_as_views_of_a_learner_it_is_saved_with_it(digits, tmp_path) -> None:
    look = BatchStyleStandardize(geometry=Augment(16, jitter_p=0.0, grey_p=0.0, flip_p=0.0), where="before")
    training = Training(steps=2, batch_size=16)
    learner = SimCLR("resnet10-x0.125", augment=look, negatives="same_view", image_size=16, training=training)
    learner.fit(digits[0][:48]).save(tmp_path)
    loaded = nolabel.load(tmp_path)
    assert loaded.augment == look
    assert np.array_equal(loaded.transform(digits[0][:48]), learner.transform(digits[0][:48]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: fourier_style(photos(2), photos(1, 3, 16, 12), 0.1),
            r"style must have shape \(1, 3, 16, 16\) or \(2, 3",
        ),
        (lambda: fourier_style(photos(3), photos(2), 0.1), r"got \(2, 3, 16, 16\)"),
        (lambda: fourier_style(photos(2), photos(1), 0.0), r"area must lie in \(0, 1\], got \[0.0\]"),
        (lambda: fourier_style(photos(2), photos(1), 1.5), r"area must lie in \(0, 1\]"),
        (lambda: fourier_style(photos(2), photos(1), torch.ones(3)), r"area must be a number or shape \(2,\)"),
        (
            lambda: fourier_style(photos(2) * 4, photos(1), 0.1),
            "images: .* styles are exchanged before pixels are normal",
        ),
        (lambda: fourier_style(photos(2), photos(1) - 1, 0.1), "style: .* before pixels are normalised"),
        (lambda: fourier_style(torch.full((2, 1, 4, 4), torch.nan), photos(1, 1, 4, 4), 0.1), "got values from nan"),
        (lambda: BatchStyleStandardize(area=(0.0, 0.2)), "area must be"),
        (lambda: BatchStyleStandardize(area=(0.2, 1.2)), "area must be"),
        (lambda: BatchStyleStandardize(style="any"), "style must be 'random', a row number or an image"),
        (lambda: BatchStyleStandardize(p=1.5), r"p must be a probability in \[0, 1\], got 1.5"),
        (lambda: BatchStyleStandardize(jitter="view"), "jitter must be 'batch', 'image' or None, got 'view'"),
        (lambda: BatchStyleStandardize(where="inside"), "where must be 'after' or 'before', got 'inside'"),
        (lambda: BatchStyleStandardize(clip=False), "clip must be True with jitter='batch'"),
        (
            lambda: fourier_style(torch.full((2, 1, 4, 4), torch.nan), photos(1, 1, 4, 4), 0.1, clip=False),
            "images must be finite, got NaN or infinity",
        ),
        (
            lambda: BatchStyleStandardize(geometry=lambda x, g: x * 9)(photos(2), seeded()),
            r"what geometry returns: floating images must lie in \[0, 1\]",
        ),
        (lambda: BatchStyleStandardize()(photos(1), seeded()), "at least 2 images to borrow a style from, got 1"),
        (lambda: BatchStyleStandardize(style=4)(photos(4), seeded()), "style must be a row from 0 to 3, got 4"),
        (
            lambda: BatchStyleStandardize().views(photos(4), 0, seeded()),
            "n must be a whole number of views >= 1, got 0",
        ),
        (
            lambda: BatchStyleStandardize()([photos(1)[0], photos(1, 3, 8, 8)[0]], seeded()),
            r"one size \(c, h, w\), got \(3, 16, 16\), \(3, 8, 8\)",
        ),
    ],
)
def test_bad_input(call, message) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert not re.search("\n", str(caught.value))
