"""Adapters to an unlabelled domain: what they see, what they minimise, what they keep, and what they refuse."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

import nolabel
from nolabel.adapt import CORAL, DANN, MMD, EntropyMinimisation
from nolabel.data import read
from nolabel.learn import ImageClassifier
from nolabel.objectives.domains import coral, domain_adversarial, multi_kernel_mmd
from nolabel.training import Training
from nolabel.training.clock import Clock

METHODS = [CORAL, MMD, DANN, EntropyMinimisation]
ENCODER = "conv4-growing-x0.25"


def training(**settings):
    return Training(**{"epochs": 3, "batch_size": 32, "progress": False, **settings})


def make(method, **params):
    return method(ENCODER, **{"image_size": 16, "training": training(), **params})


def large(images):
    """Each pixel four times."""
    return np.repeat(np.repeat(images, 2, axis=1), 2, axis=2)


@pytest.fixture(scope="module")
def domains(digits):
    """Digits, and others that are paler on a lit ground."""
    images, labels = large(digits[0]), digits[1]
    pale = (60 + images[500:700] * 0.5).astype(np.uint8)
    return {"source": read({"image": images[:200], "label": labels[:200]}), "target": pale}, labels[500:700]


@pytest.fixture(scope="module")
def model(domains):
    return ImageClassifier(ENCODER, image_size=16, training=training(epochs=16)).fit(domains[0]["source"])


@pytest.fixture(scope="module")
def fitted(domains):
    return {method: make(method, keep_epochs=2).fit(domains[0]) for method in METHODS}


def test_losses_by_hand():
    torch.manual_seed(0)
    net = nn.Module()
    net.encoder, net.classifier = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), nn.Linear(3, 2)
    net.discriminator, net.reversal = nn.Linear(3, 1), 0.5
    images, codes = torch.rand(8, 1, 2, 2), torch.tensor([0, 1, 1, 0])
    z = net.encoder(images)
    s, t, logits = z[:4], z[4:], net.classifier(z)
    p = logits[4:].softmax(dim=1)
    expected = {
        CORAL: coral(s, t),
        MMD: multi_kernel_mmd(s, t),
        DANN: domain_adversarial(net.discriminator(s), net.discriminator(t)),
        EntropyMinimisation: -(p * p.log()).sum(dim=1).mean(),
    }
    own = -logits[:4].log_softmax(dim=1)[torch.arange(4), codes].mean()
    for method in METHODS:
        terms = make(method, trade_off=3.0).loss(net, (images, codes))
        torch.testing.assert_close(terms["classification"], own)
        torch.testing.assert_close(terms["adaptation"], 3 * expected[method], atol=1e-4, rtol=1e-4)
        alone = make(method, trade_off=0.0).loss(net, (images[:4], codes))
        assert list(alone) == ["classification"]


def test_batch_norm_sees_the_domains_apart_and_keeps_the_target():
    torch.manual_seed(0)
    net = nn.Module()
    net.encoder = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4, momentum=0.25))
    net.classifier = nn.Linear(4, 2)
    source, target = torch.rand(5, 1, 2, 2), 3 + 7 * torch.rand(5, 1, 2, 2)
    codes = torch.tensor([0, 1, 1, 0, 1])
    norm = net.encoder[1]

    def scaled(x):
        x = x.flatten(1)
        return (x - x.mean(dim=0)) / (x.var(dim=0, correction=0) + norm.eps).sqrt()

    terms = make(CORAL).loss(net, (torch.cat([source, target]), codes))
    torch.testing.assert_close(terms["adaptation"], coral(scaled(source), scaled(target)))
    torch.testing.assert_close(norm.running_mean, 0.25 * target.flatten(1).mean(dim=0))
    assert norm.momentum == 0.25
    norm.reset_running_stats()
    both = torch.cat([source, target])
    terms = make(CORAL, separate_norm=False).loss(net, (both, codes))
    torch.testing.assert_close(terms["adaptation"], coral(*scaled(both).split(5)))
    torch.testing.assert_close(norm.running_mean, 0.25 * both.flatten(1).mean(dim=0))
    norm.reset_running_stats()
    make(CORAL, trade_off=0.0).loss(net, (source, codes))
    torch.testing.assert_close(norm.running_mean, 0.25 * source.flatten(1).mean(dim=0))


def test_the_discriminators_gradient_is_reversed_for_the_encoder_alone():
    torch.manual_seed(0)
    net = nn.Module()
    net.encoder, net.classifier = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), nn.Linear(3, 2)
    net.discriminator = nn.Linear(3, 1)
    images, codes = torch.rand(8, 1, 2, 2), torch.tensor([0, 1, 1, 0])
    weights = [net.encoder[1].weight, net.discriminator.weight]
    z = net.encoder(images)
    plain = torch.autograd.grad(domain_adversarial(net.discriminator(z[:4]), net.discriminator(z[4:])), weights)
    adapter = make(DANN)
    for fraction in (0.0, 0.2, 1.0):
        adapter.before_step(net, Clock(fraction=fraction))
        strength = 2 / (1 + np.exp(-10 * fraction)) - 1
        found = torch.autograd.grad(adapter.loss(net, (images, codes))["adaptation"], weights)
        torch.testing.assert_close(found[0], -strength * plain[0])
        torch.testing.assert_close(found[1], plain[1])
    assert net.reversal > 0.999


def test_source_and_target_are_seen_together_and_target_labels_are_not(domains):
    source = torch.arange(2 * 16 * 16).reshape(2, 1, 16, 16).to(torch.uint8)
    batch = {"source": {"image": source, "label": ["b", "a"]}, "target": {"image": 255 - source}}
    adapter = make(CORAL, augment=lambda images, generator: images / 255)
    adapter.class_names_ = ["a", "b"]
    images, codes = adapter.views(batch, torch.Generator())
    assert codes.tolist() == [1, 0]
    torch.testing.assert_close(images, torch.cat([source, 255 - source]) / 255)
    adapter.trade_off = 0.0
    assert len(adapter.views(batch, torch.Generator())[0]) == 2
    parts, truth = domains
    with_labels = {**parts, "target": read({"image": parts["target"], "label": [str(value) for value in truth]})}
    plain, given = (make(MMD, training=training(epochs=1)).fit(data) for data in (parts, with_labels))
    np.testing.assert_array_equal(plain.predict_proba(parts["target"]), given.predict_proba(parts["target"]))


@pytest.mark.parametrize("method", METHODS)
def test_fits_predicts_and_comes_back(method, fitted, domains, tmp_path):
    adapter, target = fitted[method], domains[0]["target"]
    assert isinstance(adapter, ImageClassifier)
    p = adapter.predict_proba(target)
    assert p.shape == (200, 10)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert set(adapter.predict(target)) <= set(range(10))
    assert {"classification", "adaptation"} <= set().union(*adapter.history_)
    back = nolabel.load(adapter.save(tmp_path / "run"))
    assert type(back) is method
    np.testing.assert_array_equal(back.predict_proba(target), p)
    np.testing.assert_array_equal(back.at_epoch(2).predict_proba(target), adapter.at_epoch(2).predict_proba(target))


@pytest.mark.parametrize("method", [CORAL, DANN])
def test_the_same_seed_gives_the_same(method, fitted, domains):
    again = clone(fitted[method])
    assert not again._learned()
    again.fit(domains[0])
    target = domains[0]["target"]
    np.testing.assert_array_equal(again.predict_proba(target), fitted[method].predict_proba(target))


def test_the_last_epochs_are_kept(fitted, domains):
    adapter, target = fitted[CORAL], domains[0]["target"]
    assert list(adapter.checkpoints_) == ["2", "3"]
    last = adapter.at_epoch(3)
    np.testing.assert_array_equal(last.predict_proba(target), adapter.predict_proba(target))
    assert last.checkpoints_ == {}
    before = adapter.predict_proba(target)
    earlier = adapter.at_epoch(2).predict_proba(target)
    assert not np.array_equal(earlier, before)
    np.testing.assert_array_equal(adapter.predict_proba(target), before)
    with pytest.raises(ValueError, match=r"epoch must be one of those that were kept \(2, 3\), got 1"):
        adapter.at_epoch(1)
    none = make(CORAL, training=training(epochs=1)).fit(domains[0])
    with pytest.raises(ValueError, match="none: fit with keep_epochs"):
        none.at_epoch(1)


def test_kept_epochs_survive_an_interruption(domains, tmp_path):
    target = domains[0]["target"]
    whole = make(DANN, keep_epochs=3).fit(domains[0])
    cut = make(DANN, keep_epochs=3)
    usual, asked = cut.enough, []

    def enough(net, source, epoch):
        usual(net, source, epoch)
        asked.append(epoch)
        if epoch == 2:
            raise KeyboardInterrupt
        return False

    cut.enough = enough
    with pytest.raises(KeyboardInterrupt):
        cut.fit(domains[0], run=tmp_path)
    del cut.enough
    resumed = make(DANN, keep_epochs=3).fit(domains[0], run=tmp_path, resume=True)
    assert list(resumed.checkpoints_) == ["1", "2", "3"]
    for epoch in (1, 2, 3):
        expected = whole.at_epoch(epoch).predict_proba(target)
        np.testing.assert_allclose(resumed.at_epoch(epoch).predict_proba(target), expected, atol=1e-5)


def test_it_starts_from_a_model_that_stays_as_it_is(model, domains, tmp_path):
    parts, _ = domains
    before = model.predict_proba(parts["target"])
    adapter = MMD(
        model=model, trade_off=0.0, separate_norm=False, training=training(epochs=1, lr=1e-12, weight_decay=0.0)
    )
    adapter.fit(parts)
    assert adapter.class_names_ == model.class_names_
    np.testing.assert_allclose(adapter.head_weight, model.head_weight, atol=1e-6)
    assert adapter.score(parts["source"], parts["source"]["label"]) > 0.9  # seen in the shape that the model learned on
    for own, given in zip(adapter.net_.encoder.parameters(), model.net_.encoder.parameters()):
        torch.testing.assert_close(own, given, atol=1e-6, rtol=0)
        assert own is not given
    moved = MMD(model=model, training=training(epochs=1)).fit(parts)
    assert not np.allclose(moved.head_weight, model.head_weight, atol=1e-4)
    np.testing.assert_array_equal(model.predict_proba(parts["target"]), before)
    back = nolabel.load(moved.save(tmp_path / "run"))
    np.testing.assert_array_equal(back.predict_proba(parts["target"]), moved.predict_proba(parts["target"]))
    assert clone(moved).model is model
    again = CORAL(model=back, training=training(epochs=1)).fit(parts)  # once more, from the adapted one
    assert again.predict(parts["target"]).shape == (200,)


def test_colour_and_size_of_the_target_follow_the_source(domains, model):
    parts, _ = domains
    colour = np.repeat(large(parts["target"])[..., None], 3, axis=3)
    for adapter in (make(CORAL, training=training(epochs=1)), CORAL(model=model, training=training(epochs=1))):
        assert adapter.fit({**parts, "target": colour}).predict(colour).shape == (200,)


def test_labels_may_be_given_apart(domains, fitted):
    parts, _ = domains
    images = parts["source"].select_columns(["image"])
    photos = {"source": images.rename_column("image", "photo"), "target": read({"photo": parts["target"]})}
    labels = np.asarray(parts["source"]["label"])
    apart = make(CORAL, keep_epochs=2).fit(photos, labels, columns={"image": "photo"})
    np.testing.assert_array_equal(apart.predict(parts["target"]), fitted[CORAL].predict(parts["target"]))


def test_adaptation_helps_where_the_domains_differ_in_contrast(domains, model):
    parts, truth = domains
    adapted = MMD(model=model, training=training(epochs=4)).fit(parts)
    before = np.mean(model.predict(parts["target"]) == truth)
    assert np.mean(adapted.predict(parts["target"]) == truth) > before + 0.4


def test_a_large_weight_of_entropy_makes_one_class_of_everything(domains, model):
    parts, _ = domains
    sure = EntropyMinimisation(model=model, trade_off=10.0, separate_norm=False, training=training(epochs=4)).fit(parts)
    p = sure.predict_proba(parts["target"])
    assert -(p * np.log(p + 1e-12)).sum(axis=1).mean() < 0.05
    assert np.bincount(sure.predict(parts["target"]).astype(int), minlength=10).max() > 60


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"trade_off": -1.0}, "trade_off must be at least 0 and finite, got -1.0"),
        ({"trade_off": float("nan")}, "trade_off must be at least 0 and finite, got nan"),
        ({"keep_epochs": -1}, "keep_epochs must be a whole number of at least 0, got -1"),
        ({"keep_epochs": True}, "keep_epochs must be a whole number of at least 0, got True"),
    ],
)
def test_bad_parameters(params, message, domains):
    with pytest.raises(ValueError, match=message):
        make(CORAL, **params).fit(domains[0])


def test_bad_data(domains, model):
    parts, _ = domains
    one = read({"image": parts["target"][:1]})
    with pytest.raises(ValueError, match="X must be a dict with the data sets source, target, got"):
        make(CORAL).fit(parts["target"])
    with pytest.raises(ValueError, match="target must have at least 2 images, got 1"):
        make(CORAL).fit({**parts, "target": one})
    with pytest.raises(ValueError, match="no column 'label'"):
        make(CORAL).fit({**parts, "source": parts["target"]})
    with pytest.raises(ValueError, match="label: at least 2 classes were expected, got only 1"):
        make(CORAL).fit({**parts, "source": read({"image": parts["target"], "label": [1] * 200})})
    with pytest.raises(ValueError, match=r"labels of the model's classes 0, .* were expected; 11 is none of them"):
        CORAL(model=model).fit({**parts, "source": read({"image": parts["target"], "label": [1, 11] * 100})})
    with pytest.raises(ValueError, match="were expected; there is no image of 0"):
        CORAL(model=model).fit({**parts, "source": read({"image": parts["target"], "label": [1, 2] * 100})})
    with pytest.raises(NotFittedError):
        CORAL(model=ImageClassifier()).fit(parts)
    with pytest.raises(NotFittedError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make(DANN).predict(parts["target"])
