import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import nolabel.learn.sepclr as module
from nolabel.assess import linear_probe
from nolabel.learn.sepclr import SepCLR
from nolabel.objectives.alignment_uniformity import alignment, uniformity
from nolabel.objectives.separation import euclidean_uniformity, supervised_alignment
from nolabel.training import Training
from nolabel.views import Augment

VIEW = Augment(area=(0.7, 1.0), flip_p=0.0, jitter=(0.2, 0.0, 0.0, 0.0), grey_p=0.0)


def scenes(rows, target, seed=0, side=16):
    """One quarter of every image is bright (common); in the target a line crosses it, lying, standing or slanting."""
    rng = np.random.default_rng(seed)
    images = rng.normal(70, 10, (rows, side, side))
    quarter, line = rng.integers(0, 4, rows), rng.integers(0, 3, rows)
    half = side // 2
    for i in range(rows):
        y, x = divmod(int(quarter[i]), 2)
        images[i, y * half : (y + 1) * half, x * half : (x + 1) * half] += 60
        at = rng.integers(3, side - 3)
        if target:
            if line[i] == 0:
                images[i, at : at + 2] = 230
            elif line[i] == 1:
                images[i, :, at : at + 2] = 230
            else:
                diagonal = np.arange(side)
                images[i, diagonal, diagonal[::-1]] = 230
    if not target:  # as bright as the target
        images += 17
    return images.clip(0, 255).astype(np.uint8), quarter, line


def tiny(**params):
    settings = {"common_dim": 6, "salient_dim": 4, "projection": (16, 8), "image_size": 16}
    return SepCLR("resnet10-x0.125", **{**settings, "training": Training(steps=2, batch_size=16), **params})


@pytest.fixture(scope="module")
def data():
    return {"background": scenes(60, False)[0], "target": scenes(48, True)[0]}


@pytest.fixture(scope="module")
def fitted(data):
    return tiny().fit(data)


