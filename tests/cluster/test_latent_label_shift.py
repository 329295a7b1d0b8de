"""Classes from how they rise and fall together, against answers worked out by hand and digits that nobody named."""

import warnings
from math import log

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from torch import nn

from nolabel.assess import clustering_accuracy
from nolabel.cluster import DomainsLookAlike, LatentLabelShift
from nolabel.cluster.domain_classifiers import Stopped
from nolabel.cluster.mixes import factorised
from nolabel.training import Training, load

#: p(class | domain) and p(domain | class) of two classes in three domains.
MIX = np.array([[0.8, 0.2], [0.6, 0.4], [0.4, 0.6]])
GIVEN = np.array([[4 / 9, 1 / 6], [3 / 9, 2 / 6], [2 / 9, 3 / 6]])


def quick(epochs=4, **settings):
    return Training(epochs, progress=False, **settings)


@pytest.fixture(scope="module")
def exact():
    """600 rows that say exactly which domain they may be from, their domains and classes."""
    rows = np.array([0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1])  # five of each domain
    y = np.tile(rows, 40)
    return GIVEN[:, y].T, np.tile(np.repeat([0, 1, 2], 5), 40), y


@pytest.fixture(scope="module")
def told(exact):
    return LatentLabelShift(2, n_cells=2, precomputed=True).fit(*exact[:2])


@pytest.fixture(scope="module")
def shifted(digits):
    """Zeros to threes, where 0 and 1 are one class, 2 and 3 another: rows, domains of unequal size, classes, images."""
    images, labels = digits
    rng = np.random.default_rng(0)
    shares = np.array([0.1, 0.9, 0.5])  # of the second class in each domain
    rows, domain = [], []
    for row in np.flatnonzero(labels < 4):
        of_it = shares if labels[row] > 1 else 1 - shares
        rows.append(row)
        domain.append(rng.choice(3, p=of_it * [1.0, 1.0, 0.5] / (of_it * [1.0, 1.0, 0.5]).sum()))
    return images[rows].reshape(len(rows), -1) / 255.0, np.array(domain), labels[rows] // 2, images[rows]


@pytest.fixture(scope="module")
def learned(shifted):
    return LatentLabelShift(2, training=quick(8)).fit(*shifted[:2])


def test_exact_mixes_come_back_commonest_class_first(told):
    np.testing.assert_allclose(told.class_mix_, MIX, atol=1e-12)
    np.testing.assert_allclose(told.domain_given_class_, GIVEN, atol=1e-12)
    np.testing.assert_allclose(np.sort(told.cell_given_class_, axis=0), [[0, 0], [1, 1]], atol=1e-12)
    assert told.domains_.tolist() == [0, 1, 2]
    assert told.condition_number_ == pytest.approx(np.linalg.cond(MIX))
    assert told.residual_ == pytest.approx(0, abs=1e-12)


def test_posteriors_of_exact_rows(told, exact):
    X, domain, y = exact
    np.testing.assert_array_equal(told.labels_, y)
    np.testing.assert_allclose(told.probabilities_, np.eye(2)[y], atol=1e-9)
    half = (GIVEN @ [0.5, 0.5])[None]
    np.testing.assert_allclose(told.predict_proba(half, [0]), [[8 / 11, 3 / 11]], atol=1e-9)  # 4/9 to 1/6
    np.testing.assert_allclose(told.predict_proba(half), [[0.5, 0.5]], atol=1e-9)
    assert told.predict(half, [2]).tolist() == [1]  # 2/9 to 1/2
    assert told.score(X, np.where(y, "cat", "dog"), domain) == 1.0
    assert told.mix_error(1 - y, domain) == pytest.approx(0, abs=1e-12)


