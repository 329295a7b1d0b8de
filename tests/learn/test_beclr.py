import copy
import warnings

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from nolabel.learn.beclr import BECLR, Views, negatives_term, positives_term
from nolabel.training import Training
from nolabel.training.checkpoint import CHECKPOINT
from nolabel.views import Augment


def tiny(steps=8, batch_size=16, **params):
    settings = {"clusters": 4, "memory_scale": 16, "neighbours": 2, "projection": (16, 8), "image_size": 16}
    settings |= {"training": Training(steps=steps, batch_size=batch_size, precision="32-true", stop_on_collapse=False)}
    return BECLR("resnet10-x0.125", **{**settings, **params})


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][:64]


def build(learner, batches=0):
    """A network with some batches of random embeddings of the images 1000, 1001, ... in its memories, clustered if full."""
    learner.training_ = learner.training
    torch.manual_seed(0)
    net = learner.build({"image": torch.zeros(2, 1, 16, 16)})
    net.eval()  # running statistics: a row's output does not depend on the rows beside it
    for memory in net.memories.values():
        for number in range(batches):
            memory.push(torch.randn(32, 8), 1000 + 16 * number + torch.arange(16).repeat(2))
        if memory.full:
            memory.cluster(seed=0)
    return net


def seen(rows=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    masked, whole = (torch.rand(2 * rows, 1, 16, 16, generator=generator) for _ in range(2))
    return masked, whole, torch.arange(rows)


def embeddings(net, views):
    z = net.head(net.encoder(views[0]))
    return [normalize(e, dim=1).chunk(2) for e in (z, net.predictor(z), net.teacher(views[1]))]


# The loss -----------------------------------------------------------------------------------------------------------


def by_hand(z, p, targets, kin, temperature, weight):
    """The formula, a pair at a time; targets[view][i] are rows, kin[i] the images that i is not pushed away from."""
    b = len(z[0])
    positive = 0.0
    for view in (0, 1):
        for i in range(b):
            cosines = [p[view][i] @ target for target in targets[1 - view][i]]
            positive = positive - torch.stack(cosines).mean() / b / 2
    both = torch.cat(z)
    means = []
    for i in range(2 * b):
        others = [torch.exp(both[i] @ both[j] / temperature) for j in range(2 * b) if j % b not in kin[i % b]]
        if others:
            means.append(torch.stack(others).mean())
    return positive, weight * torch.stack(means).mean().log()


def assert_equal_losses(terms, positive, negative, net):
    torch.testing.assert_close(terms["positives"], positive, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["negatives"], negative, rtol=1e-4, atol=1e-5)
    weights = [net.head[0].weight, net.encoder.stem.weight]
    for mine, theirs in ((terms["positives"], positive), (terms["negatives"], negative)):
        slopes = [torch.autograd.grad(value, weights, retain_graph=True) for value in (mine, theirs)]
        for one, other in zip(*slopes):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
            assert other.abs().max() > 0


@pytest.mark.parametrize("enhance", [None, "teacher", "official"])
def test_loss_before_the_memory_is_in_use(enhance):
    learner = tiny(enhance=enhance, temperature=0.5, negative_weight=0.3)
    net, views = build(learner), seen()
    z, p, t = embeddings(net, views)
    positive, negative = by_hand(z, p, [[[row] for row in view] for view in t], [{i} for i in range(5)], 0.5, 0.3)
    assert_equal_losses(learner.loss(net, views), positive, negative, net)


def test_neighbours_are_targets_and_are_not_pushed_away():
    learner = tiny(temperature=0.5)
    net, views = build(learner, batches=3), seen()
    net.enhanced = True
    memory = net.memories["teacher"]
    z, p, t = embeddings(net, views)
    first = int(memory.nearest(t[0][:1].detach(), 1)[0, 0])
    memory.ids[first] = 3  # a neighbour of image 0 is an earlier view of image 3
    before = copy.deepcopy(memory)
    targets, kin = [[], []], [{i} for i in range(5)]
    for view in (0, 1):
        slots = before.nearest(t[view].detach(), 2, torch.arange(5))
        for i in range(5):
            targets[view].append([t[view][i], *before.store[slots[i]]])
            kin[i] |= set(before.ids[slots[i]].tolist())
    assert 3 in kin[0]
    positive, negative = by_hand(z, p, targets, kin, 0.5, 0.1)
    assert_equal_losses(learner.loss(net, views), positive, negative, net)
    assert not net.teacher[1][0].weight.requires_grad


def test_official_rows_only_scale_the_positives():
    """Positives: the gradient of the plain batch by 1 / (1 + k). Negatives: the joined rows are pushed away too."""
    learner = tiny(enhance="official", temperature=0.5)
    net, views = build(learner, batches=3), seen()
    kept = {name: copy.deepcopy(memory) for name, memory in net.memories.items()}
    net.enhanced = True
    terms = learner.loss(net, views)
    parts = dict(zip(("projection", "prediction", "teacher"), embeddings(net, views)))
    joined = {}
    for name, pair in parts.items():
        joined[name] = []
        for view in pair:
            slots = kept[name].nearest(view.detach(), 2)
            joined[name].append(torch.cat([view, kept[name].store[slots[:, 0]], kept[name].store[slots[:, 1]]]))
    z, p, t = joined["projection"], joined["prediction"], joined["teacher"]
    assert len(z[0]) == 15
    positive, negative = by_hand(z, p, [[[row] for row in view] for view in t], [{i} for i in range(15)], 0.5, 0.1)
    assert_equal_losses(terms, positive, negative, net)
    net.enhanced = False
    weight = net.predictor[0].weight
    scaled, plain = (
        torch.autograd.grad(value, weight)[0] for value in (terms["positives"], learner.loss(net, views)["positives"])
    )
    torch.testing.assert_close(scaled * 3, plain, rtol=1e-3, atol=1e-6)


def test_terms():
    z = normalize(torch.randn(6, 3), dim=1)
    others = ~torch.eye(6, dtype=torch.bool)
    spread = negatives_term(torch.eye(6), others, 0.5)
    assert spread == pytest.approx(0.0, abs=1e-6)
    assert negatives_term(z, others, 0.5) > -2.0
    assert negatives_term(torch.ones(6, 1), others, 0.5) == pytest.approx(2.0)  # collapsed: 1 / temperature
    others[2] = False  # a row without negatives has no say and gives no NaN
    assert torch.isfinite(negatives_term(z, others, 0.5))
    target = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    assert positives_term(torch.tensor([[1.0, 0.0]]), target) == pytest.approx(-0.5)


# The memory and the teacher over a run ------------------------------------------------------------------------------


def test_life_of_the_memory(images):
    """32 views a step fill 64 rows in two; it is clustered then, and again in each period of the run."""
    learner, story = tiny(steps=16, memory_start=0.25), []
    usual = learner.before_step

    def before_step(net, clock):
        memory = net.memories["teacher"]
        before = int(net.period)
        usual(net, clock)
        story.append((int(memory.pushed), int(net.period) - before > 0, net.enhanced))

    learner.before_step = before_step
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner.fit(images)
    assert [pushed for pushed, _, _ in story] == [32 * step for step in range(16)]
    assert [step for step, (_, clustered, _) in enumerate(story) if clustered] == [2, 4, 8, 12]
    assert [step for step, (_, _, used) in enumerate(story) if used] == list(range(4, 16))
    memory = learner.net_.memories["teacher"]
    assert set(memory.ids.tolist()) <= set(range(64))


def test_teacher_is_an_average_with_statistics_of_its_own(images):
    learner = tiny(steps=3, momentum=0.9)
    start = {}

    def keep(net, clock):
        if clock.step == 0:
            start.update({k: v.clone() for k, v in net.teacher.state_dict().items()})

    usual = learner.before_step
    learner.before_step = lambda net, clock: (keep(net, clock), usual(net, clock))
    with pytest.warns(UserWarning, match="memory of 64 rows"):
        learner.set_params(training__steps=1).fit(images)
    online, teacher = learner.net_.head[0].weight, learner.net_.teacher[1][0].weight
    torch.testing.assert_close(teacher, 0.9 * start["1.0.weight"] + 0.1 * online)
    statistics = learner.net_.teacher[1][1].running_mean
    assert not torch.equal(statistics, start["1.1.running_mean"])
    assert not torch.allclose(statistics, learner.net_.head[1].running_mean)


def test_student_sees_masks_and_teacher_does_not(images):
    batch = {
        "image": torch.from_numpy(np.array(images)).float()[:, None].repeat(1, 1, 2, 2) / 255,
        "row": torch.arange(64),
    }
    learner = tiny(augment=lambda images, generator: images * 0.5 + 0.5)
    masked, whole, rows = learner.views(batch, torch.Generator().manual_seed(0))
    assert torch.equal(rows, torch.arange(64))
    assert whole.min() >= 0.5
    hidden = masked == 0
    assert torch.equal(masked, torch.where(hidden, 0.0, whole))
    assert 0.1 < float(hidden.float().mean()) < 0.2
    masked, whole, _ = tiny(mask_ratio=0.0).views(batch, torch.Generator())
    assert masked is whole


def test_views_by_kind_of_image():
    generator = torch.Generator().manual_seed(0)
    colour = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=generator)
    seen = Views(16)(colour, generator)
    assert seen.shape == (64, 3, 16, 16)
    assert seen.min() >= 0
    assert seen.max() <= 1
    upright = torch.linspace(0, 1, 16)[:, None].expand(200, 3, 16, 16)
    slopes = Views(16)(upright, generator)[:, 0]
    turned = ((slopes[:, 8:].mean((1, 2)) - slopes[:, :8].mean((1, 2))) < 0).float().mean()
    assert 0.3 < float(turned) < 0.7  # top to bottom in half of them
    with pytest.raises(ValueError, match="unknown views 'nonsense'"):
        tiny(augment="nonsense").views({"image": colour, "row": torch.arange(64)}, generator)


