"""Adaptation without a source: formulas by hand, what moves and what stays, and what is refused."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import nolabel
from nolabel.adapt import SourceFreeAdapter, adapt_bn_statistics
from nolabel.adapt.source_free import Adaptation, affine_distance, transferability
from nolabel.encoders.batch_norm import statistics
from nolabel.learn import ImageClassifier
from nolabel.learn.image_segmenter import ImageSegmenter
from nolabel.training import Training
from nolabel.training.clock import Clock


class Tiny(nn.Module):
    """A segmenter of two layers with one or more outputs."""

    def __init__(self, outputs=2, affine=True):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4, affine=affine)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Conv2d(4, outputs, 1)

    def forward(self, x):
        return self.last(self.drop(torch.relu(self.norm(self.conv(x)))))


def tiny(**how):
    torch.manual_seed(0)
    net = Tiny(**how).train()
    for _ in range(30):
        net(torch.rand(16, 1, 6, 6))
    return net.eval()


def maps(n=24, seed=1, scale=0.3, shift=0.5):
    return torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed)) * scale + shift


def adapter(model, steps=6, **params):
    training = Training(**{"steps": steps, "batch_size": 8, "random_state": 0, **params.pop("training", {})})
    return SourceFreeAdapter(model, training=training, **params)


def in_training(model, **params):
    """An adapter and its network as they are within a step."""
    made = adapter(model, **params)
    net = made.build({"image": maps(2)})
    net.share, net.entropy_weight = 0.0, 0.5
    return made, net


# Formulas ---------------------------------------------------------------------------------------------------------------


def test_transferability_by_hand_over_layers_of_different_width():
    source = {
        "a": (torch.tensor([1.0, 0.0]), torch.tensor([4.0, 1.0])),
        "b": (torch.tensor([2.0]), torch.tensor([3.0])),
    }
    target = {
        "a": (torch.tensor([0.5, 2.0]), torch.tensor([1.0, 1.0])),
        "b": (torch.tensor([2.0]), torch.tensor([0.0])),
    }
    found = transferability(source, target, {"a": 0.0, "b": 1.0})
    raw = np.array([1 / (1 + 0), 1 / (1 + 2), 1 / (1 + abs(2 / 2 - 2 / 1))])  # 1/2 of 1 sd and 1/2; 0 and 2; 1 and 2
    np.testing.assert_allclose(torch.cat(list(found.values())), 3 * raw / raw.sum(), rtol=1e-6)
    assert torch.cat(list(found.values())).mean().item() == pytest.approx(1.0)
    same = transferability(source, source, {"a": 0.0, "b": 0.0})
    np.testing.assert_allclose(torch.cat(list(same.values())), 1.0, rtol=1e-6)


def test_affine_distance_by_hand():
    layer = nn.BatchNorm1d(2)
    layer.weight.data, layer.bias.data = torch.tensor([1.5, 1.0]), torch.tensor([0.0, -2.0])
    other = nn.BatchNorm1d(1)
    source = {
        "a": {"weight": torch.ones(2), "bias": torch.zeros(2)},
        "b": {"weight": torch.ones(1), "bias": torch.ones(1)},
    }
    layers = {"a": layer, "b": other}
    assert affine_distance(layers, source, None).item() == pytest.approx((0.5 + 2.0 + 1.0) / 3)
    weights = {"a": torch.tensor([1.0, 0.5]), "b": torch.tensor([3.0])}
    loss = affine_distance(layers, source, weights)
    assert loss.item() == pytest.approx((2 * 0.5 + 1.5 * 2.0 + 4 * 1.0) / 3)
    loss.backward()
    torch.testing.assert_close(layer.weight.grad, torch.tensor([2 / 3, 0.0]))  # no pull where nothing moved
    torch.testing.assert_close(layer.bias.grad, torch.tensor([0.0, -1.5 / 3]))


def test_schedules():
    made, net = in_training(tiny(), source_share=0.8, decay_steps=4.0, entropy_weight=10.0)
    for step, fraction in ((0, 0.0), (3, 0.25), (11, 0.9)):
        made.before_step(net, Clock(step=step, fraction=fraction))
        assert net.share == pytest.approx(0.8 * math.exp(-step / 4))
        assert net.entropy_weight == pytest.approx(10 * (1 - fraction))
    assert made.share(math.inf) == 0
    made.decay_steps = math.inf
    assert made.share(5) == made.share(math.inf) == 0.8


def test_the_loss_is_both_terms():
    made, net = in_training(tiny())
    net.model.norm.bias.data[1] += 0.25
    x = maps(8)
    terms = made.loss(net, x)
    hidden = net.model.conv(x)
    mean, variance = hidden.mean(dim=(0, 2, 3)), hidden.transpose(0, 1).flatten(1).var(dim=1)
    torch.testing.assert_close(
        net.model.norm.running_mean, mean.detach()
    )  # the first batch sets the target's statistics
    torch.testing.assert_close(net.model.norm.running_var, variance.detach())
    norm = net.model.norm
    z = (hidden - mean[:, None, None]) / (variance + norm.eps).sqrt()[:, None, None]
    logits = net.model.last(torch.relu(z * norm.weight[:, None, None] + norm.bias[:, None, None]))
    p = logits.softmax(dim=1)
    assert terms["entropy"].item() == pytest.approx(0.5 * -(p * (p + 1e-5).log()).sum(dim=1).mean().item(), rel=1e-5)
    eps = norm.eps
    start = net.source["norm"]
    distance = (start[0] / (start[1] + eps).sqrt() - mean / (variance + eps).sqrt()).abs()
    raw = 1 / (1 + distance)
    weight = (4 * raw / raw.sum())[1].item()
    assert terms["high_order"].item() == pytest.approx((1 + weight) * 0.25 / 4, rel=1e-5)
    made.weigh_channels = False
    assert made.loss(net, x)["high_order"].item() == pytest.approx(0.25 / 4)


def test_gradients_reach_what_is_trained_and_nothing_else():
    for trainable, expected in (("bn", {"norm.weight", "norm.bias"}), ("all", None)):
        made, net = in_training(tiny(), trainable=trainable)
        sum(made.loss(net, maps(8)).values()).backward()
        moved = {name for name, weight in net.model.named_parameters() if weight.grad is not None}
        assert moved == (expected or {name for name, _ in net.model.named_parameters()})
    made, net = in_training(tiny(), trainable="all")
    made.loss(net, maps(8))["high_order"].backward()
    assert net.model.conv.weight.grad is None  # transferability has no gradient
    assert not net.transferability["norm"].requires_grad


def test_dropout_and_other_layers_rest_and_buffers_move_once():
    made, net = in_training(tiny())
    assert not net.train().model.drop.training
    first = made.loss(net, maps(8))["entropy"]
    assert torch.equal(first, made.loss(net, maps(8))["entropy"])
    one = statistics(net.layers)["norm"][0]
    made.loss(net, maps(8, seed=5, shift=2.0))
    with torch.no_grad():
        batch = net.model.conv(maps(8, seed=5, shift=2.0)).mean(dim=(0, 2, 3))
    torch.testing.assert_close(statistics(net.layers)["norm"][0], 0.9 * one + 0.1 * batch)
    assert net.told.sum() == 3 * 8 * 36
    assert sum(net.shares()) == pytest.approx(1.0)
    assert net.told.sum() == 0


# Statistics alone -------------------------------------------------------------------------------------------------------


def test_statistics_of_the_target_in_one_pass():
    model, x = tiny(), maps(21)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapted = adapt_bn_statistics(model, x, batch_size=5)
    hidden = model.conv(x).detach()
    torch.testing.assert_close(adapted.norm.running_mean, hidden.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(adapted.norm.running_var, hidden.transpose(0, 1).flatten(1).var(dim=1))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    half = adapt_bn_statistics(model, x.numpy(), 0.5)
    torch.testing.assert_close(half.norm.running_mean, 0.5 * model.norm.running_mean + 0.5 * adapted.norm.running_mean)
    fading = adapt_bn_statistics(model, x, lambda k: 1.0 if k == 0 else 0.0, batch_size=10)
    torch.testing.assert_close(fading.norm.running_mean, adapted.norm.running_mean)
    kept = adapt_bn_statistics(model, x, 1.0)
    torch.testing.assert_close(kept(x), model(x))


def test_none_trains_nothing_and_is_the_same_as_the_function():
    model, x = tiny(), maps()
    made = adapter(model, trainable="none", training={"steps": None}).fit(x)
    function = adapt_bn_statistics(model, x, batch_size=8)
    for name, value in made.model_.state_dict().items():
        torch.testing.assert_close(value, function.state_dict()[name])
        if "running" not in name:
            assert torch.equal(value, model.state_dict()[name]), name
    assert made.class_shares_ == []


def test_rows_in_order_of_class_are_mixed():
    net = nn.Sequential(nn.BatchNorm1d(2), nn.ReLU(), nn.BatchNorm1d(2), nn.Linear(2, 2))
    x = torch.cat([torch.zeros(64, 2), torch.ones(64, 2)]) + 0.1 * torch.randn(128, 2, generator=torch.Generator())
    one = adapt_bn_statistics(net, x, batch_size=128)
    mixed = adapt_bn_statistics(net, x, batch_size=16)
    torch.testing.assert_close(mixed[2].running_mean, one[2].running_mean, atol=0.1, rtol=0)
    assert (
        adapt_bn_statistics(net, x, batch_size=16, random_state=1)[2].running_mean.tolist()
        != mixed[2].running_mean.tolist()
    )


# The whole method -------------------------------------------------------------------------------------------------------


def test_only_scales_and_shifts_move_by_default():
    model, x = tiny(), maps()
    made = adapter(model).fit(x)
    for name, value in made.model_.state_dict().items():
        same = torch.equal(value, model.state_dict()[name])
        assert same is (not name.startswith("norm") or "tracked" in name), name
    assert all(weight.requires_grad for weight in made.model_.parameters())
    everything = adapter(model, trainable="all", training={"optimiser": "sgd"}).fit(x)
    assert not torch.equal(everything.model_.conv.weight, model.conv.weight)


def test_answers_shares_and_history():
    made = adapter(tiny(outputs=3), steps=40).fit(maps())
    p, found = made.predict_proba(maps(5)), made.predict(maps(5))
    assert p.shape == (5, 3, 6, 6)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(p.argmax(axis=1), found)
    with torch.no_grad():
        assert np.array_equal(
            made.model_.eval()(maps(5)).argmax(dim=1), found
        )  # the model that is handed on is the same
    assert made.score(maps(5), found) == 1.0
    everywhere = made.predict(maps())
    np.testing.assert_allclose(made.shares_, np.bincount(everywhere.ravel(), minlength=3) / everywhere.size)
    with torch.no_grad():
        source = tiny(outputs=3)(maps()).argmax(dim=1).numpy()
    np.testing.assert_allclose(made.shares_before_, np.bincount(source.ravel(), minlength=3) / source.size)
    assert [row["step"] for row in made.class_shares_] == list(range(2, 41, 2))
    assert all(sum(row["shares"]) == pytest.approx(1.0) for row in made.class_shares_)
    assert list(made.transferability_) == ["norm"]
    assert made.transferability_["norm"].mean() == pytest.approx(1.0)
    assert {"entropy", "high_order"} <= set().union(*made.history_)


def test_the_moving_average_instead_of_a_last_pass():
    made = adapter(tiny(), recompute_statistics=False, steps=1, training={"batch_size": 24}).fit(maps())
    whole = adapt_bn_statistics(tiny(), maps(), batch_size=24)
    torch.testing.assert_close(made.model_.norm.running_mean, whole.norm.running_mean)  # one batch of all rows
    kept = adapter(
        tiny(), recompute_statistics=False, steps=1, source_share=0.5, decay_steps=math.inf, training={"batch_size": 24}
    ).fit(maps())
    expected = 0.5 * tiny().norm.running_mean + 0.5 * whole.norm.running_mean
    torch.testing.assert_close(kept.model_.norm.running_mean, expected)


def test_one_output_is_the_second_of_two_classes():
    model, x = tiny(outputs=1), maps()
    made = adapter(model, trainable="none").fit(x)
    p = made.predict_proba(x)
    assert p.shape == (24, 2, 6, 6)
    with torch.no_grad():
        second = made.model_.eval()(x).sigmoid().numpy()
    np.testing.assert_allclose(p[:, 1:], second, atol=1e-6)
    assert made.classes_.tolist() == [0, 1]
    assert adapter(model).fit(x).shares_.shape == (2,)


@pytest.mark.parametrize("dimensions", [1, 3])
def test_classifiers_of_features_and_volumes(dimensions):
    torch.manual_seed(0)
    if dimensions == 1:
        net, x = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), torch.rand(20, 5)
    else:
        net = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 3, 1))
        x = torch.rand(10, 1, 4, 4, 4)
    made = adapter(net, steps=4, training={"batch_size": 4}).fit(x)
    shape = (20, 3) if dimensions == 1 else (10, 3, 4, 4, 4)
    assert made.predict_proba(x).shape == shape
    assert made.score(x, made.predict(x)) == 1.0


def test_seeds_saving_and_clones(tmp_path):
    model, x = tiny(), maps()
    made = adapter(model).fit(x)
    again = clone(made)
    assert not again._learned()
    assert np.array_equal(again.fit(x).predict_proba(x), made.predict_proba(x))
    other = adapter(model, training={"random_state": 1}).fit(x)
    assert not np.array_equal(other.predict_proba(x), made.predict_proba(x))
    folder = made.save(tmp_path / "run")
    back = nolabel.load(folder, model=model)
    assert np.array_equal(back.predict_proba(x), made.predict_proba(x))
    np.testing.assert_array_equal(back.transferability_["norm"], made.transferability_["norm"])
    assert back.class_shares_ == made.class_shares_
    with pytest.raises(ValueError, match="pass it again"):
        nolabel.load(folder)


def test_it_goes_on_after_an_interruption(tmp_path):
    model, x = tiny(), maps()
    whole = adapter(model, steps=20).fit(x)
    cut = adapter(model, steps=20)
    usual = cut.after_step

    def after_step(net, clock):
        usual(net, clock)
        if clock.step == 11:
            raise KeyboardInterrupt

    cut.after_step = after_step
    saving = {"checkpoint_seconds": 0.0}
    cut.training.set_params(**saving)
    with pytest.raises(KeyboardInterrupt):
        cut.fit(x, run=tmp_path)
    resumed = adapter(model, steps=20).fit(x, run=tmp_path, resume=True)
    np.testing.assert_allclose(resumed.predict_proba(x), whole.predict_proba(x), atol=1e-6)
    assert resumed.class_shares_ == whole.class_shares_


# Estimators of the library ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier(digits):
    images, labels = digits
    return ImageClassifier(
        "conv4-growing-x0.25", image_size=16, training=Training(epochs=8, batch_size=32, random_state=0)
    ).fit(images[:400], labels[:400])


def pale(images):
    return (120 + images * 0.25).astype(np.uint8)


def test_a_classifier_gets_back_what_a_change_of_contrast_took(classifier, digits, tmp_path):
    images, labels = pale(digits[0][400:700]), digits[1][400:700]
    before = classifier.score(images, labels)
    made = adapter(classifier, steps=20, training={"batch_size": 32}).fit(images)
    assert made.score(images, labels) > before + 0.3
    assert isinstance(made.model_, ImageClassifier)
    assert np.array_equal(made.model_.predict(images), made.predict(images))
    assert classifier.score(images, labels) == before
    back = nolabel.load(made.save(tmp_path / "adapter"))
    assert np.array_equal(back.predict_proba(images), made.predict_proba(images))
    alone = nolabel.load(made.model_.save(tmp_path / "model"))
    assert np.array_equal(alone.predict(images), made.predict(images))
    assert alone.fingerprint_ == made.fingerprint_
    statistics_alone = adapt_bn_statistics(classifier, images)
    assert statistics_alone.score(images, labels) > before + 0.3
    with pytest.raises(ValueError, match="y: labels were expected to score against"):
        made.score(images)
    with pytest.raises(ValueError, match=r"y: shape \(300,\) was expected"):
        made.score(images, labels[:5])


def test_a_segmenter_on_darker_images():
    rng = np.random.default_rng(0)
    images = rng.integers(90, 120, (40, 12, 20)).astype(np.uint8)
    masks = np.zeros((40, 12, 20), np.uint8)
    for row in range(40):
        y, x = rng.integers(0, 6), rng.integers(0, 12)
        images[row, y : y + 6, x : x + 8] += 70
        masks[row, y : y + 6, x : x + 8] = 4
    training = Training(steps=60, batch_size=8, lr=5e-3, random_state=0)
    model = ImageSegmenter((6, 8), training=training).fit(images, masks)
    dark = (images * 0.3).astype(np.uint8)
    before = model.score(dark, masks)
    made = adapter(model, steps=15).fit(dark)
    assert isinstance(made.model_, ImageSegmenter)
    assert made.model_.score(dark, masks) > before + 0.2
    assert made.score(dark, masks) == made.model_.judged(dark, masks).mean_dice
    assert made.classes_.tolist() == [0, 4]
    assert np.array_equal(made.predict(dark), made.model_.predict(dark))
    assert next(iter(made.transferability_)).startswith("encoder.down.0")


# What is told and refused -----------------------------------------------------------------------------------------------


def test_a_class_that_vanishes_is_named():
    model = tiny(outputs=2)
    made = SourceFreeAdapter(
        model, trainable="all", entropy_weight=1e3, training=Training(steps=60, batch_size=8, lr=0.05, random_state=0)
    )
    with torch.no_grad():
        model.last.bias += model(maps()).transpose(0, 1).flatten(1).median(dim=1).values.flip(0)  # both classes, unsure
    with pytest.warns(UserWarning, match=r"hardly says any more: [01] \(\d+\.\d+% to 0\.\d+%\).*trainable='none'"):
        made.fit(maps())


def test_terms_out_of_balance_are_told():
    with pytest.warns(UserWarning, match="entropy was .* times high_order on average: change entropy_weight"):
        adapter(tiny(), entropy_weight=1e5).fit(maps())


def test_layers_without_scale_and_shift():
    model, x = tiny(affine=False), maps()
    with pytest.raises(ValueError, match="trainable='bn': no batch norm of the model has a scale and a shift"):
        adapter(model).fit(x)
    with pytest.warns(UserWarning, match=r"1 of 1 batch norm layers have no scale and shift \(affine=False\)"):
        made = adapter(model, trainable="all").fit(x)
    assert "high_order" not in set().union(*made.history_)
    assert adapter(model, trainable="none").fit(x).shares_.sum() == pytest.approx(1.0)


def no_norm():
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.GroupNorm(1, 2))


def forgetful():
    return nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Conv2d(1, 2, 1))


def flat():
    return nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(2))


@pytest.mark.parametrize("trainable", ["bn", "none"])
@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (no_norm, maps(), "expected batch norm layers, found only GroupNorm"),
        (forgetful, maps(), "has track_running_stats=False"),
        (flat, maps(), r"logits \(n, k\), \(n, k, h, w\) or, of volumes, .* were expected, got \(2, 1, 36\)"),
        (tiny, torch.rand(8, 3, 6, 6), r"the model refuses inputs of shape \(2, 3, 6, 6\): .*channels"),
        (tiny, maps(1), "cannot learn from 1 row"),
        (tiny, torch.full((4, 1, 6, 6), float("nan")), "NaN or infinite values in 4 of 4 rows, the first is row 0"),
        (tiny, torch.rand(8), r"inputs of a network \(n, c, ...\) were expected, got shape \(8,\)"),
    ],
)
def test_networks_and_inputs_that_do_not_fit(model, x, message, trainable):
    with pytest.raises(ValueError, match=message), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        SourceFreeAdapter(model(), trainable=trainable).fit(x)


def test_a_batch_without_variance():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"has 1 value a channel: the variance needs 2 and more; give a larger batch"):
        adapter(net, training={"batch_size": 1}).fit(torch.rand(6, 3))
    with pytest.raises(ValueError, match="X: at least 2 rows were expected, got 1"):
        adapt_bn_statistics(net, torch.rand(1, 3))
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        adapt_bn_statistics(net, torch.rand(4, 3), batch_size=0)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"model": None}, TypeError, "model must be a fitted ImageSegmenter or ImageClassifier, or an nn.Module"),
        ({"model": "unet"}, TypeError, "got str"),
        ({"trainable": "some"}, ValueError, "trainable must be one of bn, all, none, got 'some'"),
        ({"trainable": "none", "recompute_statistics": False}, ValueError, "it needs recompute_statistics=True"),
        ({"source_share": 1.5}, ValueError, r"source_share must lie in \[0, 1\], got 1.5"),
        ({"decay_steps": 0}, ValueError, "decay_steps must be above 0, got 0"),
        ({"entropy_weight": -1.0}, ValueError, "entropy_weight must be at least 0 and finite, got -1.0"),
        ({"entropy_weight": math.inf}, ValueError, "entropy_weight must be at least 0 and finite, got inf"),
    ],
)
def test_bad_parameters(params, error, message):
    with pytest.raises(error, match=message):
        SourceFreeAdapter(**{"model": tiny(), **params}).fit(maps())


def test_models_that_are_not_fitted_and_texts():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        SourceFreeAdapter(ImageClassifier()).fit(np.zeros((4, 8, 8), np.uint8))
    with pytest.raises(NotFittedError):
        SourceFreeAdapter(tiny()).predict(maps())
    with pytest.raises(TypeError, match="X: numbers .* were expected, got list"):
        SourceFreeAdapter(tiny()).fit(["a", "b"])


def test_what_is_kept_of_the_source_is_a_copy():
    net = Adaptation(tiny(), "bn", 2)
    kept = net.source_affine["norm"]["weight"]
    with torch.no_grad():
        net.model.norm.weight += 1
    assert not torch.equal(kept, net.model.norm.weight)
    assert not kept.requires_grad
    with pytest.raises(ValueError, match="X: NaN or infinite"):
        SourceFreeAdapter(tiny()).fit(torch.full((4, 1, 6, 6), float("inf")))
