import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.nn.functional import normalize

import nolabel
from nolabel.assess.contrastive import neighbour_tolerance
from nolabel.learn.instance_discrimination import InstanceDiscrimination
from nolabel.training import Training


def tiny(steps=5, batch_size=16, **params):
    budget = Training(steps=steps, batch_size=batch_size, precision="32-true", stop_on_collapse=False)
    settings = {"projection": (16, 8), "image_size": 16, "training": budget}
    return InstanceDiscrimination("resnet10-x0.125", **{**settings, **params})


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][:64]  # four steps of 16 an epoch


# The loss and the bank -------------------------------------------------------------------------------------------------


def built(learner, images=12):
    """A network in eval mode, whose outputs do not depend on the batch, and a batch of views of images 3, 0 and 7."""
    learner.images_ = images
    torch.manual_seed(0)
    net = learner.build({"image": torch.zeros(2, 1, 16, 16), "row": torch.arange(2)}).eval()
    views = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    return net, (views, torch.tensor([3, 0, 7]))


def cosines(net, views, bank):
    with torch.no_grad():
        z = normalize(net.head(net.encoder(views[0])), dim=1)
    return z, (z @ bank.T).tolist()


def test_info_nce_by_hand():
    """Positive: the own row of the bank. Negatives: the rows of images outside the batch."""
    learner = tiny(temperature=0.4)
    net, views = built(learner)
    bank = net.bank.clone()
    _, s = cosines(net, views, bank)
    outside = [j for j in range(12) if j not in (3, 0, 7)]
    for fraction, kept in ((None, 9), (0.3, 3)):  # ceil(0.3 * 9) = 3
        wanted = 0.0
        for i, row in enumerate((3, 0, 7)):
            hardest = sorted((s[i][j] for j in outside), reverse=True)[:kept]
            own = math.exp(s[i][row] / 0.4)
            wanted -= math.log(own / (own + sum(math.exp(x / 0.4) for x in hardest))) / 3
        net.bank.copy_(bank)
        learner.set_params(hard_fraction=fraction)
        assert learner.loss(net, views).item() == pytest.approx(wanted, rel=1e-5)


def test_simple_by_hand():
    learner = tiny(objective="simple")
    net, views = built(learner)
    bank = net.bank.clone()
    _, s = cosines(net, views, bank)
    outside = [j for j in range(12) if j not in (3, 0, 7)]
    for fraction, kept in ((None, 9), (0.3, 3)):
        wanted = 0.0
        for i, row in enumerate((3, 0, 7)):
            wanted += np.mean(sorted((s[i][j] for j in outside), reverse=True)[:kept]) - s[i][row]
        net.bank.copy_(bank)
        learner.set_params(hard_fraction=fraction)
        assert learner.loss(net, views).item() == pytest.approx(wanted / 3, rel=1e-4)


def test_only_the_rows_of_the_batch_move_towards_their_views():
    learner = tiny(momentum=0.7)
    net, views = built(learner)
    before = net.bank.clone()
    z, _ = cosines(net, views, before)
    learner.loss(net, views)
    moved = before.clone()
    moved[[3, 0, 7]] = normalize(0.7 * before[[3, 0, 7]] + 0.3 * z, dim=1)
    torch.testing.assert_close(net.bank, moved)
    torch.testing.assert_close(net.bank.norm(dim=1), torch.ones(12))


def test_gradient_reaches_encoder_and_head_but_not_the_bank():
    for options in ({}, {"hard_fraction": 0.2}, {"objective": "simple"}):
        learner = tiny(**options)
        net, views = built(learner)
        learner.loss(net, views).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.head.parameters())
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.encoder.parameters())
        assert not net.bank.requires_grad


def test_rows_of_the_bank_follow_the_images_and_not_their_order(images):
    """After an epoch with momentum 0 each row is the last view of its own image."""
    learner = tiny(steps=4, momentum=0.0, augment=lambda views, generator: views.float() / 255.0)
    seen = {}
    usual = learner.loss

    def loss(net, views):
        value = usual(net, views)
        seen.update({int(row): net.bank[row].clone() for row in views[1]})
        with torch.no_grad():
            expected = normalize(net.head(net.encoder(views[0])), dim=1)  # in training mode: the same batch statistics
        torch.testing.assert_close(torch.stack([seen[int(row)] for row in views[1]]), expected, rtol=1e-3, atol=1e-4)
        return value

    learner.loss = loss
    learner.fit(images)
    assert sorted(seen) == list(range(64))
    for row, vector in seen.items():
        torch.testing.assert_close(learner.net_.bank[row], vector)


