"""Choosing among adapted classifiers: order, smoothing, collapse, resumption; labels of the target play no part."""

import math

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from nolabel.adapt import CORAL, MMD, EntropyMinimisation, choosing
from nolabel.adapt.choosing import Checkpoint, choose, rank_checkpoints, transfer_scorer
from nolabel.assess.transfer import TransferScore, transfer_score
from nolabel.data import read
from nolabel.learn import ImageClassifier
from nolabel.training import Training

ENCODER = "conv4-growing-x0.25"


def training(**settings):
    return Training(**{"epochs": 3, "batch_size": 32, "progress": False, **settings})


@pytest.fixture(scope="module")
def domains(digits):
    """Labelled digits, some kept apart, and paler ones on a lit ground with their hidden labels."""
    images, labels = np.repeat(np.repeat(digits[0], 2, axis=1), 2, axis=2), digits[1]
    source, held = (read({"image": images[a:b], "label": labels[a:b]}) for a, b in ((0, 200), (300, 360)))
    return source, held, (60 + images[500:650] * 0.5).astype(np.uint8), labels[500:650]


@pytest.fixture(scope="module")
def model(domains):
    return ImageClassifier(ENCODER, image_size=16, training=training(epochs=16)).fit(domains[0])


@pytest.fixture(scope="module")
def choice(domains, model):
    source, held, target, _ = domains
    shared = {"model": model, "training": training()}
    made = {"as it is": model, "mmd 1": MMD(**shared), "collapsing": EntropyMinimisation(trade_off=50.0, **shared)}
    before = model.predict_proba(target)
    found = choose(made, source, target, validation=held, epochs=2)
    np.testing.assert_array_equal(model.predict_proba(target), before)
    assert not made["mmd 1"]._learned()
    assert made["mmd 1"].keep_epochs == 0
    return found


def test_the_best_is_the_first_and_says_what_it_says(choice, domains, model):
    _, _, target, truth = domains
    places = [(one.name, one.epoch) for one in choice.ranking]
    assert sorted(places, key=str) == sorted(
        [("as it is", None), ("mmd 1", 2), ("mmd 1", 3), ("collapsing", 2), ("collapsing", 3)], key=str
    )
    first = choice.ranking[0]
    assert (choice.name, choice.epoch) == (first.name, first.epoch)
    assert first.name == "mmd 1"
    totals = [one.smoothed for one in choice.ranking]
    assert totals == sorted(totals, reverse=True)
    z, logits = choice.best.transform(target), choice.best.transform(target, layer="logits")
    assert first.score == transfer_score(z, logits, head_weight=choice.best.head_weight)
    assert first.smoothed == first.score.total == transfer_scorer(choice.best, target)
    assert np.mean(choice.best.predict(target) == truth) > np.mean(model.predict(target) == truth) + 0.2
    assert choice.best.checkpoints_ == {}
    row = first.to_dict()
    assert row["transfer_score"] == pytest.approx(row["hopkins"] + row["mutual_information"] - row["uniformity"])
    assert 0 < row["source_accuracy"] <= 1
    assert {"negative_entropy", "soft_neighbourhood_density", "batch_nuclear_norm"} < set(row)


def test_fitted_models_are_ranked_alike(choice, domains, model):
    _, held, target, _ = domains
    ranked = rank_checkpoints({"a": model, "b": choice.best}, target, validation=held)
    assert [one.name for one in ranked] == ["b", "a"]
    known = {(one.name, one.epoch): one for one in choice.ranking}
    assert ranked[0].score == known["mmd 1", choice.epoch].score
    assert ranked[1].score == known["as it is", None].score
    fewer = rank_checkpoints({"a": model}, target, rows=100)[0]
    rows = np.sort(np.random.default_rng(0).permutation(150)[:100])
    assert fewer.score == rank_checkpoints({"a": model}, target[rows])[0].score
    assert "source_accuracy" not in fewer.others


def test_target_labels_are_not_looked_at(domains, model):
    target, truth = domains[2:]
    table = read({"image": target, "label": np.zeros_like(truth)})
    assert rank_checkpoints({"a": model}, table)[0].score == rank_checkpoints({"a": model}, target)[0].score


def scored(totals):
    return [Checkpoint("a", 4 + i, TransferScore(t, 0.0, t, 0.0), t) for i, t in enumerate(totals)]


def test_smoothing_by_hand():
    one = choosing._smoothed(scored([1.0, 5.0, 2.0, 3.0]), 2)
    assert [c.smoothed for c in one][1:] == [3.0, 3.5, 2.5]
    assert math.isnan(one[0].smoothed)
    assert [c.score.total for c in one] == [1.0, 5.0, 2.0, 3.0]
    assert [c.smoothed for c in choosing._smoothed(scored([1.0, 5.0]), 1)] == [1.0, 5.0]
    assert [c.smoothed for c in choosing._smoothed(scored([7.0]), 3)] == [7.0]  # a model that was not trained here
    ranked = choosing._sorted(one)
    assert [c.epoch for c in ranked] == [6, 5, 7, 4]