def test_gain_of_the_discriminator_by_hand(told):
    # of 15 rows: 4, 3, 2 of the first class and 1, 2, 3 of the second, in the three domains
    loss = -(4 * log(4 / 9) + 3 * log(3 / 9) + 2 * log(2 / 9) + log(1 / 6) + 2 * log(2 / 6) + 3 * log(1 / 2)) / 15
    assert told.chance_loss_ == pytest.approx(log(3))
    assert told.validation_loss_ == pytest.approx(loss)
    said = told.diagnose()
    assert said["gain"] == pytest.approx(log(3) - loss)
    assert (said["cells"], said["empty cells"], said["warnings"], said["temperature"]) == (2, 0, [], 1.0)


@pytest.mark.parametrize("solver", ["anchor", "nmf", "anchor-nmf"])
def test_all_solvers_explain_the_counts(exact, solver):
    found = factorised(*exact[:2], 2, 2, solver, n_init=3, random_state=0)
    np.testing.assert_allclose(found.mix.sum(axis=0), 1.0)
    np.testing.assert_allclose(found.cells.sum(axis=0), 1.0)
    assert found.residual < 0.01
    assert found.mix[0].sum() >= found.mix[1].sum()
    assert sorted(found.sizes.tolist()) == [240, 360]
    if solver != "nmf":  # which is not unique
        np.testing.assert_allclose(found.mix.T, MIX, atol=1e-3)


def test_cells_that_no_row_is_in_are_counted(exact):
    model = LatentLabelShift(2, precomputed=True).fit(*exact[:2])  # six cells for two kinds of rows
    assert model.diagnose()["empty cells"] == 4
    np.testing.assert_allclose(model.class_mix_, MIX, atol=1e-12)


def test_unequal_domains_change_nothing_once_their_shares_are_divided_out(exact):
    X, domain, y = exact
    keep = np.concatenate([np.flatnonzero(domain == 0)[:50], np.flatnonzero(domain > 0)])
    shares = np.bincount(domain[keep]) / len(keep)
    biased = X[keep] * shares
    model = LatentLabelShift(2, n_cells=2, precomputed=True).fit(
        biased / biased.sum(axis=1, keepdims=True), domain[keep]
    )
    np.testing.assert_allclose(model.class_mix_, MIX, atol=1e-9)
    np.testing.assert_array_equal(model.labels_, y[keep])


def test_it_finds_classes_of_unlike_halves_where_likeness_does_not(learned, shifted):
    X, domain, y, _ = shifted
    likeness = clustering_accuracy(y, KMeans(2, n_init=5, random_state=0).fit_predict(X))
    assert learned.score(X, y, domain) > max(0.9, likeness + 0.15)
    assert learned.mix_error(y, domain) < 0.1
    assert learned.diagnose()["gain"] > 0.1
    np.testing.assert_allclose(learned.predict_proba(X, domain).sum(axis=1), 1.0)
    np.testing.assert_allclose(learned.probabilities_, learned.predict_proba(X, domain), atol=1e-6)


def test_the_same_seed_finds_the_same(learned, shifted):
    again = clone(learned).fit(*shifted[:2])
    np.testing.assert_array_equal(again.class_mix_, learned.class_mix_)
    np.testing.assert_array_equal(again.probabilities_, learned.probabilities_)
    other = clone(learned).set_params(training__random_state=1).fit(*shifted[:2])
    assert not np.array_equal(other.probabilities_, learned.probabilities_)


def test_images_in_a_table_with_its_domains_and_back_from_disk(shifted, tmp_path):
    _, domain, y, images = shifted
    table = {"photo": list(images), "place": [f"shop {d}" for d in domain]}
    model = LatentLabelShift(2, encoder="conv4-x0.25", training=quick(6)).fit(
        table, "place", columns={"image": "photo"}
    )
    assert model.domains_.tolist() == ["shop 0", "shop 1", "shop 2"]
    assert model.score(table, y, "place", columns={"image": "photo"}) > 0.8
    model.save(tmp_path / "run")
    back = load(tmp_path / "run")
    assert isinstance(back, LatentLabelShift)
    np.testing.assert_allclose(back.predict_proba(images, table["place"]), model.predict_proba(images, table["place"]))
    np.testing.assert_allclose(back.transform(images[:9]), model.transform(images[:9]))
    assert back.diagnose() == model.diagnose()
    assert back.domains_.tolist() == model.domains_.tolist()