# Runs ---------------------------------------------------------------------------------------------------------------


class PowerCut(Exception):
    pass


@pytest.mark.parametrize("enhance", ["teacher", "official"])
def test_resume_is_exact(enhance, images, tmp_path):
    whole = tiny(enhance=enhance).fit(images)

    def before_step(net, clock):
        if clock.step == 5:
            raise PowerCut
        BECLR.before_step(cut, net, clock)

    cut = tiny(enhance=enhance).set_params(training__checkpoint_seconds=0)
    cut.before_step = before_step
    with pytest.raises(PowerCut):
        cut.fit(images, run=tmp_path / "run")
    assert (tmp_path / "run" / CHECKPOINT).exists()
    resumed = tiny(enhance=enhance).set_params(training__checkpoint_seconds=0)
    resumed.fit(images, run=tmp_path / "run", resume=True)
    for (name, one), theirs in zip(whole.net_.state_dict().items(), resumed.net_.state_dict().values(), strict=True):
        assert torch.equal(one, theirs), name
    loaded = BECLR.load(tmp_path / "run")
    assert np.array_equal(loaded.transform(images), whole.transform(images))


def test_it_learns(digits):
    """Predictions come closer to the other view's target, and neighbours are mostly of one kind."""
    images, labels = digits[0][:512], digits[1][:512]
    mild = Augment(size=16, area=(0.6, 1.0), flip_p=0.0, jitter_p=0.0, grey_p=0.0)
    settings = Training(steps=100, batch_size=32, lr=3e-3, precision="32-true")
    learner = tiny(clusters=10, memory_scale=20, projection=(128, 64), mask_ratio=0.0, augment=mild, training=settings)
    learner.fit(images)
    positives = [row["positives"] for row in learner.history_ if "positives" in row]
    assert np.mean(positives[:5]) > -0.05  # chance
    assert np.mean(positives[-20:]) < -0.12
    memory = learner.net_.memories["teacher"]
    near = memory.ids[memory.nearest(memory.store, 3, memory.ids)].numpy()
    purity = (labels[near] == labels[memory.ids.numpy()][:, None]).mean()
    assert purity > 0.2  # by chance a tenth
    assert learner.health_["verdict"] != "collapsed"


# Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"clusters": 1}, "clusters must be a whole number of at least 2, got 1"),
        ({"memory_scale": 0}, "memory_scale must be a whole number of at least 1, got 0"),
        ({"memory_scale": 7}, r"must hold a batch of 32 views, got 28 rows \(clusters x memory_scale = 4 x 7\)"),
        ({"neighbours": 0}, "neighbours must be a whole number of at least 1, got 0"),
        ({"neighbours": 64}, r"fewer than the rows of the memory \(clusters x memory_scale = 64\), got 64"),
        ({"enhance": "student"}, "enhance must be 'teacher', 'official' or None, got 'student'"),
        ({"memory_start": 0.0}, r"memory_start .* must lie in \(0, 1\), got 0.0"),
        ({"temperature": 0.0}, "temperature must be above 0 and negative_weight at least 0, got 0.0 and 0.1"),
        ({"negative_weight": -1.0}, "temperature must be above 0 and negative_weight at least 0, got 2.0 and -1.0"),
        ({"mask_ratio": 1.0}, r"mask_ratio must lie in \[0, 1\), got 1.0"),
        ({"momentum": 1.5}, r"momentum must lie in \[0, 1\], got 1.5"),
    ],
)
def test_bad_input(params, message, images):
    with pytest.raises(ValueError, match=message) as caught:
        tiny(steps=1, **params).fit(images)
    assert "\n" not in str(caught.value)


def test_a_memory_that_is_never_filled_is_named(images):
    with pytest.warns(UserWarning, match="memory of 400 rows was not filled by the run"):
        tiny(steps=2, memory_scale=100).fit(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny(steps=2, enhance=None).fit(images)
