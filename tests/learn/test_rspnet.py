import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch.nn.functional import normalize

import nolabel
from nolabel.learn import RSPNet
from nolabel.learn.rspnet import NOBODY, _embedded
from nolabel.objectives import info_nce, relative_speed_loss
from nolabel.training import Clock, Training
from nolabel.views import Augment


def videos(count=10, frames=24, side=16, seed=0):
    """A bright square runs over noise that stands still."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        video = np.repeat(rng.integers(0, 120, (1, side, side, 3), dtype=np.uint8), frames, axis=0)
        for t in range(frames):
            at = (rng.integers(side) if t == 0 else at + 1) % side  # noqa: F821
            video[t, 4:10, at : at + 4] = 230
        made.append(video)
    return made


def tiny(**params):
    settings = {
        "clip_frames": 4,
        "image_size": 16,
        "dim": 8,
        "queue_size": 12,
        "training": Training(steps=2, batch_size=8),
    }
    return RSPNet("small3d-x0.25", **{**settings, **params})


@pytest.fixture(scope="module")
def fitted():
    return tiny().fit(videos())


def seen(model, net=None, seed=0):
    source = model.open(videos(), None)
    rows = source.draw(np.random.default_rng(seed), 2)[::3][:8]
    return model.views(source.batch(rows), torch.Generator().manual_seed(seed))


def test_views_are_queries_and_keys_at_both_speeds(fitted):
    """With frames numbered by their grey, and nothing drawn, the views tell how they play."""
    frames = np.arange(64, dtype=np.uint8)
    video = np.ascontiguousarray(np.broadcast_to(frames[:, None, None, None], (64, 16, 16, 3)))
    plain = Augment(area=(1.0, 1.0), ratio=(1.0, 1.0), flip_p=0.0, jitter_p=0.0, grey_p=0.0)
    model = tiny(augment=plain, speeds=(4, 2))
    source = model.open([video] * 2, None)
    assert source.videos.frames == 16  # of the highest speed
    met = set()
    for seed in range(8):
        rows = source.draw(np.random.default_rng(seed), 2)
        query, same, other, numbers = model.views(source.batch(rows), torch.Generator().manual_seed(seed))
        steps = [((view[:, 0, 1:, 0, 0] - view[:, 0, :-1, 0, 0]) * 255).round().long() for view in (query, same, other)]
        speed = 16 // query.shape[2]
        met.add(speed)
        assert query.shape == same.shape == other.shape == (8, 3, 16 // speed, 16, 16)
        own = steps[0][:, 0]
        assert sorted(own.tolist()) == [1] * 4 + [speed] * 4
        assert (steps[0] == own[:, None]).all()
        assert (steps[1] == own[:, None]).all()
        assert (steps[2] == (speed + 1 - own)[:, None]).all()
        starts = [(view[:, 0, 0, 0, 0] * 255).round().long().tolist() for view in (query, same, other)]
        assert starts[1] == starts[2] == rows[:, 2].tolist()
        assert starts[0] == rows[:, 1].tolist()
        assert numbers.tolist() == source.number.tolist()
    assert met == {2, 4}


def test_both_keys_get_one_view():
    still = [
        np.repeat(np.random.default_rng(i).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8), 16, 0) for i in range(4)
    ]
    model = tiny()
    source = model.open(still, None)
    query, same, other, _ = model.views(source.batch(source.draw(np.random.default_rng(0), 2)), torch.Generator())
    torch.testing.assert_close(same, other)  # nothing moves: nothing else may tell them apart
    assert not torch.allclose(query, same)


def test_loss_by_hand():
    model = tiny(temperature=0.2, margin=1.0, weights=(0.5, 2.0))
    model.fit(videos())
    net = copy.deepcopy(model.net_).train()
    query, same, other, _ = seen(model)
    numbers = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6])
    whose = torch.tensor([0, 0, 5, 5, NOBODY, NOBODY, 7, 7, 8, 8, 9, 9])
    net.queue.push(normalize(torch.randn(12, 8), dim=1))
    net.numbers.push(whose[:, None].float())
    past = net.queue.rows.clone()
    check = copy.deepcopy(net)
    with torch.no_grad():
        q, s, o = _embedded(check, query), _embedded(check.target, same), _embedded(check.target, other)
    terms = model.loss(net, (query, same, other, numbers))
    expected = 0.0
    for key in (s["appearance"], o["appearance"]):
        for i in range(8):
            own = torch.exp(q["appearance"][i] @ key[i] / 0.2)
            rest = sum(torch.exp(q["appearance"][i] @ past[j] / 0.2) for j in range(12) if whose[j] != numbers[i])
            expected -= torch.log(own / (own + rest)) / 8
    torch.testing.assert_close(terms["appearance"].detach(), 0.5 * expected, atol=1e-4, rtol=1e-4)
    ranked = relative_speed_loss(q["motion"], s["motion"], o["motion"], margin=1.0, temperature=0.2)
    torch.testing.assert_close(terms["motion"].detach(), 2.0 * ranked, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        net.queue.rows[-8:], o["appearance"]
    )  # what is remembered are the keys at the other speed
    assert net.numbers.rows[-8:, 0].tolist() == numbers.tolist()


def test_without_own_entries_in_the_queue_it_is_info_nce():
    model = tiny()
    torch.manual_seed(0)
    q, key, past = (normalize(torch.randn(n, 8), dim=1) for n in (6, 6, 20))
    found = model._found(q, key, past, torch.arange(6), torch.full((20,), NOBODY))
    torch.testing.assert_close(found, info_nce(q, key, negatives=past, temperature=0.07))


def test_both_keys_may_be_remembered():
    model = tiny(enqueue="both", queue_size=20).fit(videos())
    net = copy.deepcopy(model.net_).train()
    query, same, other, numbers = seen(model)
    check = copy.deepcopy(net)
    model.loss(net, (query, same, other, numbers))
    with torch.no_grad():
        torch.testing.assert_close(net.queue.rows[-8:], _embedded(check.target, same)["appearance"])
    assert int(net.queue.pushed) == int(check.queue.pushed) + 16


def test_gradients_reach_the_encoder_alone(fitted):
    net = copy.deepcopy(fitted.net_).train()
    views = seen(fitted)
    sum(fitted.loss(net, views).values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.encoder.parameters())
    assert all(p.grad is not None for p in net.heads.parameters())
    assert all(p.grad is None for p in net.target.parameters())


def test_the_average_moves_before_the_keys_and_keeps_its_statistics(fitted):
    model, net = tiny(momentum=0.75), copy.deepcopy(fitted.net_)
    for p in net.parameters():
        p.data.fill_(4.0 if p.requires_grad else 0.0)
    mean = net.target.encoder.layers[0][1].running_mean.clone()
    net.encoder.layers[0][1].running_mean += 1
    model.before_step(net, Clock(steps_per_epoch=1, total_steps=1))
    assert all(torch.allclose(p, torch.ones_like(p)) for p in net.target.parameters())
    assert torch.equal(net.target.encoder.layers[0][1].running_mean, mean)
    assert not torch.equal(
        fitted.net_.target.encoder.layers[0][1].running_mean, torch.zeros(4)
    )  # it sees batches itself


def test_one_task_alone():
    appearance, motion = tiny(weights=(1.0, 0.0)).fit(videos()), tiny(weights=(0.0, 1.0)).fit(videos())
    assert {k for row in appearance.history_ for k in row} >= {"appearance"}
    assert not any("motion" in row for row in appearance.history_)
    assert not hasattr(motion.net_, "queue")
    assert motion.transform(videos(), head="motion").shape == (10, 8)
    with pytest.raises(ValueError, match="head must be None or motion, which this RSPNet has, got 'appearance'"):
        motion.transform(videos(), head="appearance")
    with pytest.raises(ValueError, match="head must be None or appearance"):
        appearance.score_speed(videos())


def test_transform(fitted):
    z = fitted.transform(videos())
    assert z.shape == (10, 16)
    assert z.dtype == np.float32
    np.testing.assert_allclose(fitted.transform(videos()[3:5]), z[3:5], atol=1e-5)
    for head in ("appearance", "motion"):
        np.testing.assert_allclose(np.linalg.norm(fitted.transform(videos(), head=head), axis=1), 1, atol=1e-5)
    assert not np.allclose(fitted.transform(videos(), clips=1), z, atol=1e-4)
    assert not np.allclose(fitted.transform(videos(), speed=2), z, atol=1e-4)


def test_score_speed_by_hand(fitted, monkeypatch):
    """Motion vectors that are known: slow clips point one way, fast ones another, but for one video in which nothing moves."""

    def encode(net, batch, *, speed=1, head=None):
        angle = torch.full((len(batch["row"]),) if "row" in batch else (len(batch["video"]),), 0.0)
        moves = batch["video"].float().std(dim=2).amax(dim=(1, 2, 3, 4)) > 1
        angle = torch.where(moves & (speed == 2), 1.0, angle)
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    monkeypatch.setattr(fitted, "encode", encode, raising=False)
    still = np.zeros((24, 16, 16, 3), np.uint8)
    assert fitted.score_speed(videos(3)) == 1.0
    assert fitted.score_speed([*videos(3), still]) == pytest.approx((3 + 0.5) / 4)


def test_it_learns_to_compare_speeds():
    """Frames that darken evenly, by a rate of the video's own: two clips at one speed change alike."""
    rng = np.random.default_rng(0)

    def waves(count):
        made = []
        for _ in range(count):
            t = np.arange(40)[:, None, None] * rng.uniform(0.35, 0.45) + rng.uniform(0, 6)
            grey = 128 + 100 * np.sin(t + np.zeros((1, 16, 16)))
            made.append(np.repeat(grey[..., None], 3, axis=3).astype(np.uint8))
        return made

    plain = Augment(area=(1.0, 1.0), ratio=(1.0, 1.0), flip_p=0.0, jitter_p=0.0, grey_p=0.0)
    model = tiny(
        weights=(0.0, 1.0), augment=plain, clip_frames=8, momentum=0.9, training=Training(steps=150, batch_size=16)
    )
    model.fit(waves(60))
    assert model.score_speed(waves(40)) > 0.8


