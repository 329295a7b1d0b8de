"""A classifier learned from noisy labels."""

import copy
import json
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone

import nolabel
from nolabel.clean import LSAClassifier
from nolabel.clean.suspects import Suspect
from nolabel.data import load
from nolabel.learn import SimCLR
from nolabel.objectives.corrected_labels import blended_cross_entropy, sharpened
from nolabel.training import Training

DIGITS = load("digits").select(range(160))
TRUE = np.asarray(DIGITS["label"])
WRONG = np.arange(160) < 32
GIVEN = np.where(WRONG, (TRUE + 1) % 10, TRUE)
ENCODER = "conv4-x0.5"

pytestmark = pytest.mark.filterwarnings("ignore:the linear detector learns from")


def training(epochs=3, **settings):
    return Training(epochs, **{"batch_size": 32, "random_state": 0, "precision": "32-true", **settings})


@pytest.fixture(scope="module")
def learned():
    return SimCLR(ENCODER, image_size=16, training=training(None, steps=30, batch_size=64)).fit(DIGITS)


@pytest.fixture(scope="module")
def fitted(learned):
    return LSAClassifier(representation=learned, training=training(6)).fit(DIGITS, GIVEN)


@pytest.fixture(scope="module")
def pair(learned):
    return LSAClassifier(representation=learned, co_training=True, class_balance=True, training=training(6)).fit(
        DIGITS, GIVEN
    )


def test_it_finds_wrong_labels_and_learns_in_spite_of_them(learned):
    """Of 160 images, how many suspects are right differs much from seed to seed: three are counted together."""
    found = []
    for seed in range(3):
        settings = training(10, batch_size=16, lr=0.02, random_state=seed)
        model = LSAClassifier(representation=learned, detectors=("loss",), warmup=3, training=settings)
        suspects = model.fit(DIGITS, GIVEN).suspects()
        assert [s.loss for s in suspects] == sorted((s.loss for s in suspects), reverse=True)
        assert model.losses_[WRONG].mean() > 1.5 * model.losses_[~WRONG].mean()
        assert model.score(DIGITS, TRUE) > model.score(DIGITS, GIVEN) + 0.05
        found += suspects
    assert np.mean([WRONG[s.row] for s in found]) > 2 * WRONG.mean()
    assert np.mean([s.suggested == TRUE[s.row] for s in found if WRONG[s.row]]) > 0.5


def test_what_it_leaves(fitted):
    assert fitted.noise_scores_.shape == (160, 2)
    assert fitted.pseudo_labels_.shape == (160, 10)
    np.testing.assert_allclose(fitted.pseudo_labels_.sum(axis=1), 1.0, atol=1e-5)
    assert (fitted.pseudo_confidence_[fitted.clean_mask_] == 1).all()
    assert fitted.rows_.tolist() == list(range(160))
    by_turns = [each["detector"] for each in fitted.detections_]
    # epoch t is learned with what its own detector found: 1 loss, 2 linear, ...; both at the end, the loss last
    assert by_turns == ["loss", "linear"] * 3 + ["linear", "loss"]
    expected = -np.log(fitted.predict_proba(DIGITS)[np.arange(160), GIVEN])
    np.testing.assert_allclose(fitted.losses_, expected, rtol=1e-3, atol=1e-3)
    assert fitted.given_codes_.tolist() == GIVEN.tolist()


def test_suspects_are_of_two_kinds(fitted):
    model = copy.copy(fitted)
    model.class_names_, model.given_codes_ = ["cat", "dog"], np.array([0, 0, 0, 0, 1])
    model.rows_ = np.array([3, 4, 6, 7, 9])
    model.clean_mask_ = np.array([True, False, False, False, False])
    model.weak_probabilities_ = np.array([[[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.9, 0.1], [0.1, 0.9]]], np.float32)
    model.pseudo_confidence_ = np.array([1.0, 0.9, 0.1, 0.9, 0.2], np.float32)
    model.losses_ = np.array([0.1, 1.5, 2.0, 0.3, 0.2], np.float32)
    model.noise_scores_ = np.full((5, 2), 0.5, np.float32)
    assert model.suspects() == [
        Suspect(6, "cat", "dog", "stranger", 2.0, 0.5, 0.5, pytest.approx(0.1)),
        Suspect(4, "cat", "dog", "wrong label", 1.5, 0.5, 0.5, pytest.approx(0.9)),
        Suspect(9, "dog", "dog", "stranger", pytest.approx(0.2), 0.5, 0.5, pytest.approx(0.2)),
    ]  # row 3 is right, and in row 7 the network is sure of the label that was given


def batch_of(rows):
    images = torch.from_numpy(np.stack([np.asarray(DIGITS["image"][row]) for row in rows]))[:, None]
    images = torch.nn.functional.interpolate(images.float(), (16, 16)).to(torch.uint8)
    return {"image": images, "label": torch.from_numpy(GIVEN[rows]), "row": torch.tensor(rows)}