class Bare(nn.Module):
    """Networks whose every output is a known linear map of nine pixels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.salient_encoder = nn.Flatten(), nn.Flatten()
        self.common, self.salient = nn.Linear(9, 5), nn.Linear(9, 4)
        self.common_head, self.salient_head = nn.Linear(5, 3), nn.Linear(4, 2)


@pytest.mark.parametrize(("pull", "pull_salient"), [(10.0, None), (3.0, 40.0), (0.0, 0.0)])
def test_loss_by_hand(pull, pull_salient):
    """Every term from loops over the rows, with the null vector written into a copy as the method says."""
    net, n, t = Bare(), 6, 1 / (2 * 0.4)
    images = torch.rand(4 * n, 1, 3, 3)  # target, background, target again, background again
    options = {"salient_weight": 7.0, "null_weight": 5.0, "temperature": 0.4}
    learner = tiny(independence_weight=pull, independence_weight_salient=pull_salient, **options)
    terms = learner.loss(net, (images, {}))
    flat = images.flatten(1)
    c = nn.functional.normalize(net.common_head(net.common(flat)), dim=1).view(2, 2 * n, 3)
    s = net.salient_head(net.salient(flat)).view(2, 2 * n, 2)
    null = s.clone()
    null[:, n:] = 0
    common = t * alignment(c[0], c[1]) + uniformity(c[0], t=t) + uniformity(c[1], t=t)
    torch.testing.assert_close(terms["common"], common)
    apart = sum((s[0, i] - s[1, i]).square().sum() * t for i in range(n)) / n
    for v in range(2):
        pairs = [torch.exp(-t * (null[v, i] - null[v, j]).square().sum()) for i in range(2 * n) for j in range(i)]
        apart = apart + torch.log(torch.stack(pairs).mean())
    torch.testing.assert_close(terms["salient"], 7.0 * apart)
    torch.testing.assert_close(terms["null"], 5.0 * t * s[:, n:].square().sum(2).mean())
    if pull == 0:
        assert "independence" not in terms
        return
    own = pull if pull_salient is None else pull_salient
    rows = []
    for v in range(2):
        for i in range(2 * n):
            likes = [
                torch.exp(-t * ((c[v, i] - c[v, j]).square().sum() + (null[v, i] - null[v, j]).square().sum()))
                for j in range(2 * n)
            ]
            rows.append(torch.log(torch.stack(likes).mean()))
    joint = torch.stack(rows).mean()
    assert joint < 0
    torch.testing.assert_close(terms["independence"], (pull + own) * joint)  # told once for each network
    by_part = {"common": pull, "salient": own}
    for part, weight in by_part.items():  # each network is pulled with its own weight
        mine = getattr(net, f"{part}_head").weight
        (got,) = torch.autograd.grad(terms["independence"], mine, retain_graph=True)
        (expected,) = torch.autograd.grad(weight * joint, mine, retain_graph=True)
        torch.testing.assert_close(got, expected)


def test_gradient_reaches_what_each_term_is_about():
    net = Bare()
    terms = tiny().loss(net, (torch.rand(24, 1, 3, 3), {}))
    weights = {"common": net.common.weight, "salient": net.salient.weight}
    for term, parts in (
        ("common", {"common"}),
        ("salient", {"salient"}),
        ("null", {"salient"}),
        ("independence", {"common", "salient"}),
    ):
        for part, weight in weights.items():
            (gradient,) = torch.autograd.grad(terms[term], weight, retain_graph=True, allow_unused=True)
            assert (gradient is not None and bool(gradient.abs().sum() > 0)) == (part in parts), (term, part)


def test_background_rows_are_pulled_to_null_but_not_spread():
    """The salient terms see the background as 0: no gradient into its rows; the null term sees it alone."""
    learner, z = tiny(), torch.randn(5, 4, requires_grad=True)
    loss = learner.salient_loss(z, z.detach() + 0.1, 5, {})
    (gradient,) = torch.autograd.grad(loss, z)
    assert (gradient.abs().sum(1) > 0).all()
    alone = learner.salient_loss(z, z, 0, {})
    torch.testing.assert_close(alone, 2 * euclidean_uniformity(z))
    near, far = 0.1 * torch.ones(2, 4), torch.ones(2, 4)
    assert learner.salient_loss(far, far, 5, {}) < learner.salient_loss(near, near, 5, {}) - 0.5  # away from 0


def test_views_and_plan(data):
    learner = tiny(augment=lambda x, generator: x.float() / 255)
    batch = {name: {"image": torch.from_numpy(x[:3, None].copy())} for name, x in data.items()}
    images, columns = learner.views(batch, torch.Generator())
    assert columns == {}
    expected = torch.cat([batch["target"]["image"], batch["background"]["image"]]) / 255
    assert torch.equal(images, torch.cat([expected, expected]))
    source = learner.open(data, None)
    plan = learner.plan(source, 16, np.random.default_rng(0))
    assert len(plan) == 60 // 16
    assert all(len(rows[name]) == 16 for rows in plan for name in ("target", "background"))
    few = learner.plan(learner.open({**data, "target": data["target"][:9]}, None), 16, np.random.default_rng(0))
    assert all(len(set(rows["target"].tolist())) == 9 for rows in few)  # none repels itself


def test_default_views_keep_a_fifth_of_the_image(data, monkeypatch):
    areas = []
    real = module.standard
    monkeypatch.setattr(module, "standard", lambda side, channels: areas.append(channels) or real(side, 3))
    batch = {name: {"image": torch.from_numpy(x[:8, None].copy())} for name, x in data.items()}
    seen = []
    monkeypatch.setattr(Augment, "__call__", lambda self, x, g: seen.append(self.area) or x.float() / 255)
    tiny().views(batch, torch.Generator())
    assert areas == [1]
    assert seen == [(0.2, 1.0)] * 2


def test_parts_layers_and_score(data, fitted, tmp_path):
    images = data["target"]
    both = fitted.transform(images)
    common, salient = (fitted.transform(images, part=part) for part in ("common", "salient"))
    assert (common.shape, salient.shape) == ((48, 6), (48, 4))
    np.testing.assert_allclose(both, np.concatenate([common, salient], axis=1), atol=1e-5)
    embedded = fitted.transform(images, part="salient", layer="embedding")
    with torch.no_grad():
        expected = fitted.net_.salient_head(torch.from_numpy(salient)).numpy()
    np.testing.assert_allclose(embedded, expected, rtol=0.05, atol=0.02)  # bfloat16 where hardware has it
    np.testing.assert_allclose(fitted.salience_score(images), np.linalg.norm(embedded, axis=1), rtol=1e-5)
    stage = fitted.transform(images, layer="stage2")
    np.testing.assert_allclose(
        stage, fitted.transform_maps(images, layer="stage2").mean(axis=(2, 3)), rtol=0.02, atol=0.002
    )
    assert not np.array_equal(stage, fitted.transform(images, layer="stage2", part="salient"))
    fitted.save(tmp_path / "run")
    loaded = SepCLR.load(tmp_path / "run")
    assert np.array_equal(loaded.transform(images), both)
    assert np.array_equal(clone(fitted).fit(data).transform(images), both)
    assert {"common", "salient", "null", "independence"} <= set(fitted.history_[-2])


def test_salient_lengths_are_watched(data, fitted):
    for name, images in data.items():
        lengths = fitted.salience_score(images)
        assert fitted.salient_length_[name] == pytest.approx(lengths.mean(), rel=0.02)
    learner = tiny()
    usual = learner.build

    def build(example):
        net = usual(example)
        nn.init.constant_(net.salient_head[-1].bias, 100.0)
        return net

    learner.build = build
    with pytest.warns(
        UserWarning, match=r"salient vectors of the target have grown to a length of .* lower training.lr"
    ):
        learner.fit(data)


def test_one_bad_batch_moves_little(data):
    """The gradient is clipped to the recipe's bound before each step."""
    learner = tiny(salient_weight=1e9, training=Training(steps=1, batch_size=16, optimiser="sgd", lr=1e-4, warmup=0.0))
    before = {}
    usual = learner.build

    def build(example):
        net = usual(example)
        before.update({name: weight.detach().clone() for name, weight in net.named_parameters()})
        return net

    learner.build = build
    learner.fit(data)
    assert learner.training_.clip == 5000.0
    moved = [(weight - before[name]).square().sum() for name, weight in learner.net_.named_parameters()]
    assert float(torch.stack(moved).sum().sqrt().detach()) == pytest.approx(0.5, rel=0.01)


