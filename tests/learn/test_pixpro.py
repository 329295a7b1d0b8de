import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.nn.functional import normalize

import nolabel
from nolabel.encoders.conv4 import Conv4
from nolabel.learn.pixpro import PixPro, rectangles
from nolabel.objectives.pixels import location_centres, pixel_contrast, pixel_positives, propagate
from nolabel.training import Training
from nolabel.training.clock import Clock
from nolabel.views import Augment


def tiny(steps=6, **params):
    settings = {"projection": (16, 8), "image_size": 16}
    settings |= {"training": Training(steps=steps, batch_size=16, precision="32-true", stop_on_collapse=False)}
    return PixPro("resnet8-x0.125-map4", **{**settings, **params})


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][:64]


def build(learner, channels=1, side=16):
    """A network in eval mode, and a target that differs from it."""
    learner.training_ = learner.training
    torch.manual_seed(0)
    net = learner.build({"image": torch.zeros(2, channels, side, side, dtype=torch.uint8)})
    with torch.no_grad():
        for weight in net.target.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return net.eval()


def pair(n=5, channels=1):
    generator = torch.Generator().manual_seed(1)
    crops = torch.rand(2, n, 2, generator=generator) * 0.4
    boxes = [torch.cat((start, start + 0.6), 1) for start in crops]
    boxes[1][:2] = boxes[1][:2][:, [2, 1, 0, 3]]  # two are mirrored
    return tuple((torch.rand(n, channels, 16, 16, generator=generator), box) for box in boxes)


def watch(learner, name, look):
    """Call `look` with the arguments of one of the learner's hooks before the hook runs."""
    usual = getattr(learner, name)

    def hook(*given):
        look(*given)
        return usual(*given)

    setattr(learner, name, hook)
    return learner


# The loss -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layers", "sharpness"), [(1, 2.0), (0, 1.0), (2, 3.0)])
def test_loss_by_hand(layers, sharpness):
    """Each view's propagated map against the other view's map from the target, both ways."""
    learner = tiny(transform_layers=layers, sharpness=sharpness, distance_threshold=0.9)
    net, views = build(learner), pair()
    (first, first_boxes), (second, second_boxes) = views
    online = [net.head(net.encoder.stages(x)["stage3"]) for x in (first, second)]
    target = [net.target.head(net.target.encoder.stages(x)["stage3"]) for x in (first, second)]
    assert online[0].shape == (5, 8, 4, 4)
    total = 0
    for query, key, boxes, others in (
        (online[0], target[1], first_boxes, second_boxes),
        (online[1], target[0], second_boxes, first_boxes),
    ):
        values = net.transformation(query) if layers else query
        x, v = (normalize(each.flatten(2), dim=1) for each in (query, values))
        y = normalize(torch.einsum("nij,ndj->ndi", torch.einsum("ndi,ndj->nij", x, x).relu() ** sharpness, v), dim=1)
        cosines = torch.einsum("ndi,ndj->nij", y, normalize(key.flatten(2), dim=1))
        hits = pixel_positives(boxes, others, (4, 4), (4, 4), threshold=0.9)
        total = total - 2 * torch.stack([c[h].mean() if h.any() else c.sum() * 0 for c, h in zip(cosines, hits)]).mean()
    torch.testing.assert_close(learner.loss(net, views), total, rtol=1e-4, atol=1e-5)


def test_contrast_is_averaged_over_both_ways_and_propagates_nothing():
    learner = tiny(objective="contrast", temperature=0.5, distance_threshold=0.9)
    net, views = build(learner), pair()
    assert not hasattr(net, "transformation")
    (first, first_boxes), (second, second_boxes) = views
    online = [net.head(net.encoder.stages(x)["stage3"]) for x in (first, second)]
    target = [net.target.head(net.target.encoder.stages(x)["stage3"]) for x in (first, second)]
    options = {"threshold": 0.9, "temperature": 0.5}
    one = pixel_contrast(online[0], target[1], first_boxes, second_boxes, **options)
    other = pixel_contrast(online[1], target[0], second_boxes, first_boxes, **options)
    torch.testing.assert_close(learner.loss(net, views), (one + other) / 2)


