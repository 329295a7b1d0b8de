import pytest
import torch

from nolabel.views import Augment, clip_augment, play, speed_views
from nolabel.views.clips import clip_floats, half

PLAIN = {"area": (1.0, 1.0), "ratio": (1.0, 1.0), "flip_p": 0.0, "jitter_p": 0.0, "grey_p": 0.0}


def clips(n=3, t=4, side=12, seed=0):
    return torch.randint(
        0, 256, (n, t, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_play_by_hand():
    frames = torch.arange(20).view(2, 10)
    assert play(frames, 1, 3).tolist() == [[0, 1, 2], [10, 11, 12]]
    assert play(frames, 3, 4).tolist() == [[0, 3, 6, 9], [10, 13, 16, 19]]
    assert play(frames, torch.tensor([1, 2]), 3).tolist() == [[0, 1, 2], [10, 12, 14]]


@pytest.mark.parametrize("speed", [0, -1, 1.5, torch.tensor([1, 0]), torch.tensor([1, 1, 1])])
def test_play_refuses_speeds(speed):
    with pytest.raises(ValueError, match="speed must be a whole number of at least 1"):
        play(torch.zeros(2, 10), speed, 3)


def test_play_refuses_clips_that_are_too_short():
    with pytest.raises(ValueError, match="4 frames at speed 3 need 10 frames, got 9"):
        play(torch.zeros(2, 9), 3, 4)


def test_half_is_exactly_a_half_and_random():
    for n in (4, 7):
        drawn = torch.stack([half(n, generator=seeded(s), device=torch.device("cpu")) for s in range(50)])
        assert (drawn.sum(dim=1) == n // 2).all()
        assert drawn.any(dim=0).all()
        assert not drawn.all(dim=0).any()


def test_speed_views_by_hand():
    first, second = torch.arange(8).expand(2, 8), 100 + torch.arange(8).expand(2, 8)
    query, same, other = speed_views(first, second, torch.tensor([False, True]), 2, 4)
    assert query.tolist() == [[0, 1, 2, 3], [0, 2, 4, 6]]
    assert same.tolist() == [[100, 101, 102, 103], [100, 102, 104, 106]]
    assert other.tolist() == [[100, 102, 104, 106], [100, 101, 102, 103]]


def test_floats_have_channels_before_time():
    given = clips()
    out = clip_floats(given)
    assert out.shape == (3, 3, 4, 12, 12)
    torch.testing.assert_close(out[1, 2, 3], given[1, 3, 2].float() / 255)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": 8},
        {"degrees": 20.0, "shift": 0.1, "zoom": (1.0, 1.2)},
        {"blur_p": 0.5, "solarise_p": 0.5, "blur_sigma": (0.5, 1.0)},
    ],
)
def test_all_frames_get_one_view(options):
    """Where all frames are alike, all frames of a view are; and the clips of a batch differ."""
    still = clips(t=1).expand(-1, 5, -1, -1, -1)
    views = clip_augment(still, Augment(jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, **options), seeded())
    torch.testing.assert_close(views, views[:, :, :1].expand_as(views))
    alike = clip_augment(still[:1].expand(6, -1, -1, -1, -1), Augment(jitter_p=1.0, **options), seeded())
    assert (alike[0] - alike[1:]).abs().amax(dim=(1, 2, 3, 4)).min() > 0.01


def test_the_view_is_that_of_its_frames():
    """Geometry and colours without contrast, which turns about the mean, are those that an image of the clip would get."""
    given = clips(n=4, t=3)
    augment = Augment(size=8, jitter=(0.4, 0.0, 0.4, 0.1), jitter_p=1.0)
    views = clip_augment(given, augment, seeded(3))
    for frame in range(3):
        torch.testing.assert_close(views[:, :, frame], augment(given[:, frame], seeded(3)), atol=1e-5, rtol=1e-5)


def test_contrast_turns_about_the_mean_of_the_clip():
    dark, bright = torch.zeros(1, 1, 3, 8, 8), torch.full((1, 1, 3, 8, 8), 0.5)
    augment = Augment(**{**PLAIN, "jitter": (0.0, 0.9, 0.0, 0.0), "jitter_p": 1.0})
    view = clip_augment(torch.cat([dark, bright], dim=1), augment, seeded(1))
    low, high = view[0, 0, 0, 0, 0], view[0, 0, 1, 0, 0]
    factor = (high - low) / 0.5  # of the contrast; each frame by itself would stay as it is
    assert abs(float(factor) - 1) > 0.05
    torch.testing.assert_close(low.clamp(min=0), (0.25 * (1 - factor)).clamp(min=0), atol=1e-4, rtol=1e-4)


def test_nothing_drawn_leaves_the_clip():
    given = clips()
    torch.testing.assert_close(clip_augment(given, Augment(**PLAIN), seeded()), clip_floats(given))


def test_the_generator_decides_and_slices_do_not(monkeypatch):
    given, augment = clips(n=5), Augment(size=8, blur_p=0.5)
    first = clip_augment(given, augment, seeded())
    assert torch.equal(first, clip_augment(given, augment, seeded()))
    assert not torch.equal(first, clip_augment(given, augment, seeded(1)))
    monkeypatch.setattr("nolabel.views.clips.AT_ONCE", 1000)
    torch.testing.assert_close(clip_augment(given, augment, seeded()), first)
    assert first.min() >= 0
    assert first.max() <= 1


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (torch.zeros(2, 3, 8, 8), ValueError, r"clips must be \(n, t, 3, h, w\), got shape \(2, 3, 8, 8\)"),
        (torch.zeros(2, 4, 1, 8, 8), ValueError, r"clips must be"),
        (torch.zeros(2, 4, 3, 8, 8, dtype=torch.int64), TypeError, "uint8 or floating"),
        ([1], TypeError, "must be a torch.Tensor"),
    ],
)
def test_bad_clips(given, error, message):
    with pytest.raises(error, match=message):
        clip_augment(given, Augment(), seeded())


def test_style_is_refused():
    with pytest.raises(ValueError, match="must not have a style"):
        clip_augment(clips(), Augment(style="batch"), seeded())