def test_a_window_prefers_what_lasts(domains, model, monkeypatch):
    source, _, target, _ = domains
    given = iter([9.0, 1.0, 1.0, 6.0, 6.0, 6.0])
    monkeypatch.setattr(choosing, "_scored", lambda o, s: (TransferScore(next(given), 0.0, 0.0, 0.0), {}))
    leaps, lasts = (CORAL(model=model, trade_off=w, training=training()) for w in (1.0, 2.0))
    found = choose({"leaps": leaps, "lasts": lasts}, source, target, epochs=3, window=2)
    assert (found.name, found.epoch) == ("lasts", 2)


def test_a_collapsed_model_comes_last(domains, model):
    _, _, target, _ = domains
    dead = CORAL(model=model, training=training(epochs=1)).fit({"source": domains[0], "target": target})
    for weight in dead.net_.encoder.parameters():
        weight.data.zero_()
    ranked = rank_checkpoints({"dead": dead, "alive": model}, target)
    assert [one.name for one in ranked] == ["alive", "dead"]
    assert ranked[1].score is None
    assert ranked[1].smoothed == transfer_scorer(dead, target) == -math.inf
    assert math.isnan(ranked[1].to_dict()["transfer_score"])
    with pytest.raises(ValueError, match="every candidate diverged or collapsed"):
        choose({"dead": dead}, domains[0], target, epochs=1)


def test_what_diverges_is_left_out(domains, model):
    source, _, target, _ = domains
    wild = CORAL(model=model, training=training(lr=1e20, warmup=0.0))
    with pytest.warns(UserWarning, match="wild was left out, its training diverged"):
        found = choose({"as it is": model, "wild": wild}, source, target, epochs=1)
    assert found.best is model
    assert [one.name for one in found.ranking] == ["as it is"]


def test_it_goes_on_where_it_was(domains, model, tmp_path):
    source, _, target, _ = domains
    made = {f"coral {w:g}": CORAL(model=model, trade_off=w, training=training()) for w in (1.0, 2.0)}
    whole = choose(made, source, target, epochs=2)
    begun = []

    def cut(name):
        begun.append(name)
        if len(begun) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        choose(made, source, target, epochs=2, folder=tmp_path, progress=cut)
    assert (tmp_path / "coral 1" / "config.json").exists()
    seconds = (tmp_path / "coral 1" / "model.safetensors").stat().st_mtime_ns
    resumed = choose(made, source, target, epochs=2, folder=tmp_path, resume=True)
    assert [c.to_dict() for c in resumed.ranking] == [c.to_dict() for c in whole.ranking]
    assert (tmp_path / "coral 1" / "model.safetensors").stat().st_mtime_ns == seconds
    with pytest.raises(ValueError, match="was learned with other settings or data: resume needs the same"):
        choose(made, source, target, epochs=3, folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match="was learned with other settings or data: resume needs the same"):
        choose(made, source, target[:120], epochs=2, folder=tmp_path, resume=True)


def test_it_serves_as_scikit_learns_scoring(digits):
    images, labels = digits[0][:160], digits[1][:160]
    search = GridSearchCV(
        ImageClassifier(ENCODER, training=training(epochs=1)),
        {"training__lr": [1e-9, 0.05]},
        scoring=transfer_scorer,
        cv=[(np.arange(80), np.arange(80, 160))],
    ).fit(images, labels)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert search.best_params_["training__lr"] == [1e-9, 0.05][int(np.argmax(scores))]


def test_bad_input(domains, model, digits):
    source, _, target, _ = domains
    with pytest.raises(ValueError, match="models is empty"):
        rank_checkpoints({}, target)
    with pytest.raises(ValueError, match="candidates is empty"):
        choose({}, source, target)
    for epochs, window in ((0, 1), (2, 3), (2, 0)):
        with pytest.raises(ValueError, match="epochs and window must be at least 1, window not above epochs"):
            choose({"a": model}, source, target, epochs=epochs, window=window)
    with pytest.raises(ValueError, match="rows must be at least 40, got 39"):
        rank_checkpoints({"a": model}, target, rows=39)
    with pytest.raises(ValueError, match="target: at least 40 images were expected, for the Transfer Score, got 39"):
        rank_checkpoints({"a": model}, target[:39])
    fewer = source.select(np.flatnonzero(np.asarray(source["label"]) < 5))
    half = ImageClassifier(ENCODER, image_size=16, training=training(epochs=1)).fit(fewer)
    with pytest.raises(ValueError, match="classes: half has others than all; the Transfer Score does not compare them"):
        rank_checkpoints({"all": model, "half": half}, target)
    wide = ImageClassifier("conv4-growing-x0.5", image_size=16, training=training(epochs=1)).fit(source)
    with pytest.raises(ValueError, match="width of features: wide has others than all"):
        rank_checkpoints({"all": model, "wide": wide}, target)