def test_flags_say_the_same_as_two_collections(data, fitted):
    everything = np.concatenate([data["target"], data["background"]])
    flags = np.repeat([1, 0], [48, 60])
    again = tiny().fit(everything, flags)
    assert np.array_equal(again.transform(everything), fitted.transform(everything))
    assert np.array_equal(tiny().fit(everything, flags == 1).transform(everything), fitted.transform(everything))


def test_it_separates():
    """Lines are told from the salient part and the quarters from the common one; backgrounds lie near 0."""
    target, quarter, line = scenes(280, True, seed=1)
    background = scenes(280, False, seed=2)[0]
    settings = Training(steps=70, batch_size=40, lr=3e-3)
    learner = SepCLR("conv4-x0.25", common_dim=8, salient_dim=8, image_size=16, augment=VIEW, training=settings)
    learner.fit({"background": background, "target": target})
    held, held_quarter, held_line = scenes(200, True, seed=3)
    other = scenes(200, False, seed=4)[0]
    scores = {
        (part, name): linear_probe(learner.transform(target, part=part), y, learner.transform(held, part=part), y_held)
        for part in ("common", "salient")
        for name, y, y_held in (("line", line, held_line), ("quarter", quarter, held_quarter))
    }
    assert scores["salient", "line"] > 0.9
    assert scores["common", "quarter"] > 0.5  # chance 0.25
    assert learner.salience_score(held).mean() > 3 * learner.salience_score(other).mean()
    assert learner.health_["verdict"] == "healthy"


class Supervised(SepCLR):
    """The paper's variant with known attributes of the target, as the docstring says it is written."""

    columns = ("image", "attributes")
    transform_columns = ("image",)

    def salient_loss(self, first, second, background, columns):
        terms = []
        for z in (first, second):
            terms.append(supervised_alignment(z, columns["attributes"]).sum())
            terms += [euclidean_uniformity(torch.cat([unit, unit.new_zeros(background)])[:, None]) for unit in z.T]
        return torch.stack(terms).sum()