def test_texts_and_back_from_disk(tmp_path):
    rng = np.random.default_rng(0)
    words = [["goal", "match", "team"], ["vote", "law", "party"]]
    domain = np.repeat([0, 1], 400)
    y = (rng.random(800) < np.where(domain, 0.8, 0.2)).astype(int)
    texts = [" ".join(rng.choice(words[c], 4)) for c in y]
    model = LatentLabelShift(2, training=quick(8)).fit({"text": texts}, domain)
    assert model.score({"text": texts}, y, domain) > 0.95
    model.save(tmp_path / "run")
    new = {"text": ["team goal", "party law"]}
    np.testing.assert_allclose(load(tmp_path / "run").predict_proba(new), model.predict_proba(new))
    assert len(set(model.predict(new))) == 2


def test_a_learned_representation_tells_images(shifted, tmp_path):
    from nolabel.learn import DenoisingAutoencoder

    _, domain, y, images = shifted
    representation = DenoisingAutoencoder(image_size=16, training=Training(steps=8, batch_size=32)).fit(images)
    model = LatentLabelShift(2, representation=representation, training=quick(8)).fit(images, domain)
    assert model.score(images, y, domain) > 0.75
    model.save(tmp_path / "run")
    np.testing.assert_allclose(
        load(tmp_path / "run").predict_proba(images[:5]), model.predict_proba(images[:5]), atol=1e-6
    )


def test_an_estimator_of_the_users(shifted, tmp_path):
    X, domain, y, _ = shifted
    model = LatentLabelShift(2, discriminator=LogisticRegression()).fit(X, domain)
    assert model.score(X, y, domain) > 0.8
    with pytest.raises(TypeError, match="a fitted LogisticRegression cannot be saved"):
        model.save(tmp_path / "run")


def test_a_network_of_the_users_is_not_saved_from_here(shifted, tmp_path):
    class Small(nn.Module):
        dim = 8

        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU())

        def forward(self, images):
            return self.layers(images)

    _, domain, _, images = shifted
    network = Small()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LatentLabelShift(2, encoder=network, training=quick(1)).fit(images[:, :8], domain)
    with pytest.raises(TypeError, match="encoder: a network of your own is not read again from here"):
        model.save(tmp_path / "run")


def test_an_interrupted_run_goes_on_where_it_was(learned, shifted, tmp_path, monkeypatch):
    X, domain = shifted[:2]
    whole, epochs = Stopped.enough, []

    def cut_off(self, net, source, epoch):
        epochs.append(epoch)
        if len(epochs) == 5:
            raise KeyboardInterrupt
        return whole(self, net, source, epoch)

    monkeypatch.setattr(Stopped, "enough", cut_off)
    model = clone(learned).set_params(training__checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, domain, run=tmp_path / "run")
    with pytest.raises(NotFittedError):
        model.predict(X)
    model.fit(X, domain, run=tmp_path / "run", resume=True)
    assert 0 < len(epochs) - 5 < 8  # not from the beginning
    np.testing.assert_allclose(model.probabilities_, learned.probabilities_, atol=1e-6)
    seen = len(epochs)
    model.fit(X, domain, run=tmp_path / "run", resume=True)
    assert len(epochs) == seen  # the finished network is read


def test_domains_that_look_alike_are_told(shifted):
    X = shifted[0]
    domain = np.random.default_rng(1).integers(2, size=len(X))
    with pytest.warns(DomainsLookAlike, match="the domains look alike: telling them apart gains .* over chance"):
        model = LatentLabelShift(2, training=quick(2)).fit(X, domain)
    assert any("look alike" in note for note in model.diagnose()["warnings"])


