import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.nn.functional import normalize

import nolabel
from nolabel.assess import knn_accuracy
from nolabel.learn.msn import MSN
from nolabel.objectives.assignments import assignment_agreement
from nolabel.training import Training
from nolabel.training.clock import Clock
from nolabel.views import Augment


def tiny(steps=6, **params):
    settings = {"prototypes": 8, "projection": (16, 6), "image_size": 16}
    settings |= {"training": Training(steps=steps, batch_size=16, precision="32-true", stop_on_collapse=False)}
    return MSN("resnet10-x0.125", **{**settings, **params})


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][:64]


def build(learner):
    """A network in eval mode, and a target that differs from it."""
    learner.training_ = learner.training
    torch.manual_seed(0)
    net = learner.build({"image": torch.zeros(2, 1, 16, 16)})
    with torch.no_grad():
        for weight in net.target.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return net.eval()


def seen(small=2):
    generator = torch.Generator().manual_seed(1)

    def view(side):
        return torch.rand(5, 1, side, side, generator=generator)

    return [view(16), view(16), *(view(10) for _ in range(small))], [view(16), view(16)]


# The loss -------------------------------------------------------------------------------------------------------------


def test_loss_by_hand():
    """Masked and small views from the online network against both whole views from the target."""
    learner = tiny(temperature=0.2, target_temperature=0.05, entropy_weight=0.5)
    net, (masked, whole) = build(learner), seen()
    terms = learner.loss(net, (masked, whole))
    prototypes = normalize(net.prototypes.weight, dim=1)
    anchors = [normalize(net.head(net.encoder(view)), dim=1) @ prototypes.T for view in masked]
    targets = [normalize(net.target(view), dim=1) @ prototypes.T for view in whole]
    agreement, unevenness = assignment_agreement(anchors, targets, temperature=0.2, target_temperature=0.05)
    torch.testing.assert_close(terms["agreement"], agreement, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["unevenness"], 0.5 * unevenness, rtol=1e-4, atol=1e-5)
    plain = tiny(temperature=0.2, target_temperature=0.05, sinkhorn_iterations=0).loss(net, (masked, whole))
    assert not torch.allclose(plain["agreement"], agreement)


def test_views_of_a_size_go_through_each_network_together():
    """In a pass of its own a view's style would be removed by batch norm."""
    learner, calls = tiny(), []
    net = build(learner)
    for name, encoder in (("online", net.encoder), ("target", net.target[0])):
        encoder.register_forward_pre_hook(lambda m, given, name=name: calls.append((name, *given[0].shape)))
    learner.loss(net, seen())
    assert calls == [("online", 10, 1, 16, 16), ("online", 10, 1, 10, 10), ("target", 10, 1, 16, 16)]


def test_gradient_reaches_all_but_the_target():
    learner = tiny()
    net = build(learner).train()
    torch.stack(list(learner.loss(net, seen()).values())).sum().backward()
    for name, weight in net.named_parameters():
        assert (weight.grad is None) == name.startswith("target."), name
    for weight in (net.encoder.stem.weight, net.head[0].weight, net.prototypes.weight):
        assert weight.grad.abs().max() > 0


def test_scores_that_are_not_finite_are_named():
    learner = tiny()
    net = build(learner)
    torch.nn.init.constant_(net.head[-1].weight, float("nan"))
    with pytest.raises(FloatingPointError, match="non-finite prototype scores: lower training.lr"):
        learner.loss(net, seen())


# The views ------------------------------------------------------------------------------------------------------------


def white(n=32, side=16, channels=1):
    return {"image": torch.full((n, channels, side, side), 255, dtype=torch.uint8)}