def test_known_attributes_get_a_coordinate_each():
    rng = np.random.default_rng(0)
    images = scenes(200, True, seed=5)[0].astype(int)
    attributes = rng.random((200, 2)).astype(np.float32)
    images[:, :4] = (attributes[:, 0] * 255).astype(int)[:, None, None]
    images[:, -4:] = (attributes[:, 1] * 255).astype(int)[:, None, None]
    background = {"image": scenes(200, False, seed=6)[0], "attributes": np.zeros((200, 2), np.float32)}
    learner = Supervised(
        "conv4-x0.25",
        salient_dim=4,
        projection=(16, 2),
        image_size=16,
        salient_weight=100.0,
        null_weight=1.0,
        augment=lambda x, generator: x.float() / 255,
        training=Training(steps=60, batch_size=32, lr=3e-3),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner.fit({"background": background, "target": {"image": images.astype(np.uint8), "attributes": attributes}})
    z = learner.transform(images.astype(np.uint8), part="salient", layer="embedding")
    correlation = np.abs(np.corrcoef(z.T, attributes.T)[:2, 2:])
    assert correlation.diagonal().min() > 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": None}, r"both background \(0\) and target \(1\) images, got no target"),
        ({"target": scenes(1, True)[0]}, "target must have at least 2 images, got 1"),
        ({"background": scenes(9, True)[0]}, "training.batch_size=16 is above the 9 images of background: lower it"),
        ({"background": np.zeros((0, 16, 16), np.uint8)}, "no pixels in an array"),
        (
            {"background": np.zeros((40, 16, 16, 3), np.uint8) + np.arange(3, dtype=np.uint8)},
            "images of one shape, got",
        ),
    ],
)
def test_bad_collections(data, change, message):
    wrong = {name: x for name, x in {**data, **change}.items() if x is not None}
    with pytest.raises(ValueError, match=message) as caught:
        tiny().fit(wrong)
    assert "\n" not in str(caught.value)


def test_shapes_that_the_data_choose_must_agree(data):
    wide = np.repeat(np.repeat(data["target"], 3, axis=1), 3, axis=2)
    with pytest.raises(ValueError, match=r"got \(1, 32, 32\) and \(1, 48, 48\): set image_size"):
        tiny(image_size=None).fit({**data, "target": wide})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny().fit({**data, "target": wide})  # with an image_size both come to one side


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (np.zeros(60, int), "got no target"),
        (np.ones(60, int), "got no background"),
        (np.arange(60) % 3, r"y must be 0 \(background\) or 1 \(target\), got 0, 1, 2"),
        (np.full(60, np.nan), r"y must be 0 \(background\) or 1 \(target\), got nan"),
        (np.array(["a", "b"] * 30), "got a, b"),
        (np.zeros(59, int), r"y must be one flag an image, shape \(60,\), got shape \(59,\)"),
    ],
)
def test_bad_flags(data, flags, message):
    with pytest.raises(ValueError, match=message):
        tiny().fit(data["background"], flags)


def test_one_set_without_flags(data):
    with pytest.raises(ValueError, match="X must be a dict with the data sets target, background, got ndarray"):
        tiny().fit(data["target"])


def test_brightness_that_gives_the_collection_away(data):
    with pytest.warns(UserWarning, match=r"background and target differ in brightness \(means 0\.\d+ and 0\.\d+\)"):
        tiny().fit({**data, "target": (data["target"] // 2)})


def test_missing_pixels_are_refused(data):
    broken = data["target"] / 255
    broken[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="(?i)nan"):
        tiny().fit({**data, "target": broken})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"common_dim": 0}, "common_dim must be at least 1, got 0"),
        ({"salient_dim": -1}, "salient_dim must be at least 1"),
        ({"salient_weight": -1.0}, "salient_weight must be at least 0"),
        ({"null_weight": float("inf")}, "null_weight must be at least 0, got inf"),
        ({"independence_weight_salient": -2.0}, "independence_weight_salient must be at least 0"),
        (
            {"training": Training(steps=1, batch_size=1)},
            "training.batch_size must be at least 2 images of each collection",
        ),
    ],
)
def test_bad_parameters(data, params, message):
    with pytest.raises(ValueError, match=message):
        tiny(**params).fit(data)


def test_bad_part(data, fitted):
    with pytest.raises(ValueError, match="part must be one of both, common, salient, got 'all'"):
        fitted.transform(data["target"], part="all")