def test_noisy_images_get_corrected_targets_and_their_confidence(fitted):
    model = copy.copy(fitted)
    model.weak_probabilities_ = fitted.weak_probabilities_.copy()
    model.clean_mask_ = np.ones(160, bool)
    model.clean_mask_[[0, 1]] = False
    model.pseudo_confidence_ = np.ones(160, np.float32)
    model.pseudo_confidence_[0] = 0.25
    net, before = copy.deepcopy(model.net_), copy.deepcopy(model.net_)
    seen = model.views(batch_of([0, 1, 40, 41]), torch.Generator().manual_seed(0))
    assert seen.noisy.tolist() == [True, True, False, False]
    assert seen.confidence.tolist() == [0.25, 1.0, 1.0, 1.0]
    assert seen.codes.tolist() == GIVEN[[0, 1, 40, 41]].tolist()
    terms = model.loss(net, seen)
    assert set(terms) == {"classification", "contrast"}
    with torch.no_grad():
        p = before.eval().classifier(before.encoder(seen.weak)).softmax(dim=1)
        np.testing.assert_allclose(model.weak_probabilities_[0, [0, 1, 40, 41]], p, atol=1e-5)
        targets = torch.nn.functional.one_hot(seen.codes, 10).float()
        targets[:2] = sharpened(p[:2], 2.0)
        net.train()
        both = torch.cat([seen.mixed[0].images, seen.contrast[0]])
        logits = net.classifier(net.encoder(both)[:4])
        mixed = seen.mixed[0]
        expected = blended_cross_entropy(logits, targets, seen.confidence, mixed.partner, mixed.share)
    assert terms["classification"].item() == pytest.approx(expected.item(), abs=1e-4)
    sum(terms.values()).backward()
    assert net.classifier.weight.grad.abs().sum() > 0
    assert net.head.weight.grad.abs().sum() > 0
    assert net.training


def test_right_images_alone_are_learned_as_they_are(fitted):
    """Without a noisy image the weak view is what is blended."""
    model = copy.copy(fitted)
    model.clean_mask_ = np.ones(160, bool)
    model.mixup_alpha = 0.0
    seen = model.views(batch_of([3, 4, 5]), torch.Generator().manual_seed(0))
    assert torch.equal(seen.mixed[0].images, seen.weak)
    assert not torch.equal(seen.contrast[0], seen.weak)


def test_the_first_epoch_and_the_warmup_believe_all_labels(learned):
    model = LSAClassifier(representation=learned, warmup=2, training=training(3)).fit(DIGITS, GIVEN)
    assert [each["epoch"] for each in model.detections_] == [2, 3, -1, -1]


def test_two_networks(pair, tmp_path):
    net = pair.net_
    assert not torch.equal(net.classifier.weight, net.second.classifier.weight)
    first, second = (m.classifier(m.encoder(batch_of([5])["image"] / 255.0)).softmax(dim=1) for m in (net, net.second))
    table = DIGITS.select([5])
    np.testing.assert_allclose(
        pair.predict_proba(table), ((first + second) / 2).detach().numpy(), atol=0.05
    )  # resized by other means
    assert pair.weak_probabilities_.shape == (2, 160, 10)
    assert len(pair.detections_) == 8
    assert any("balance" in row for row in pair.history_)
    pair.save(tmp_path / "run")
    again = nolabel.load(tmp_path / "run")
    assert np.array_equal(again.predict_proba(DIGITS), pair.predict_proba(DIGITS))


def test_two_networks_call_noisy_what_both_do(pair):
    model = copy.copy(pair)
    for name in ("noise_scores_", "weak_probabilities_", "detections_"):
        setattr(model, name, copy.deepcopy(getattr(pair, name)))
    rng = np.random.default_rng(0)
    p = np.full((2, 160, 10), 0.02 / 9, np.float32)
    p[:, np.arange(160), GIVEN] = 0.98
    p[0, :40] = p[1, 20:60] = rng.dirichlet(np.full(10, 0.2), 40)
    features = rng.normal(size=(2, 160, 4)).astype(np.float32)
    model._looked_at = lambda net, source: (features, np.log(p.clip(1e-6)))
    model._detect(None, None, 1, ("loss",))
    assert not model.clean_mask_[20:40].all()
    assert model.clean_mask_[:20].all()
    assert model.clean_mask_[40:].all()


def test_saved_and_read_again_it_is_the_same(fitted, tmp_path):
    fitted.save(tmp_path / "run")
    again = nolabel.load(tmp_path / "run")
    assert isinstance(again, LSAClassifier)
    assert np.array_equal(again.predict_proba(DIGITS), fitted.predict_proba(DIGITS))
    assert again.suspects() == fitted.suspects()
    assert np.array_equal(again.pseudo_labels_, fitted.pseudo_labels_)


