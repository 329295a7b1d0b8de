import copy
import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

import nolabel
from nolabel.encoders import Conv4
from nolabel.learn.obow import OBoW, new_words
from nolabel.training import Clock, Training
from nolabel.views import Augment

LEVELS = ("stage2", "stage3")


def tiny(steps=6, batch_size=16, **params):
    training = Training(steps=steps, batch_size=batch_size, precision="32-true", stop_on_collapse=False)
    small = {"encoder": "resnet8-x0.125-map6", "words": 24, "image_size": 16, "training": training}
    return OBoW(**{**small, **params})


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][:64]


def build(learner, channels=1, side=16):
    learner.training_ = learner.training
    torch.manual_seed(0)
    return learner.build({"image": torch.zeros(2, channels, side, side, dtype=torch.uint8)}).train()


def batch_of(b=5, channels=1, side=16, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {"image": torch.randint(0, 256, (b, channels, side, side), dtype=torch.uint8, generator=generator)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# The loss -----------------------------------------------------------------------------------------------------------


def slow_loss(learner, net, views):
    """The method section in loops, on a copy of the network as it was before."""
    levels = learner.levels or ("stage3",)
    maps = {level: m[:, :, 1:-1, 1:-1] for level, m in net.teacher.stages(views["whole"]).items()}
    total, targets = 0.0, []
    for i, level in enumerate(levels):
        words = net.vocabularies[i].store
        places = maps[level].permute(0, 2, 3, 1).flatten(1, 2).detach()  # (b, locations, c)
        distances = ((places[:, :, None] - words) ** 2).sum(dim=3)  # (b, locations, K)
        nearest = distances.min(dim=2, keepdim=True).values
        scale = 0.99 * 0.5 + 0.01 * nearest.mean()
        weight = torch.exp(learner.inverse_temperature * (nearest - distances) / scale)
        occurs = (weight / weight.sum(dim=2, keepdim=True)).max(dim=1).values
        targets.append(occurs / occurs.sum(dim=1, keepdim=True))
    for crops in views["kinds"].values():
        f = net.encoder(torch.cat(crops))  # one pass for all crops of a kind: they share batch statistics
        for i in range(len(levels)):
            words = net.vocabularies[i].store
            w = net.generators[i](words / words.norm(dim=1, keepdim=True))
            logits = learner.weight_scale * f @ (w / w.norm(dim=1, keepdim=True)).T
            p = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
            q = targets[i].repeat(len(crops), 1)
            total = total + (q * (q.clamp(min=1e-30) / p).log()).sum(dim=1).mean() / len(levels)
    return total


@pytest.mark.parametrize("levels", [None, LEVELS])
def test_loss_by_hand(levels):
    """A sum over crops and patches, a mean over crops and levels; targets and weights from the words as they were."""
    learner = tiny(levels=levels, weight_scale=3.0, inverse_temperature=4.0)
    net = build(learner)
    views, before = learner.views(batch_of(), seeded()), copy.deepcopy(net)
    terms = learner.loss(net, views)
    assert list(terms) == ["crops_12", "patches_8"]
    value, expected = sum(terms.values()), slow_loss(learner, before, views)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    mine, theirs = [
        [n.encoder.stem.weight, n.generators[0][0].weight, n.generators[-1][-1].bias] for n in (net, before)
    ]
    for one, other in zip(torch.autograd.grad(value, mine), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
        assert other.abs().max() > 0
    assert not any(weight.requires_grad for weight in net.teacher.parameters())


def test_hard_codes_and_average_pooling_reach_the_targets():
    learner = tiny(inverse_temperature=None, pool="average")
    net = build(learner)
    before = copy.deepcopy(net)
    views = learner.views(batch_of(), seeded())
    learner.loss(net, views)
    inner = before.teacher.stages(views["whole"])["stage3"][:, :, 1:-1, 1:-1].permute(0, 2, 3, 1).flatten(1, 2)
    nearest = torch.cdist(inner.detach(), before.vocabularies[0].store).argmin(dim=2)
    shares = torch.stack([torch.bincount(row, minlength=24) / len(row) for row in nearest])
    entropy = -(shares * shares.clamp(min=1e-30).log()).sum(dim=1)
    torch.testing.assert_close(net.perplexities[0, 0], entropy.exp().mean(), rtol=1e-4, atol=1e-4)
    mean = shares.mean(dim=0)
    batch = (-(mean * mean.clamp(min=1e-30).log()).sum()).exp()
    torch.testing.assert_close(net.perplexities[0, 1], batch, rtol=1e-4, atol=1e-4)


def test_running_scale_and_statistics_of_the_teacher():
    learner = tiny()
    net = build(learner)
    views, before = learner.views(batch_of(), seeded()), copy.deepcopy(net)
    learner.loss(net, views)
    inner = before.teacher.stages(views["whole"])["stage3"][:, :, 1:-1, 1:-1].permute(0, 2, 3, 1).flatten(0, 2)
    nearest = torch.cdist(inner.detach(), before.vocabularies[0].store).min(dim=1).values.square().mean()
    torch.testing.assert_close(net.scales[0], 0.99 * 0.5 + 0.01 * nearest, rtol=1e-4, atol=1e-5)
    # both networks saw a batch, each its own: the teacher's statistics are of whole images
    assert torch.equal(net.teacher.norm.running_mean, before.teacher.norm.running_mean)
    assert not torch.equal(net.teacher.norm.running_mean, net.encoder.norm.running_mean)
    assert net.teacher.norm.num_batches_tracked == 1


# Vocabulary ---------------------------------------------------------------------------------------------------------


def test_new_words_by_hand():
    maps = torch.arange(32.0).view(2, 1, 4, 4)  # rows 0-3, 4-7, ...; the second image is 16 more
    places = torch.tensor([0.0, 0.999])
    assert new_words(maps, places, "location").tolist() == [[0.0], [31.0]]
    assert new_words(maps, places, "local_average").tolist() == [[5.0], [26.0]]  # centres of the 3x3 windows
    assert new_words(maps, places, "global_average").tolist() == [[7.5], [23.5]]


@pytest.mark.parametrize("queued", ["local_average", "location", "global_average"])
def test_queue_takes_the_teachers_features_and_wraps_around(queued):
    """24 words, 16 images a step: the second step fills the last 8 and the first 8 again."""
    learner = tiny(queued=queued)
    net = build(learner)
    for step, slots in enumerate([range(16), [*range(16, 24), *range(8)], range(8, 24)]):
        before = copy.deepcopy(net)
        views = learner.views(batch_of(16, seed=step), seeded(step))
        learner.loss(net, views)
        inner = before.teacher.stages(views["whole"])["stage3"][:, :, 1:-1, 1:-1].detach()
        expected = before.vocabularies[0].store.clone()
        expected[list(slots)] = new_words(inner, views["places"][0], queued)
        torch.testing.assert_close(net.vocabularies[0].store, expected, rtol=1e-5, atol=1e-6)
        assert not torch.equal(net.vocabularies[0].store, before.vocabularies[0].store)


def test_words_begin_as_rectified_normal_numbers():
    store = build(tiny(words=400)).vocabularies[0].store
    assert store.min() == 0
    assert float((store == 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(store[store > 0].mean()) == pytest.approx(math.sqrt(2 / math.pi), abs=0.03)


def test_fewer_words_than_images_keeps_the_newest():
    learner = tiny(words=6)
    net = build(learner)
    learner.loss(net, learner.views(batch_of(16), seeded()))
    assert (net.vocabularies[0].store.norm(dim=1) > 0).all()
    assert int(net.vocabularies[0].pushed) == 22


# Teacher ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fraction", "momentum"), [(0.0, 0.9), (0.5, 0.95), (1.0, 1.0)])
def test_teacher_follows_the_student(fraction, momentum):
    learner = tiny(momentum=0.9)
    net = build(learner)
    for weight in net.encoder.parameters():
        nn.init.normal_(weight)
    net.encoder.norm.running_mean += 1.0
    before, student = copy.deepcopy(net.teacher), net.encoder.stem.weight
    learner.before_step(net, Clock(step=3, total_steps=10, fraction=fraction))
    expected = momentum * before.stem.weight + (1 - momentum) * student
    torch.testing.assert_close(net.teacher.stem.weight, expected)
    assert torch.equal(net.teacher.norm.running_mean, before.norm.running_mean)  # statistics of its own


def test_teacher_sees_whole_images_and_the_student_crops():
    learner, seen = tiny(), []
    net = build(learner)
    net.teacher.stem.register_forward_pre_hook(lambda module, given: seen.append(("teacher", tuple(given[0].shape))))
    net.encoder.stem.register_forward_pre_hook(lambda module, given: seen.append(("student", tuple(given[0].shape))))
    learner.loss(net, learner.views(batch_of(), seeded()))
    assert seen == [("student", (10, 1, 12, 12)), ("student", (15, 1, 8, 8)), ("teacher", (5, 1, 16, 16))]


# Views --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [28, 32, 64, 96])
@pytest.mark.parametrize("channels", [1, 3])
def test_views_by_the_size_of_the_images(side, channels):
    batch = batch_of(12, channels, side)
    views = OBoW().views(batch, seeded())
    crop, patch = {28: (21, 14), 32: (24, 16), 64: (48, 32), 96: (72, 48)}[side]
    shapes = {kind: [tuple(view.shape) for view in views] for kind, views in views["kinds"].items()}
    assert shapes == {
        f"crops_{crop}": [(12, channels, crop, crop)] * 2,
        f"patches_{patch}": [(12, channels, patch, patch)] * 3,
    }
    images = batch["image"].float() / 255
    flipped = (views["whole"] != images).flatten(1).any(dim=1)
    torch.testing.assert_close(torch.where(flipped[:, None, None, None], images.flip(-1), images), views["whole"])
    assert (0 < flipped.sum() < 12) if channels == 3 else not flipped.any()  # digits and scans are not mirrored
    assert views["places"].shape == (1, 12)


def test_crops_patches_and_recipes_as_asked(images):
    batch = batch_of(4, 3, 32)
    learner = OBoW(crops=[[1, 20, [0.5, 1.0]], [2, 12, [0.1, 0.4]]], patches=[0, 8])  # lists, as JSON gives them back
    shapes = {kind: [tuple(v.shape) for v in views] for kind, views in learner.views(batch, seeded())["kinds"].items()}
    assert shapes == {"crops_20": [(4, 3, 20, 20)], "crops_12": [(4, 3, 12, 12)] * 2}
    grey = OBoW(augment=Augment(grey_p=1.0)).views(batch, seeded())["kinds"]
    for view in (view for views in grey.values() for view in views):
        torch.testing.assert_close(view[:, 0], view[:, 2], atol=1e-5, rtol=0)
    upright = OBoW(augment="centred").views(batch, seeded())
    assert torch.equal(upright["whole"], batch["image"].float() / 255)
    assert OBoW()._recipe(96, 3).blur_p == 0.5
    assert OBoW()._recipe(32, 3).blur_p == 0.0
    with pytest.raises(TypeError, match="augment must be an Augment or the name of one, got function"):
        OBoW(augment=lambda images, generator: images).views(batch, seeded())
    with pytest.raises(ValueError, match="unknown views 'swaw': did you mean swav"):
        OBoW(augment="swaw").views(batch, seeded())
    assert set(tiny(steps=1, patches=(0, 8)).fit(images).history_[-2]) >= {"crops_12", "loss"}


# What it is used for ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(images):
    return tiny(levels=LEVELS).fit(images)


def test_transform_is_the_student(images, fitted):
    x = torch.from_numpy(fitted.open(images, None).batch(np.arange(64))["image"].numpy()) / 255.0
    with torch.no_grad():
        student, teacher = fitted.net_.encoder(x), fitted.net_.teacher(x)
    np.testing.assert_allclose(fitted.transform(images), student.numpy(), rtol=1e-3, atol=1e-4)
    assert not np.allclose(student, teacher, rtol=1e-2)


def test_bags_of_words_of_images(images, fitted):
    x = torch.from_numpy(fitted.open(images, None).batch(np.arange(64))["image"].numpy()) / 255.0
    with torch.no_grad():
        stages = fitted.net_.teacher.stages(x)
    for i, level in enumerate(LEVELS):
        bags, words = fitted.bow(images, level), torch.from_numpy(fitted.vocabulary_[level])
        places = stages[level][:, :, 1:-1, 1:-1].permute(0, 2, 3, 1).flatten(1, 2)
        distances = torch.cdist(places, words).square() / fitted.net_.scales[i]
        occurs = (-10 * distances).softmax(dim=2).amax(dim=1)
        np.testing.assert_allclose(bags, occurs / occurs.sum(dim=1, keepdim=True), rtol=0.02, atol=1e-4)
        np.testing.assert_allclose(bags.sum(axis=1), 1, rtol=1e-5)
        assert bags.dtype == np.float32
    assert np.array_equal(fitted.bow(images), fitted.bow(images, "stage3"))  # the last level
    assert fitted.vocabulary_["stage2"].shape == (24, 16)
    for found in fitted.perplexity_.values():
        assert 1 <= found["image"] <= found["batch"] <= 24
    with pytest.raises(ValueError, match="level must be one of stage2, stage3, got 'stage1'"):
        fitted.bow(images, "stage1")
    with pytest.raises(NotFittedError):
        tiny().bow(images)
    assert not hasattr(tiny(), "vocabulary_")
    assert not hasattr(tiny(), "perplexity_")


def test_save_and_load(images, fitted, tmp_path):
    fitted.save(tmp_path)
    loaded = nolabel.load(tmp_path)
    assert np.array_equal(loaded.transform(images), fitted.transform(images))
    assert np.array_equal(loaded.bow(images, "stage2"), fitted.bow(images, "stage2"))
    assert np.array_equal(loaded.vocabulary_["stage3"], fitted.vocabulary_["stage3"])
    assert loaded.perplexity_ == fitted.perplexity_


class PowerCut(Exception):
    pass


def test_interrupted_run_goes_on_exactly(images, tmp_path):
    def learner():
        return tiny().set_params(training__checkpoint_seconds=0)

    whole, cut = learner().fit(images), learner()
    usual = cut.before_step

    def before_step(net, clock):
        if clock.step == 4:
            raise PowerCut
        usual(net, clock)

    cut.before_step = before_step
    with pytest.raises(PowerCut):
        cut.fit(images, run=tmp_path)
    resumed = learner().fit(images, run=tmp_path, resume=True)
    for name, value in resumed.net_.state_dict().items():
        assert torch.equal(value, whole.net_.state_dict()[name]), name
    assert int(resumed.net_.vocabularies[0].pushed) == 24 + 6 * 16
    assert resumed.net_.scales[0] != 0.5


def textures(n):
    """Stripes one way, stripes the other, checks and speckles in turn, each with noise of its own: (n, 16, 16) uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16] // 2
    kinds = [y % 2, x % 2, (y + x) % 2, rng.integers(0, 2, (16, 16))]
    images = np.stack([kinds[i % 4] for i in range(n)]) * 160 + 40
    return np.clip(images + rng.normal(0, 15, images.shape), 0, 255).astype(np.uint8)


def test_it_learns():
    """After training, a crop tells the words of its own image better than those of one with another texture."""
    images, gaps = textures(128), {}
    for steps, lr in ((1, 1e-9), (60, 0.05)):
        learner = tiny(words=64, momentum=0.97, augment=Augment(jitter_p=0.0), batch_size=32, steps=steps)
        net = learner.set_params(training__lr=lr).fit(images).net_.train()
        views = learner.views({"image": torch.from_numpy(images)[:, None]}, seeded())
        others = {**views, "whole": views["whole"].roll(1, dims=0)}
        with torch.no_grad():
            own, other = (float(sum(learner.loss(copy.deepcopy(net), seen).values())) for seen in (views, others))
        gaps[steps] = other - own
    assert gaps[1] < 0.05
    assert gaps[60] > 0.15


# Collapse -----------------------------------------------------------------------------------------------------------


def after(learner, net, image, batch, place=1.0, step=60):
    net.perplexities[:], net.spread[:] = torch.tensor([image, batch]), place
    learner.after_step(net, Clock(step=step, total_steps=100))


@pytest.mark.parametrize(
    ("image", "batch", "place", "sign"),
    [
        (22.0, 24.0, 20.0, "every image holds nearly all words alike"),
        (1.1, 9.0, 1.0, "every image holds a single word"),
        (1.1, 1.2, 1.0, "every image holds a single word and all images hold the same word"),
    ],
)
def test_collapsed_targets_are_said_once(image, batch, place, sign):
    learner = tiny()
    net = build(learner)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after(learner, net, image, batch, place)  # the random words of the beginning are still there
        net.vocabularies[0].pushed.fill_(72)
        after(learner, net, 12.0, 20.0)  # healthy
        after(learner, net, 22.0, 24.0, 8.0)  # every word occurs somewhere, none everywhere
        after(learner, net, image, batch, place, step=61)  # not looked at
    with pytest.warns(UserWarning, match=f"targets of stage3 look collapsed at step 60: {sign} .* 24 words"):
        after(learner, net, image, batch, place)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after(learner, net, image, batch, place, step=80)


def test_few_words_are_no_collapse(images):
    """With less words than locations every image holds every one; the alarm then asks single locations."""
    learner = tiny(words=4, steps=20)
    net = learner.fit(images).net_
    image, batch = learner.perplexity_["stage3"].values()
    assert image > 0.8 * 4
    assert 1 <= float(net.spread[0]) < float(1 + 0.5 * (image - 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after(learner, net, image, batch, float(net.spread[0]))
        two = build(tiny(words=2))
        two.vocabularies[0].pushed.fill_(72)
        after(tiny(words=2), two, 1.4, 1.9, 1.1)  # 90 % of one word, of two
        after(tiny(words=2), two, 2.0, 2.0, 1.3)
    with pytest.warns(UserWarning, match="nearly all words alike"):
        after(tiny(words=2), two, 2.0, 2.0, 1.9)


def test_features_that_are_not_finite_are_named(images):
    learner = tiny(steps=3)
    usual = learner.before_step

    def poison(net, clock):
        usual(net, clock)
        if clock.step == 1:
            nn.init.constant_(net.encoder.stem.weight, float("nan"))

    learner.before_step = poison
    with pytest.raises(FloatingPointError, match="non-finite features at step 1: lower training.lr"):
        learner.fit(images)


# Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"words": 1}, "words must be a whole number of at least 2, got 1"),
        ({"words": 2.5}, "words must be a whole number of at least 2, got 2.5"),
        ({"inverse_temperature": 0.0}, "inverse_temperature must be above 0 or None, got 0.0"),
        ({"weight_scale": -1.0}, "weight_scale must be above 0, got -1.0"),
        ({"momentum": 1.5}, r"momentum must lie in \[0, 1\], got 1.5"),
        ({"pool": "mean"}, "pool must be max or average, got 'mean'"),
        ({"queued": "all"}, "queued must be one of local_average, location, global_average, got 'all'"),
        ({"levels": ("stage3", "stage9")}, r"levels must name different ones of stage1, stage2, stage3, got .*stage9"),
        ({"levels": ("stage3", "stage3")}, "levels must name different"),
        ({"levels": "stage3"}, "levels must name different"),
        ({"levels": ()}, "levels must name different"),
        ({"crops": ((2, 20, (0.3, 1.0)),)}, "crops must not be larger than the image: got 20 for side 16"),
        ({"crops": ((1, 8, (0.3, 1.0)), (1, 8, (0.1, 0.3)))}, r"kinds of different sides, got sides \[8, 8\]"),
        ({"patches": (3, 17)}, "patches must not be larger than the image: got 17 for side 16"),
        ({"patches": (10, 8)}, "from 1 to 9, got 10"),
        ({"encoder": "resnet8-x0.125"}, "feature map 2x2 of stage3 is too small for local averaging: .*at least 5x5"),
        ({"encoder": "resnet8-x0.125-map4", "queued": "location"}, None),
        ({"encoder": Conv4((4, 8), channels=1)}, "feature map 4x4 of stage2 is too small for local averaging"),
        ({"encoder": nn.Sequential(nn.Flatten(), nn.Linear(256, 4))}, "encoder must have stages"),
    ],
)
def test_bad_input(params, message, images):
    if message is None:  # without averaging a map of 4x4 is enough
        assert tiny(steps=1, **params).fit(images).vocabulary_["stage3"].shape == (24, 32)
        return
    with pytest.raises(ValueError, match=message) as caught:
        tiny(steps=1, **params).fit(images)
    assert "\n" not in str(caught.value)


def test_batch_above_the_rows(images):
    with pytest.raises(ValueError, match="above the 64 rows"):
        tiny(batch_size=100).fit(images)