def test_search(fitted):
    fitted.index(videos())
    ids, scores = fitted.search(videos()[4], k=3)
    assert (ids.shape, scores.shape) == ((1, 3), (1, 3))
    assert ids[0, 0] == 4
    assert scores[0, 0] == pytest.approx(1.0, abs=1e-5)
    assert (np.diff(scores) <= 1e-6).all()
    assert fitted.search(videos()[:2], k=1)[0].ravel().tolist() == [0, 1]
    with pytest.raises(ValueError, match="k must"):
        fitted.search(videos()[4], k=11)
    with pytest.raises(ValueError, match="fewer than 4"):
        fitted.search(np.zeros((3, 16, 16, 3), np.uint8), k=1)


def test_save_and_load(fitted, tmp_path):
    again = nolabel.load(fitted.save(tmp_path / "run"))
    for head in (None, "motion"):
        np.testing.assert_array_equal(again.transform(videos(), head=head), fitted.transform(videos(), head=head))
    assert torch.equal(again.net_.queue.rows, fitted.net_.queue.rows)
    assert again.score_speed(videos()) == fitted.score_speed(videos())


def test_clone_and_parameters(fitted):
    copied = clone(fitted)
    assert copied.get_params(deep=False).keys() == fitted.get_params(deep=False).keys()
    assert not hasattr(copied, "net_")
    assert copied.set_params(training__epochs=3, training__steps=None).training.epochs == 3