def test_the_same_seed_gives_the_same_and_the_representation_stays(learned):
    before = learned.transform(DIGITS)
    model = LSAClassifier(representation=learned, training=training(2))
    first, second = clone(model).fit(DIGITS, GIVEN), clone(model).fit(DIGITS, GIVEN)
    assert np.array_equal(first.losses_, second.losses_)
    assert first.suspects() == second.suspects()
    assert np.array_equal(learned.transform(DIGITS), before)


def test_an_interrupted_run_ends_as_an_unbroken_one(learned, tmp_path, monkeypatch):
    settings = training(2, checkpoint_seconds=0.0)
    whole = LSAClassifier(representation=learned, training=settings).fit(DIGITS, GIVEN)
    broken = LSAClassifier(representation=learned, training=settings)

    def stop(self, net, clock):
        if clock.step == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(LSAClassifier, "before_step", stop)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(DIGITS, GIVEN, run=tmp_path / "run")
    monkeypatch.undo()
    again = LSAClassifier(representation=learned, training=settings).fit(
        DIGITS, GIVEN, run=tmp_path / "run", resume=True
    )
    np.testing.assert_allclose(again.losses_, whole.losses_, rtol=1e-5)
    assert again.detections_ == whole.detections_
    assert json.loads((tmp_path / "run" / "config.json").read_text())["class"] == "nolabel.clean.lsa.LSAClassifier"


def test_flags_of_a_person(learned):
    trusted = np.full(160, -1)
    trusted[:10], trusted[40:70] = 1, 0
    model = LSAClassifier(representation=learned, detectors=("linear",), trusted=trusted, training=training(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(DIGITS, GIVEN)
    assert "learned from" not in model.detections_[0]
    # the last linear mask is a regression of the early features on the flags
    assert model.noise_scores_[:10, 0].mean() > model.noise_scores_[40:70, 0].mean()


def test_where_strangers_are_looked_for(fitted):
    stages = fitted.transform(DIGITS.select(range(4)), layer="stage2")
    found, _ = fitted._looked_at(fitted.net_, fitted.open_one(DIGITS.select(range(4)), None))
    np.testing.assert_allclose(found[0], stages, atol=1e-5)
    other = copy.copy(fitted)
    other.feature_layer = "stage3"
    found, _ = other._looked_at(other.net_, other.open_one(DIGITS.select(range(4)), None))
    np.testing.assert_allclose(found[0], fitted.transform(DIGITS.select(range(4)), layer="stage3"), atol=1e-5)


def test_an_encoder_without_stages():
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 12), torch.nn.ReLU())
    model = LSAClassifier(encoder, image_size=8, detectors=("loss",), training=training(2))
    model.fit(DIGITS, GIVEN)
    assert model.noise_scores_.shape == (160, 2)
    assert len(model.losses_) == 160


def test_random_weights_are_warned_of():
    with pytest.warns(UserWarning, match="warmup=0 from random weights: the first losses tell little"):
        LSAClassifier("conv4-x0.125", image_size=16, training=training(None, steps=1)).fit(DIGITS, GIVEN)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"detectors": ()}, "detectors must be some of linear, loss in order"),
        ({"detectors": "loss"}, "detectors must be some of linear, loss in order, got 'loss'"),
        ({"detectors": ("linear", "knn")}, "detectors must be some of linear, loss"),
        ({"loss_threshold": 1.5}, "loss_threshold must lie between 0 and 1, got 1.5"),
        ({"target_threshold": 0.0}, "target_threshold must lie between 0 and 1"),
        ({"linear_threshold": 1.0}, "linear_threshold must lie between 0 and 1"),
        ({"warmup": -1}, "warmup must be a whole number of epochs"),
        ({"sharpening": 0.0}, "sharpening must be above 0"),
        ({"contrastive_temperature": 0.0}, "contrastive_temperature must be above 0"),
        ({"mixup_alpha": -1.0}, "mixup_alpha must be at least 0"),
        ({"feature_layer": "stage9"}, r"must be a stage of the encoder \(stage1, stage2, stage3, stage4\)"),
        ({"trusted": [1, 0, -1]}, r"trusted: one flag a sample was expected, 160, got shape \(3,\)"),
    ],
)
def test_bad_parameters(params, message):
    model = LSAClassifier(ENCODER, **{"warmup": 5, **params}, training=training(None, steps=1))
    with pytest.raises(ValueError, match=message):
        model.fit(DIGITS, GIVEN)


def test_bad_labels():
    model = LSAClassifier(ENCODER, warmup=5, training=training(None, steps=1))
    with pytest.raises(ValueError, match=r"y: one label a row was expected, shape \(160,\), got shape \(159,\)"):
        model.fit(DIGITS, GIVEN[1:])
    with pytest.raises(TypeError, match="integers, booleans or strings were expected, got dtype float64"):
        model.fit(DIGITS, np.where(WRONG, np.nan, GIVEN))
    with pytest.raises(ValueError, match="each class needs at least 2 images to be judged by, there is one of 17"):
        model.fit(DIGITS, np.where(np.arange(160) == 3, 17, GIVEN))
    with pytest.raises(ValueError, match="not fitted"):
        model.suspects()