def test_instance_loss_by_hand():
    """Heads of its own, a predictor online only, pooled, minus twice the cosine both ways, weighted."""
    learner = tiny(instance_weight=0.5)
    net, views = build(learner), pair()
    terms = learner.loss(net, views)
    assert set(terms) == {"pixel", "instance"}
    online, target = [], []
    for x, _ in views:
        online.append(net.instance_predictor(net.instance_head(net.encoder.stages(x)["stage3"])).mean((2, 3)))
        target.append(net.target.instance_head(net.target.encoder.stages(x)["stage3"]).mean((2, 3)))
    cosines = [
        float(p @ t / p.norm() / t.norm())
        for i, j in ((0, 1), (1, 0))
        for p, t in zip(online[i].detach(), target[j].detach())
    ]
    assert float(terms["instance"].detach()) == pytest.approx(0.5 * -2 * sum(cosines) / 5, rel=1e-4)
    plain = tiny()
    net.instance_head = net.instance_predictor = None
    torch.testing.assert_close(terms["pixel"], plain.loss(net, views))


def test_gradient_reaches_all_but_the_target():
    learner = tiny(instance_weight=1.0)
    net, views = build(learner), pair()
    net.train()
    torch.stack(list(learner.loss(net, views).values())).sum().backward()
    for name, weight in net.named_parameters():
        if name.startswith("target."):
            assert weight.grad is None, name
            assert not weight.requires_grad
        else:
            assert weight.grad is not None, name
    for part in (net.encoder.stem, net.head[0], net.transformation[0], net.instance_predictor[0]):
        assert part.weight.grad.abs().max() > 0


def test_only_online_maps_are_propagated(monkeypatch):
    seen = []
    monkeypatch.setattr("nolabel.learn.pixpro.propagate", lambda x, **k: seen.append(x) or propagate(x, **k))
    learner = tiny()
    learner.loss(build(learner), pair())
    assert [x.requires_grad for x in seen] == [True, True]


# The target -----------------------------------------------------------------------------------------------------------


def weights(module):
    return [weight.detach().clone() for weight in module.parameters()]


def test_target_follows_before_its_features_are_computed(images):
    """At step k of T it moves with momentum 1 - (1 - m)(cos(pi k / T) + 1) / 2 towards what the last step left."""
    expected, rows = {}, []

    def before(net, clock):
        for name in ("encoder", "head"):
            if clock.step == 0:
                expected[name] = weights(net.target[name])
                for kept, online in zip(expected[name], weights(getattr(net, name)), strict=True):
                    assert torch.equal(kept, online)
            momentum = 1 - (1 - 0.8) * (math.cos(math.pi * clock.step / 6) + 1) / 2
            online = weights(getattr(net, name))
            expected[name] = [momentum * t + (1 - momentum) * o for t, o in zip(expected[name], online)]

    def seen(net, views):
        for name in ("encoder", "head"):
            for kept, wanted in zip(weights(net.target[name]), expected[name], strict=True):
                torch.testing.assert_close(kept, wanted, rtol=1e-4, atol=1e-6)
        rows.append(float((net.head[0].weight - net.target["head"][0].weight).detach().abs().max()))

    learner = watch(watch(tiny(ema_momentum=0.8), "before_step", before), "loss", seen)
    learner.fit(images)
    assert len(rows) == 6
    assert rows[0] == 0
    assert min(rows[1:]) > 0


def test_target_keeps_batch_norm_statistics_of_its_own(images):
    net = tiny().fit(images).net_
    online, target = net.encoder.norm, net.target["encoder"].norm
    assert int(target.num_batches_tracked) == int(online.num_batches_tracked) == 12  # two views in each of six steps
    learner = tiny()
    net, views = build(learner), pair()
    net.target.train()  # the online network stays in eval mode
    before = net.encoder.norm.running_mean.clone(), net.target["encoder"].norm.running_mean.clone()
    learner.loss(net, views)
    assert torch.equal(net.encoder.norm.running_mean, before[0])
    moved = net.target["encoder"].norm.running_mean.clone()
    assert not torch.equal(moved, before[1])
    learner.before_step(net, Clock(step=1, total_steps=4, fraction=0.25))
    assert torch.equal(net.target["encoder"].norm.running_mean, moved)