def test_the_seed_decides(fitted):
    again = tiny().fit(videos())
    np.testing.assert_array_equal(again.transform(videos()), fitted.transform(videos()))
    other = tiny(training=Training(steps=2, batch_size=8, random_state=1)).fit(videos())
    assert not np.allclose(other.transform(videos()), fitted.transform(videos()))


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    settings = {"steps": 6, "batch_size": 8, "checkpoint_seconds": 0.0}
    whole = tiny(training=Training(**settings)).fit(videos())
    cut, after = tiny(training=Training(**settings)), []

    def stop(net, clock):
        after.append(clock.step)
        if len(after) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(cut, "after_step", stop, raising=False)
    with pytest.raises(KeyboardInterrupt):
        cut.fit(videos(), run=tmp_path / "run")
    resumed = tiny(training=Training(**settings)).fit(videos(), run=tmp_path / "run", resume=True)
    np.testing.assert_allclose(resumed.transform(videos()), whole.transform(videos()), atol=1e-6)


def test_odd_batches_become_even():
    with pytest.warns(UserWarning, match="training.batch_size=7 changed to 6: its halves play at two speeds"):
        model = tiny(training=Training(steps=1, batch_size=7)).fit(videos())
    assert int(model.net_.queue.pushed) == 12 + 6
    with pytest.raises(ValueError, match="training.batch_size must be at least 4, .* got 2"):
        tiny(training=Training(steps=1, batch_size=2)).fit(videos())


