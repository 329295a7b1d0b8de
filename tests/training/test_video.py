"""What systems for videos share, with the smallest of them: one that learns the mean grey of a clip."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nolabel.training import Training, VideoLearner
from nolabel.training.video import ClipNet


class Tiny(VideoLearner):
    """Draws one clip of a video and pulls its vector to zero."""

    drawn = 1

    def __init__(self, encoder="small3d-x0.25", *, clip_frames=4, image_size=16, short="skip", training=None):
        self.encoder = encoder
        self.clip_frames = clip_frames
        self.image_size = image_size
        self.short = short
        self.training = training

    def build(self, example):
        net = ClipNet()
        net.encoder = self.make_encoder()
        return net

    def loss(self, net, batch):
        clips = batch["video"]  # (b, 1, t, 3, h, w)
        return self.clip_vectors(net, clips).square().mean()


class MeanColour(nn.Module):
    """Mean over time and space, (n, 3): known answers."""

    def forward(self, clips):
        return clips.mean(dim=(2, 3, 4))


def videos(count=6, frames=20, side=16, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (frames, side, side, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def fitted():
    return Tiny(training=Training(steps=2, batch_size=4)).fit(videos())


def test_vectors_are_means_over_clips_evenly_spread():
    given = videos(3)
    learner = Tiny(MeanColour(), training=Training(steps=1, batch_size=2, lr=1e-12))
    learner.build({})  # wrapped without data
    net = learner.build({})
    source = learner.open_one(given, None)
    assert (source.frames, source.clips) == (4, 5)
    with torch.no_grad():
        vectors = learner.encode(net, source.batch([0, 1, 2])).numpy()
    for vector, video in zip(vectors, given):
        starts = np.rint(16 * (np.arange(5) + 0.5) / 5).astype(int)
        clips = np.stack([video[start : start + 4] for start in starts]) / 255
        np.testing.assert_allclose(vector, (clips.mean(axis=(0, 1, 2, 3)) - 0.45) / 0.25, atol=1e-5)
        doubled = np.stack(
            [video[start : start + 8 : 2] for start in np.rint(12 * (np.arange(5) + 0.5) / 5).astype(int)]
        )
    with torch.no_grad():
        fast = learner.encode(net, learner.open_videos(given, None, frames=8, clips=5).batch([2]), speed=2).numpy()[0]
    np.testing.assert_allclose(fast, ((doubled / 255).mean(axis=(0, 1, 2, 3)) - 0.45) / 0.25, atol=1e-5)


def test_the_plan_shows_every_place_once():
    learner = Tiny()
    source = learner.open(videos(), None)
    assert len(source) == 6 * 5
    plan = learner.plan(source, 8, np.random.default_rng(0))
    assert [batch.shape for batch in plan] == [(8, 2)] * 3  # the incomplete last batch is left out
    rows = np.concatenate(plan)[:, 0]
    assert len(np.unique(rows)) == 24
    again = learner.plan(source, 8, np.random.default_rng(0))
    assert all(np.array_equal(a, b) for a, b in zip(plan, again))
    assert not np.array_equal(plan[0], learner.plan(source, 8, np.random.default_rng(1))[0])


def test_batches_of_many_videos_are_cut(fitted, monkeypatch):
    whole = fitted.transform(videos())
    monkeypatch.setattr("nolabel.training.video.ENCODED", 2)
    monkeypatch.setattr("nolabel.training.video.AT_ONCE", 3)
    np.testing.assert_allclose(fitted.transform(videos()), whole, atol=1e-5)


def test_save_and_load(fitted, tmp_path):
    again = type(fitted).load(fitted.save(tmp_path / "run"))
    np.testing.assert_array_equal(again.transform(videos()), fitted.transform(videos()))


def test_health_compares_two_clips(fitted):
    source = fitted.open(videos(), None)
    seen = fitted.judge(fitted.net_, source.batch([0, 1]), torch.Generator())
    first, second = seen["representation"]
    assert first.shape == second.shape == (2, 16)
    assert not torch.allclose(first, second)
    assert fitted.health_["verdict"] in ("healthy", "collapsing", "collapsed")


def test_sources_of_one_video(fitted, tmp_path):
    one = videos(1)[0]
    expected = fitted.transform([one])
    np.testing.assert_array_equal(fitted.transform(one), expected)
    for folder in ("a", "b"):
        (tmp_path / "frames" / folder).mkdir(parents=True)
        for number, frame in enumerate(one):
            Image.fromarray(frame).save(tmp_path / "frames" / folder / f"{number}.png")
    np.testing.assert_allclose(fitted.transform(tmp_path / "frames"), np.repeat(expected, 2, axis=0), atol=1e-5)
    np.testing.assert_allclose(fitted.transform(tmp_path / "frames" / "a"), expected, atol=1e-5)
    frames = [Image.fromarray(frame) for frame in one]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:])
    assert fitted.transform(tmp_path / "clip.gif").shape == (1, 16)


def test_channels_last_in_two_and_three_dimensions():
    net = ClipNet()
    net.flat, net.deep, net.line = nn.Conv2d(4, 4, 3), nn.Conv3d(4, 4, 3), nn.Linear(4, 4)
    before = [p.detach().clone() for p in net.parameters()]
    assert net.to(memory_format=torch.channels_last) is net
    assert net.flat.weight.is_contiguous(memory_format=torch.channels_last)
    assert net.deep.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters()))
    assert net.to("cpu", memory_format=torch.channels_last).line.weight.device.type == "cpu"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip_frames": 1}, "clip_frames must be a whole number of at least 2"),
        ({"image_size": 8}, "image_size must be a whole number of at least 16"),
        ({"clip_frames": 30}, "none of 6 videos can be used: .*20 frames, fewer than 30"),
        ({"clip_frames": 30, "short": "error"}, r"video 0 \(0\) has 20 frames, a clip needs 30"),
        ({"short": "cut"}, "short must be one of"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tiny(**arguments).fit(videos())


def test_images_are_not_videos(digits):
    with pytest.raises(ValueError, match=r"no column 'video'; the columns are image"):
        Tiny().fit(digits[0][:20])
