"""q(domain | x): calibrated, freed of how large domains are, and never told by what learned from the row itself."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from nolabel.cluster.calibration import balancing_weights, fitted_temperature, log_loss
from nolabel.cluster.domain_classifiers import ImageDomains, VectorDomains
from nolabel.cluster.domain_probabilities import DomainProbabilities
from nolabel.cluster.domains import held_out
from nolabel.data import ColumnSource, read
from nolabel.training import Training


def quick(epochs=3, **settings):
    return Training(epochs, progress=False, **settings)


@pytest.fixture(scope="module")
def vectors():
    """Two kinds of points; domain 0 holds one of them, domain 1, twice as large, both."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4)).astype(np.float32)
    X[200:] += 6.0
    return X, np.repeat([0, 1], [100, 200])


def test_weights_make_domains_count_alike():
    np.testing.assert_allclose(balancing_weights(np.array([0, 0, 0, 1])), [4 / 6, 4 / 2])


def test_weighted_loss_by_hand():
    log_p = np.log([[0.5, 0.5], [0.25, 0.75]])
    np.testing.assert_allclose(log_loss(log_p, np.array([0, 1]), np.array([2.0, 1.0])), [2 * np.log(2), -np.log(0.75)])


def test_temperature_undoes_overconfidence_and_leaves_what_is_right():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20000, 3))
    codes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # distributed as softmax(logits)
    assert fitted_temperature(logits, codes, np.ones(3)) == pytest.approx(1.0, abs=0.05)
    assert fitted_temperature(4 * logits, codes, np.ones(3)) == pytest.approx(4.0, abs=0.2)


def test_shares_of_domains_are_divided_out():
    domain = [0, 0, 1, 1, 1, 1, 1, 1]  # a quarter and three
    given = np.full((8, 2), 0.5)
    model = DomainProbabilities(precomputed=True).fit(given, domain)
    np.testing.assert_allclose(model.transform(given[:1]), [[0.75, 0.25]])  # 0.5 / 0.25 to 0.5 / 0.75
    same = DomainProbabilities(precomputed=True, domain_prior="uniform").fit(given, domain)
    np.testing.assert_allclose(same.transform(given[:1]), [[0.5, 0.5]])


@pytest.mark.parametrize("prior", ["empirical", "uniform"])
def test_a_network_tells_what_counting_tells(vectors, prior):
    X, domain = vectors
    model = DomainProbabilities(domain_prior=prior, training=quick(12)).fit(X, domain)
    near, far = model.transform(X[[10, 150]]), model.transform(X[-5:])
    np.testing.assert_allclose(near, [[2 / 3, 1 / 3]] * 2, atol=0.12)  # 100 of 100 to 100 of 200
    np.testing.assert_allclose(far, [[0, 1]] * 5, atol=0.1)


def test_rows_are_told_by_an_estimator_that_did_not_see_them():
    noise = np.random.default_rng(0).normal(size=(200, 3))
    domain = np.arange(200) % 2
    model = DomainProbabilities(KNeighborsClassifier(1))
    unseen = model.fit_probabilities(noise, domain)
    own = unseen[np.arange(200), domain]
    assert 0.4 < own.mean() < 0.6  # its nearest neighbour is the row itself, in what it learned from
    assert model.fitted_.predict_proba(noise)[np.arange(200), domain].min() == 1.0
    assert len(model.held_) == 200


def test_the_network_kept_is_that_of_the_best_epoch(vectors):
    X, domain = vectors
    held = held_out(domain, 0.3, 0)
    source = ColumnSource(read({"vector": X}), ("vector",))
    network = VectorDomains(patience=2, training=quick(40, lr=0.03)).fit_domains(source, domain, held)
    losses = network.validation_
    assert len(losses) < 40
    assert len(losses) - 1 - int(np.argmin(losses)) == 2
    logits = network.transform_source(source, layer="logits")[held]
    assert log_loss(log_softmax(logits, axis=1), domain[held], np.ones(2)).mean() == pytest.approx(
        min(losses), abs=1e-5
    )


def test_the_loss_weighs_domains_only_if_asked():
    logits, codes = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
    log_p = torch.log_softmax(logits, dim=1)
    network = VectorDomains(dropout=0.0)
    network.encode = lambda net, views, layer: logits
    network._weights = torch.tensor([1.0, 3.0])
    expected = -(log_p[0, 0] + 3 * log_p[1, 1]) / 4
    assert float(network.loss(None, {"label": codes})) == pytest.approx(float(expected))


def test_dropout_is_of_training_alone_and_gradients_reach_the_encoder(digits):
    images, labels = digits[0][:64], digits[1][:64] % 2
    network = ImageDomains("conv4-x0.25", dropout=0.5, training=quick(1))
    source = network.open_one(images, None)
    network.fit_domains(source, labels, np.arange(0, 64, 4))
    first, again = (network.transform_source(source, layer="logits") for _ in range(2))
    np.testing.assert_array_equal(first, again)
    net = network.net_.train()
    network._weights = torch.ones(2)
    batch = source.batch(np.arange(16))["image"]
    network.loss(net, (batch.float() / 255, torch.from_numpy(labels[:16]))).backward()
    assert all(float(weight.grad.abs().sum()) > 0 for weight in (net.classifier.weight, next(net.encoder.parameters())))


def test_words_of_texts_tell_their_domain_and_empty_ones_are_left_out():
    texts = ["sun and sand", "snow and ice", "", "sun on sand", "ice, snow", None] * 10
    domain = np.array([0, 1, 0, 0, 1, 1] * 10)
    model = DomainProbabilities(training=quick(20))
    with pytest.warns(UserWarning, match="20 of 60 texts hold no words and are left out, first row 2"):
        model.fit({"text": texts}, domain)
    assert model.rows_.tolist() == [row for row in range(60) if row % 6 not in (2, 5)]
    q = model.transform({"text": ["sand", "snow"]})
    assert q[0, 0] > 0.8
    assert q[1, 1] > 0.8


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"discriminator": "cmm"},
            "discriminator must be cnn, mlp, None or an estimator with fit and predict_proba, got 'cmm'",
        ),
        ({"discriminator": LogisticRegression}, "discriminator"),
        ({"domain_prior": "flat"}, "domain_prior must be one of empirical, uniform, got 'flat'"),
        ({"validation": 0.0}, r"validation must be a share in \(0, 1\), got 0.0"),
        ({"dropout": 1.0}, r"dropout must be a share in \[0, 1\), got 1.0"),
        ({"patience": 0}, "patience"),
        ({"discriminator": "cnn"}, "discriminator: 'cnn' is for images, X holds none"),
    ],
)
def test_bad_parameters(vectors, params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        DomainProbabilities(**params).fit(*vectors)


def test_images_are_not_for_layers_of_numbers(digits):
    with pytest.raises(ValueError, match="'mlp' is for vectors and texts; for images it needs a representation"):
        DomainProbabilities("mlp").fit(digits[0][:8], [0, 1] * 4)