def test_a_view_is_seen_once_and_names_its_rows(images):
    learner = tiny()
    source = learner.open(images, None)
    batch = source.batch(np.array([5, 2, 9]))
    views, rows = learner.views(batch, torch.Generator().manual_seed(0))
    assert views.shape == (3, 1, 16, 16)
    assert rows.tolist() == [5, 2, 9]


# The run ---------------------------------------------------------------------------------------------------------------


def test_save_load_and_clone(images, tmp_path):
    learner = tiny(objective="simple", hard_fraction=0.25).fit(images)
    assert learner.images_ == 64
    loaded = nolabel.load(learner.save(tmp_path / "run"))
    assert np.array_equal(loaded.transform(images), learner.transform(images))
    assert torch.equal(loaded.net_.bank, learner.net_.bank)
    assert loaded.neighbour_tolerance_ == learner.neighbour_tolerance_
    copy = clone(learner)
    assert not hasattr(copy, "images_")
    again = copy.fit(images)
    for name, value in learner.net_.state_dict().items():
        assert torch.equal(again.net_.state_dict()[name], value), name


def test_a_resumed_run_repeats_the_bank(images, tmp_path):
    whole = tiny(steps=8).fit(images)
    broken = tiny(steps=8).set_params(training__checkpoint_seconds=0.0)
    usual = broken.before_step

    def interrupt(net, clock):
        if clock.step == 6:
            raise RuntimeError("power cut")
        usual(net, clock)

    broken.before_step = interrupt
    with pytest.raises(RuntimeError, match="power cut"):
        broken.fit(images, run=tmp_path / "run")
    resumed = tiny(steps=8).fit(images, run=tmp_path / "run", resume=True)
    for name, value in whole.net_.state_dict().items():
        assert torch.equal(resumed.net_.state_dict()[name], value), name


def test_it_learns_the_images_by_heart(images):
    """After some epochs an image finds its own row of the bank among all rows."""
    learner = tiny(steps=100, temperature=0.1, augment=lambda views, generator: views.float() / 255.0)
    assert collapse_warnings(learner.set_params(training__lr=5e-3), images) == []
    z = normalize(torch.from_numpy(learner.transform(images, layer="embedding")), dim=1)
    right = (z @ learner.net_.bank.T).argmax(dim=1) == torch.arange(64)
    assert float(right.float().mean()) > 0.5  # chance is 1/64
    assert learner.neighbour_tolerance_ == pytest.approx(neighbour_tolerance(learner.net_.bank, 32))
    assert learner.neighbour_tolerance_ < 0.95


# Collapse --------------------------------------------------------------------------------------------------------------


def collapse_warnings(learner, images):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        learner.fit(images)
    return [str(warning.message) for warning in caught if "nearest half" in str(warning.message)]


def test_a_collapse_is_said_once(images):
    collapsing = tiny(steps=12, momentum=0.0)
    usual = collapsing.build

    def build(example):
        net = usual(example)
        torch.nn.init.zeros_(net.head[-1].weight)
        torch.nn.init.ones_(net.head[-1].bias)
        net.head[-1].requires_grad_(False)
        return net

    collapsing.build = build
    said = collapse_warnings(collapsing, images)  # three epochs and the end would have said it four times
    assert len(said) == 1
    assert "mean cosine 1.000" in said[0]
    assert collapsing.neighbour_tolerance_ == pytest.approx(1)


# Bad input -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"objective": "triplet"}, "objective must be 'info_nce' or 'simple', got 'triplet'"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"hard_fraction": 0.0}, r"hard_fraction must lie in \(0, 1\], got 0.0"),
        ({"hard_fraction": 1.2}, r"hard_fraction must lie in \(0, 1\], got 1.2"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"batch_size": 64}, "training.batch_size=64 leaves no image outside the batch as a negative"),
    ],
)
def test_bad_input(params, message, images):
    with pytest.raises(ValueError, match=message) as caught:
        tiny(**params).fit(images)
    assert "\n" not in str(caught.value)


def test_views_of_one_style_are_warned_of(images):
    """Batch norm would remove the style of the only view of a step."""
    with pytest.warns(UserWarning, match="InstanceDiscrimination passes views through its encoder one at a time"):
        tiny(augment="bss").fit(images)


def test_a_source_without_row_numbers_is_refused():
    with pytest.raises(ValueError, match="row numbers under 'row' for the bank, got image"):
        tiny().build({"image": torch.zeros(2, 1, 16, 16)})


def test_embeddings_that_are_not_finite_stop_the_run():
    learner = tiny()
    net, views = built(learner)
    torch.nn.init.constant_(net.head[-1].bias, math.nan)
    with pytest.raises(FloatingPointError, match="not finite: lower training.lr"):
        learner.loss(net, views)