def test_mixes_that_are_nearly_one_are_told():
    mix = np.array([[0.5, 0.5], [0.505, 0.495]])
    y = np.concatenate([np.repeat([0, 1], [100, 100]), np.repeat([0, 1], [101, 99])])
    given = mix / mix.sum(axis=0)
    model = LatentLabelShift(2, n_cells=2, precomputed=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(given[:, y].T, np.repeat([0, 1], 200))
    said = [str(one.message) for one in caught]
    assert sum("nearly collinear (condition number 200)" in line for line in said) == 1
    assert model.condition_number_ == pytest.approx(np.linalg.cond(mix))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_classes": 4}, "need at least n_classes domains: got 3, 4"),
        ({"n_classes": 1}, "n_classes"),
        ({"n_classes": 2.0}, "n_classes"),
        ({"n_cells": 1}, "n_cells.*a class needs a cell, n_classes=2"),
        ({"n_cells": 601}, "n_cells: at most as many as the 600 rows were expected, got 601"),
        ({"n_classes": 3}, "n_classes: the domain classifier tells only 2 kinds of rows apart, got 3 classes"),
        ({"n_init": 0}, "n_init"),
        ({"solver": "svd"}, "solver must be one of anchor, nmf, anchor-nmf, got 'svd'"),
        ({"project": "none"}, "project must be one of clip, nnls, pinv, got 'none'"),
        ({"domain_prior": "flat"}, "domain_prior must be one of empirical, uniform"),
    ],
)
def test_bad_parameters(exact, params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        LatentLabelShift(**{"n_classes": 2, "precomputed": True} | params).fit(*exact[:2])


@pytest.mark.parametrize(
    ("X", "domain", "message"),
    [
        (GIVEN.T, [0, 1], r"domain: one for each of 2 rows was expected, got shape \(3,\)"),
        (GIVEN.T, [0, 1, 2], "domain: one for each of 2 rows"),
        (np.full((6, 3), 0.4), [0, 1, 2] * 2, "X: rows were expected to sum to 1, row 0 sums to 1.2"),
        (np.full((6, 2), 0.5), [0, 1, 2] * 2, r"X: a column for each of 3 domains was expected, got shape \(6, 2\)"),
        (np.full((5, 3), 1 / 3), [0, 1, 2, 0, 1], "domain: 2 has 1 row, at least 2 of each domain were expected"),
        (np.full((6, 3), 1 / 3), None, "domain"),
        (np.full((6, 3), 1 / 3), [0, 0, 1, 1, None, 2], "domain: row 4 has none"),
        (
            np.full((6, 3), 1 / 3),
            "place",
            "domain: one for each row of X was expected, got 'place': X is no table here",
        ),
    ],
)
def test_bad_data(X, domain, message):
    if len(X) == 2 and domain == [0, 1]:
        domain = [0, 1, 2]
    with pytest.raises((ValueError, TypeError), match=message):
        LatentLabelShift(2, precomputed=True).fit(X, domain)


def test_a_column_that_is_not_there(shifted):
    with pytest.raises(ValueError, match="place"):
        LatentLabelShift(2).fit({"vector": shifted[0]}, "place")


def test_what_was_not_seen_before(told, exact):
    X, domain, y = exact
    with pytest.raises(ValueError, match="domain: 7 of row 0 was not among those of fit: 0, 1, 2"):
        told.predict_proba(X[:1], [7])
    with pytest.raises(ValueError, match="X: a column for each of 3 domains was expected"):
        told.predict(np.full((1, 2), 0.5))
    with pytest.raises(ValueError, match="y: the classes of the rows of fit were expected, at least 600, got 30"):
        told.mix_error(y[:30], domain[:30])
    with pytest.raises(ValueError, match="y: 2 classes were expected, as many as n_classes, got 1"):
        told.mix_error(np.zeros(600, int), domain)
    with pytest.raises(NotFittedError):
        LatentLabelShift(2).predict(X)