def test_large_views_are_masked_for_the_online_network_alone():
    nothing = Augment(jitter_p=0.0, grey_p=0.0)
    learner = tiny(mask_ratio=0.25, augment=nothing)
    anchors, targets = learner.views(white(), torch.Generator().manual_seed(0))
    assert [view.shape[-1] for view in anchors] == [16, 16, 10, 10]
    assert [view.shape[-1] for view in targets] == [16, 16]
    for view in (*targets, *anchors[2:]):
        torch.testing.assert_close(view, torch.ones_like(view), atol=1e-5, rtol=0)
    for view in anchors[:2]:  # 64 blocks of 2 x 2 pixels, of which 16 are hidden in every image
        torch.testing.assert_close((view == 0).float().mean((1, 2, 3)), torch.full((32,), 0.25))
    assert not torch.equal(anchors[0], anchors[1])
    unmasked, whole = tiny(mask_ratio=0.0, augment=nothing).views(white(), torch.Generator())
    assert all(torch.equal(a, b) for a, b in zip(unmasked, whole))


def test_views_follow_the_generator_and_the_crops():
    pixels = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    learner = tiny(crops=[[3, 12, [0.5, 1.0]], [1, 8, [0.1, 0.4]]])  # lists, as JSON gives them back
    first, again = (learner.views({"image": pixels}, torch.Generator().manual_seed(3)) for _ in range(2))
    assert [tuple(view.shape) for view in first[0]] == [(8, 3, 12, 12)] * 3 + [(8, 3, 8, 8)]
    assert all(torch.equal(a, b) for a, b in zip(first[0] + first[1], again[0] + again[1]))
    other = learner.views({"image": pixels}, torch.Generator().manual_seed(4))
    assert not torch.equal(first[1][0], other[1][0])


def test_with_batch_styles_each_view_has_one_look():
    """Flat images of many colours come out in one colour a view, another in the next; the target sees the same looks."""
    colours = torch.rand(12, 3, 1, 1, generator=torch.Generator().manual_seed(5)).expand(-1, -1, 16, 16)
    batch = {"image": (colours * 255).round().byte()}
    anchors, targets = tiny(augment="bss", mask_ratio=0.0).views(batch, torch.Generator().manual_seed(0))
    means = torch.stack([view.mean((2, 3)) for view in anchors])  # (views, 12, 3)
    assert (means - means[:, :1]).abs().max() < 0.02
    assert (means[0, 0] - means[1, 0]).abs().max() > 0.02
    assert all(torch.equal(a, t) for a, t in zip(anchors, targets))


# The target -----------------------------------------------------------------------------------------------------------


def test_target_follows_slowly_and_keeps_statistics_of_its_own(images):
    learner = tiny(momentum=0.9)
    net = build(learner)
    before = [weight.clone() for weight in net.target.parameters()]
    online = [weight.clone() for weight in (*net.encoder.parameters(), *net.head.parameters())]
    learner.after_step(net, Clock(steps_per_epoch=4, total_steps=10))
    for old, new, seen_online in zip(before, net.target.parameters(), online, strict=True):
        torch.testing.assert_close(new.detach(), 0.9 * old + 0.1 * seen_online)
    late = Clock(steps_per_epoch=4, total_steps=10)
    late.fraction = 1.0
    kept = [weight.clone() for weight in net.target.parameters()]
    learner.after_step(net, late)
    assert all(torch.equal(a, b) for a, b in zip(kept, net.target.parameters()))
    fitted = tiny().fit(images).net_

    def statistics(module):
        return next(buffer for name, buffer in module.named_buffers() if name.endswith("running_mean"))

    assert not torch.allclose(statistics(fitted.encoder), statistics(fitted.target[0]))


def test_prototypes_are_unit_vectors_before_each_step(images):
    learner, norms = tiny(), []
    usual = learner.loss
    learner.loss = lambda net, views: norms.append(net.prototypes.weight.detach().norm(dim=1)) or usual(net, views)
    learner.fit(images)
    assert len(norms) == 6
    for norm in norms:
        torch.testing.assert_close(norm, torch.ones(8))


# As an estimator ------------------------------------------------------------------------------------------------------