class PowerCut(Exception):
    pass


def test_resumed_is_unbroken_bit_by_bit(images, tmp_path):
    def run(cut=None, **fit):
        def look(net, clock):
            if clock.step == cut:
                raise PowerCut

        learner = tiny(instance_weight=1.0)
        learner.set_params(training__checkpoint_seconds=0)
        return watch(learner, "before_step", look).fit(images, **fit)

    unbroken = run()
    with pytest.raises(PowerCut):
        run(cut=3, run=tmp_path)
    resumed = run(run=tmp_path, resume=True)
    for (name, weight), other in zip(unbroken.net_.state_dict().items(), resumed.net_.state_dict().values()):
        assert torch.equal(weight, other), name
    figures = [
        [(row["step"], row["loss"], row["spread"]) for row in x.history_ if "loss" in row] for x in (unbroken, resumed)
    ]
    assert figures[0] == figures[1]
    loaded = nolabel.load(tmp_path)
    assert np.array_equal(loaded.transform_maps(images), unbroken.transform_maps(images))


# The views ------------------------------------------------------------------------------------------------------------


def test_rectangles_say_where_each_location_was():
    """In an image whose pixels hold their own place, a view's pixels are the centres of its rectangle's cells."""
    middle = (torch.arange(16) + 0.5) / 16
    image = torch.stack((middle.expand(16, 16), middle[:, None].expand(16, 16), torch.zeros(16, 16)))
    plain = Augment(area=(0.1, 0.5), flip_p=0.5, jitter_p=0.0, grey_p=0.0)
    batch = {"image": image.expand(40, -1, -1, -1)}
    for view, boxes in tiny(augment=plain).views(batch, torch.Generator().manual_seed(0)):
        assert view.shape == (40, 3, 16, 16)
        mirrored = boxes[:, 0] > boxes[:, 2]
        assert 5 < int(mirrored.sum()) < 35
        assert (boxes[:, 1] < boxes[:, 3]).all()
        found = view[:, :2].flatten(2).mT  # x and y of each pixel
        wanted = location_centres(boxes, (16, 16)).clamp(0.5 / 16, 15.5 / 16)  # beyond, the border is repeated
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-3)


def test_rectangles_of_images_that_are_not_square():
    augment = Augment(size=8, flip_p=1.0)
    view = augment.with_geometry(torch.rand(6, 3, 10, 20), torch.Generator().manual_seed(0))
    boxes = rectangles(view, 10, 20)
    y0, x0, y1, x1 = view.box.unbind(1)
    torch.testing.assert_close(boxes, torch.stack((x1 / 20, y0 / 10, x0 / 20, y1 / 10), 1))


def test_views_by_default():
    first, second = PixPro().two_recipes(48, channels=3)
    assert (first.area, second.area, first.size) == ((0.2, 1.0), (0.2, 1.0), 48)
    assert (first.blur_p, second.blur_p, first.solarise_p, second.solarise_p) == (1.0, 0.1, 0.0, 0.2)
    assert PixPro().two_recipes(224, channels=3)[0].area == (0.08, 1.0)
    grey, same = PixPro().two_recipes(28, channels=1)
    assert (grey.degrees, grey.flip_p, grey.jitter[2:]) == (0.0, 0.0, (0.0, 0.0))
    assert grey == same
    assert PixPro(augment="swav").two_recipes(32, channels=3)[1].area == (0.14, 1.0)