def test_short_videos():
    given = [*videos(8), *videos(1, frames=7)]  # 8 frames are needed to learn, 4 to transform
    with pytest.warns(UserWarning, match="1 of 9 videos were skipped, first row .*: 7 frames, fewer than 8"):
        model = tiny().fit(given)
    assert model.skipped_ == 1
    assert model.transform(given).shape == (9, 16)
    assert tiny(short="loop").fit(given).skipped_ == 0
    with pytest.raises(ValueError, match=r"video 8 \(8\) has 7 frames, a clip needs 8"):
        tiny(short="error").fit(given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"speeds": (1,)}, r"speeds must hold one above 1, .* got \(1,\)"),
        ({"speeds": (1, 1)}, "speeds must hold one above 1"),
        ({"speeds": (2, 0)}, "speeds must be whole numbers of at least 1, got 0"),
        ({"speeds": (1.5,)}, "speeds must be whole numbers"),
        ({"speeds": ()}, "speeds must be a sequence"),
        ({"speeds": 2}, "speeds must be a sequence"),
        ({"dim": 0}, "dim must be whole numbers of at least 1"),
        ({"queue_size": 0}, "queue_size must be whole numbers"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"margin": -1.0}, "margin must be at least 0"),
        ({"weights": (0.0, 0.0)}, "weights must be two of at least 0, one above it"),
        ({"weights": (1.0,)}, "weights must be two"),
        ({"enqueue": "same"}, "enqueue must be 'other' or 'both'"),
        ({"augment": Augment(size=32)}, "augment.size must be None or image_size=16"),
        ({"clip_frames": 0}, "clip_frames must be"),
        ({"encoder": "c3d"}, "unknown encoder 'c3d'"),
    ],
)
def test_bad_arguments(arguments, message):
    model = tiny().set_params(**arguments)
    with pytest.raises(ValueError, match=message):
        model.fit(videos())


def test_bad_videos(fitted):
    with pytest.raises(ValueError, match=r"video 1: expected floats in \[0, 1\], got 200"):
        tiny().fit([np.zeros((24, 16, 16, 3)), np.full((24, 16, 16, 3), 200.0)])
    with pytest.raises(NotFittedError):
        tiny().transform(videos())
    with pytest.raises(ValueError, match="nothing to search"):
        tiny().fit(videos()).search(videos()[0])
    for arguments in ({"clips": 0}, {"speed": 0}, {"head": "both"}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            fitted.transform(videos(), **arguments)
    with pytest.raises(ValueError, match="clips must be whole numbers of at least 2"):
        fitted.score_speed(videos(), clips=1)