def test_seed_save_and_clone(images, tmp_path):
    learner = tiny(augment="bss").fit(images)
    z = learner.transform(images)
    assert np.array_equal(clone(tiny(augment="bss")).fit(images).transform(images), z)
    learner.save(tmp_path)
    assert np.array_equal(nolabel.load(tmp_path).transform(images), z)
    other = tiny(augment="bss").set_params(training__random_state=1).fit(images)
    assert not np.allclose(other.transform(images), z)
    assert {"agreement", "unevenness", "loss"} <= set(next(row for row in learner.history_ if "loss" in row))


class PowerCut(Exception):
    pass


def test_a_resumed_run_is_the_unbroken_one(images, tmp_path):
    def run(cut=None, **fit):
        learner = tiny(steps=4).set_params(training__checkpoint_seconds=0)
        usual = learner.before_step

        def before_step(net, clock):
            if clock.step == cut:
                raise PowerCut
            usual(net, clock)

        learner.before_step = before_step
        return learner.fit(images, **fit)

    unbroken = run()
    with pytest.raises(PowerCut):
        run(cut=2, run=tmp_path)
    resumed = run(run=tmp_path, resume=True)
    for (name, weight), other in zip(unbroken.net_.state_dict().items(), resumed.net_.state_dict().values()):
        assert torch.equal(weight, other), name


def test_it_learns(digits):
    """Digits are told apart better than before, and all prototypes are used."""
    images, labels = digits
    found = {}
    for steps, lr in ((1, 1e-9), (150, 5e-3)):
        settings = Training(steps=steps, batch_size=64, lr=lr, optimiser="adamw", random_state=0)
        learner = tiny(prototypes=20, crops=((2, 16, (0.5, 1.0)),), projection=(64, 32), momentum=0.9)
        learner.set_params(encoder="resnet8-x0.25", training=settings).fit(images[:800])
        z, held = learner.transform(images[:800]), learner.transform(images[800:1400])
        found[steps] = knn_accuracy(z, labels[:800], held, labels[800:1400], k=10)
    last = [row for row in learner.history_ if "loss" in row][-1]
    assert last["agreement"] < 0.75 * math.log(20)
    assert last["unevenness"] < 0.1
    assert found[150] > found[1] + 0.02


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"prototypes": 1}, "prototypes must be at least 2, got 1"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"target_temperature": -1.0}, "target_temperature must be above 0, got -1.0"),
        ({"target_temperature": 0.3}, "target_temperature must not be above temperature=0.1, got 0.3"),
        ({"sinkhorn_iterations": -1}, "sinkhorn_iterations must be at least 0, got -1"),
        ({"entropy_weight": -0.5}, "entropy_weight must be at least 0, got -0.5"),
        ({"mask_ratio": 1.0}, r"mask_ratio must lie in \[0, 1\), got 1.0"),
        ({"momentum": 1.2}, r"momentum must lie in \[0, 1\], got 1.2"),
        ({"crops": ((1, 16, (0.3, 1.0)), (4, 8, (0.1, 0.3)))}, "at least 2 large crops .*got 1"),
        ({"crops": ((2, 20, (0.3, 1.0)),)}, "crops must not be larger than the image: got 20 for side 16"),
        ({"augment": "bs"}, "unknown views 'bs': did you mean bss"),
    ],
)
def test_bad_input(params, message, images):
    with pytest.raises(ValueError, match=message) as caught:
        tiny(steps=1, **params).fit(images)
    assert "\n" not in str(caught.value)


def test_views_must_be_a_recipe(images):
    with pytest.raises(TypeError, match="augment must be an Augment or the name of one, got function"):
        tiny(steps=1, augment=lambda images, generator: images).fit(images)


def test_more_prototypes_than_rows_are_named(images):
    with pytest.warns(
        UserWarning, match="cannot use every prototype: the batch is 16, prototypes 30; lower prototypes"
    ):
        tiny(steps=1, prototypes=30).fit(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny(steps=1, prototypes=30, sinkhorn_iterations=0).fit(images)
        tiny(steps=1, prototypes=16).fit(images)