def test_views_follow_the_generator_and_differ():
    batch = {"image": torch.randint(0, 256, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()}
    runs = [tiny().views(batch, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    for (image, box), (again, same), (other, _) in zip(*runs):
        assert torch.equal(image, again)
        assert torch.equal(box, same)
        assert not torch.equal(image, other)
    assert not torch.equal(runs[0][0][1], runs[0][1][1])


# What it gives --------------------------------------------------------------------------------------------------------


def test_maps_and_vectors(images):
    learner = tiny(steps=2).fit(images)
    maps = learner.transform_maps(images)
    assert maps.shape == (64, 32, 4, 4)
    pixels = learner.open(images, None).batch(np.arange(64))["image"] / 255
    with torch.no_grad():
        expected = learner.net_.encoder.stages(pixels)["stage3"]
        projected = learner.net_.head(expected)
    np.testing.assert_allclose(maps, expected.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(learner.transform(images), maps.mean(axis=(2, 3)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        learner.transform_maps(images, layer="embedding"), projected.numpy(), rtol=1e-3, atol=1e-4
    )
    embedding = learner.transform(images, layer="embedding")
    np.testing.assert_allclose(embedding, projected.mean((2, 3)).numpy(), rtol=1e-3, atol=1e-4)
    assert learner.transform(images, layer="stage2", pool=2).shape == (64, 16 * 4)


@pytest.mark.parametrize("params", [{}, {"objective": "contrast"}, {"instance_weight": 1.0, "transform_layers": 0}])
def test_seed_save_and_clone(params, images, tmp_path):
    learner = tiny(steps=2, **params).fit(images)
    maps = learner.transform_maps(images)
    assert np.array_equal(clone(learner).fit(images).transform_maps(images), maps)
    loaded = nolabel.load(learner.save(tmp_path / "run"))
    assert np.array_equal(loaded.transform_maps(images), maps)
    assert loaded.get_params(deep=False).keys() == learner.get_params(deep=False).keys()
    other = tiny(steps=2, **params).set_params(training__random_state=1).fit(images)
    assert not np.array_equal(other.transform_maps(images), maps)


def test_history_tells_the_spread_and_the_total(images):
    learner = tiny(instance_weight=1.0).fit(images)
    rows = [row for row in learner.history_ if "loss" in row]
    assert len(rows) == 6
    for row in rows:
        assert row["loss"] == pytest.approx(row["pixel"] + row["instance"], rel=1e-5)
        assert -4 <= row["pixel"] <= 4
        assert 0 < row["spread"] <= 1
        assert 0 <= row["unpaired"] <= 1
    assert {"rankme", "embedding_rankme"} <= set(learner.history_[0])  # both layers are judged


def test_spread_by_hand():
    learner = tiny()
    net, ((first, first_boxes), (second, second_boxes)) = build(learner), pair()
    second_boxes = second_boxes.clone()
    second_boxes[0] = torch.tensor([5.0, 5.0, 6.0, 6.0])  # one image of five has no pair
    learner.loss(net, ((first, first_boxes), (second, second_boxes)))
    z = net.head(net.encoder.stages(first)["stage3"]).detach().permute(0, 2, 3, 1).reshape(-1, 8).numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    assert float(net.spread) == pytest.approx(z.std(axis=0, ddof=1).mean() * math.sqrt(8), rel=1e-4)
    assert float(net.unpaired) == pytest.approx(0.2)


@pytest.mark.parametrize("objective", ["propagation", "contrast"])
def test_it_learns(objective, digits):
    """On unseen images, what two crops share becomes easier to tell from what they do not, and nothing collapses."""
    options = {"projection": (64, 32), "image_size": 24, "objective": objective, "ema_momentum": 0.95}
    before, after = (
        PixPro("resnet8-x0.125-map6", training=Training(steps=steps, batch_size=32, lr=3e-3), **options).fit(
            digits[0][:400]
        )
        for steps in (1, 40)
    )
    gaps = []
    for learner in (before, after):
        batch = learner.open(digits[0][600:728], None).batch(np.arange(128))
        (first, one), (second, other) = learner.views(batch, torch.Generator().manual_seed(0))
        with torch.no_grad():
            z, w = (learner.net_.head(learner.net_.encoder.stages(x)["stage3"]) for x in (first, second))
            gaps.append(float(pixel_contrast(z, w, one, other)))
    assert gaps[1] < gaps[0] - 0.1
    losses = [row["loss"] for row in after.history_ if "loss" in row]
    assert losses[-1] < losses[0] - 0.3
    assert after.history_[-2]["spread"] > 0.3


# Alarms and bad input -------------------------------------------------------------------------------------------------


def test_a_collapse_of_the_projections_is_said_once(images):
    def flatten(net, clock):
        nn.init.zeros_(net.head[-1].weight)

    with pytest.warns(UserWarning, match="projections collapse") as caught:
        watch(tiny(), "before_step", flatten).fit(images)
    said = [str(w.message) for w in caught if "projections collapse" in str(w.message)]
    assert len(said) == 1
    assert "spread 0.000 at step 1, below 0.2: lower training.lr" in said[0]


def test_images_without_pairs_are_said_once(images):
    crumbs = Augment(area=(0.02, 0.03), flip_p=0.0)
    with pytest.warns(UserWarning, match="no positive pair") as caught:
        tiny(augment=crumbs).fit(images)
    said = [str(w.message) for w in caught if "no positive pair" in str(w.message)]
    assert len(said) == 1
    assert "of the images of a batch have no positive pair at step 1: enlarge the crops" in said[0]


def test_views_of_one_style_are_warned_of(images):
    """Batch norm would remove the style of each view, which passes alone."""
    with pytest.warns(UserWarning, match="PixPro passes views through its encoder one at a time: batch norm"):
        tiny(steps=1, augment=Augment(style="batch")).fit(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny(steps=1, augment=Augment(style="image", area=(0.5, 1.0))).fit(images)


def test_a_healthy_run_says_nothing(images):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tiny(steps=3).fit(images)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"objective": "byol"}, ValueError, "objective must be propagation or contrast, got 'byol'"),
        ({"distance_threshold": 0.0}, ValueError, "distance_threshold must be above 0, got 0.0"),
        ({"temperature": -1.0}, ValueError, "temperature must be above 0, got -1.0"),
        ({"sharpness": -0.5}, ValueError, "sharpness must be at least 0, got -0.5"),
        ({"transform_layers": -1}, ValueError, "transform_layers must be at least 0, got -1"),
        ({"instance_weight": math.nan}, ValueError, "instance_weight must be at least 0, got nan"),
        ({"ema_momentum": 1.5}, ValueError, r"ema_momentum must lie in \[0, 1\], got 1.5"),
        ({"augment": "centred"}, ValueError, "augment must not rotate: .* got degrees=15.0"),
        ({"augment": "centered"}, ValueError, "unknown views 'centered': did you mean centred"),
        ({"augment": lambda x, generator: x}, TypeError, "augment must be an Augment or the name of one, got function"),
        (
            {"augment": Augment(size=(16, 20))},
            ValueError,
            r"views must not be larger than the image, got size=\(16, 20\)",
        ),
        ({"encoder": nn.Flatten()}, ValueError, r"encoder must have feature maps \(stages\), got a module without"),
    ],
)
def test_bad_input(params, error, message, images):
    with pytest.raises(error, match=message) as caught:
        tiny(steps=1).set_params(**params).fit(images)
    assert "\n" not in str(caught.value)


def test_a_map_of_one_location_is_named(images):
    with pytest.raises(
        ValueError, match=r"feature map is 1x1: .* encoder output \(64, 8, 1, 1\) for images of 16x16\); reduce stride"
    ) as caught:
        tiny().set_params(encoder=Conv4((4, 4, 8, 8), channels=1)).fit(images)
    assert "\n" not in str(caught.value)


def test_bad_images(images):
    with pytest.raises(ValueError, match="cannot learn from 1 row"):
        tiny(training=None).fit(images[:1])
    broken = images / 255.0
    broken[3, 2, 2] = np.nan
    with pytest.raises(ValueError, match="NaN in row 3"):
        tiny().fit(broken)


def test_degenerate_rectangles_are_named():
    learner = tiny()
    net, (one, (second, boxes)) = build(learner), pair()
    boxes = boxes.clone()
    boxes[3, 2] = boxes[3, 0]
    with pytest.raises(ValueError, match="degenerate crop rectangle at index 3"):
        learner.loss(net, (one, (second, boxes)))
