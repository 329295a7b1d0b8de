import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from nolabel.learn import DenoisingAutoencoder, GSimCLR, SimCLR
from nolabel.training import Training


def tiny(**params):
    few = Training(steps=params.pop("steps", 3), batch_size=8, lr=0.01, stop_on_collapse=False)
    settings = {"projection": (16, 8), "image_size": 16, "features": FEATURES, "training": few}
    return GSimCLR("resnet10-x0.125", **{**settings, **params})


#: Ninety rows in nine clear groups of ten.
GROUPS = np.arange(90) % 9
FEATURES = (np.eye(9)[GROUPS] * 10 + np.random.default_rng(0).normal(0, 0.1, (90, 9))).astype(np.float32)


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][:90]


def rows_seen(learner):
    """The rows of every batch, noted while it trains."""
    usual, seen = learner.views, []
    learner.views = lambda batch, generator: (seen.append(batch["row"].numpy()), usual(batch, generator))[1]
    return seen


def test_pseudo_labels_are_the_clusters_of_the_features(images):
    learner = tiny(clusters=9).fit(images)
    assert adjusted_rand_score(GROUPS, learner.pseudo_labels_) == 1.0
    assert learner.pseudo_labels_.dtype == np.int64
    again = tiny(clusters=9, training=Training(steps=1, batch_size=8, random_state=7)).fit(images)
    expected = KMeans(9, n_init=1, random_state=7).fit_predict(FEATURES)
    assert np.array_equal(again.pseudo_labels_, expected)


def test_no_two_of_a_batch_are_of_one_pseudo_class(images):
    learner = tiny(clusters=9, training=Training(epochs=3, batch_size=8, lr=0.01, stop_on_collapse=False))
    seen = rows_seen(learner)
    learner.fit(images)
    assert len(seen) == 3 * 11  # the most that eight of nine groups of ten allow
    assert all(len(set(learner.pseudo_labels_[rows])) == 8 for rows in seen)
    epochs = [np.concatenate(seen[i : i + 11]) for i in (0, 11, 22)]
    assert all(len(set(rows.tolist())) == 88 for rows in epochs)
    assert not np.array_equal(epochs[0], epochs[1])  # drawn anew
    assert learner.coverage_ == pytest.approx(88 / 90)


def test_clusters_default_to_the_batch(images):
    learner = tiny(steps=1).fit(images)
    assert len(set(learner.pseudo_labels_.tolist())) == 8
    twice = tiny(steps=1, clusters=16, features=np.random.default_rng(0).normal(size=(90, 5))).fit(images)
    once = tiny(steps=1, features=np.random.default_rng(0).normal(size=(90, 5))).fit(images)
    assert twice.coverage_ > once.coverage_


@pytest.mark.parametrize("tail", ["drop", "repeat", "oversample"])
def test_tails(tail, images):
    uneven = np.eye(9)[np.minimum(np.arange(90) // 6, 8)]  # eight groups of 6, one of 42
    epoch = Training(epochs=1, batch_size=8, lr=0.01, stop_on_collapse=False)
    learner = tiny(clusters=9, tail=tail, features=uneven + np.linspace(0, 1e-3, 90)[:, None], training=epoch)
    seen = rows_seen(learner)
    learner.fit(images)
    clean = [len(set(learner.pseudo_labels_[rows])) == 8 for rows in seen]
    assert learner.coverage_ == pytest.approx(len(set(np.concatenate(seen).tolist())) / 90, abs=0.05)
    if tail == "drop":
        assert all(clean)
        assert learner.coverage_ < 0.7
    elif tail == "repeat":
        assert not all(clean)
        assert learner.coverage_ > 0.95
    else:
        assert all(clean)
        assert learner.coverage_ == 1.0
        assert len(seen) == 42


def test_repeat_allows_fewer_clusters_than_the_batch(images):
    learner = tiny(clusters=4, tail="repeat").fit(images)
    assert len(set(learner.pseudo_labels_.tolist())) == 4


# Where pseudo-classes come from -------------------------------------------------------------------------------------


def test_features_from_a_callable(images):
    given = []

    def features(source):
        given.append(source.batch(np.arange(3))["image"].shape)
        return FEATURES

    assert adjusted_rand_score(tiny(clusters=9, features=features).fit(images).pseudo_labels_, GROUPS) == 1.0
    assert given == [(3, 1, 16, 16)]


def test_features_from_another_learner(images):
    stage = DenoisingAutoencoder(image_size=16, training=Training(steps=3, batch_size=16))
    learner = tiny(features=stage).fit(images)
    assert not hasattr(stage, "net_")  # a copy is fitted
    z = stage.fit_transform(images)
    expected = KMeans(8, n_init=1, random_state=0).fit_predict(z)
    assert adjusted_rand_score(learner.pseudo_labels_, expected) == 1.0


def test_features_from_scikit_learn(images):
    stage = PCA(4, random_state=0)
    learner = tiny(features=stage).fit(images)
    assert not hasattr(stage, "components_")
    pixels = tiny().open(images, None).batch(np.arange(90))["image"].flatten(1).numpy() / 255
    z = PCA(4, random_state=0).fit_transform(pixels.astype(np.float32))
    assert adjusted_rand_score(learner.pseudo_labels_, KMeans(8, n_init=1, random_state=0).fit_predict(z)) > 0.99


def test_features_default_to_a_denoising_autoencoder(images, monkeypatch):
    monkeypatch.setitem(DenoisingAutoencoder.recipe, "epochs", 1)
    learner = tiny(features=None, training=Training(steps=1, batch_size=8, random_state=3)).fit(images)
    stage = DenoisingAutoencoder(training=Training(random_state=3))
    source = learner.open(images, None)
    z = stage.fit_source(source).transform_source(source)
    expected = KMeans(8, n_init=1, random_state=3).fit_predict(z)
    assert np.array_equal(learner.pseudo_labels_, expected)


# Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"clusters": 4}, r"at least as many clusters as samples per batch \(got K=4, B=8\), or set tail='repeat'"),
        ({"tail": "keep"}, "tail must be one of drop, repeat, oversample, got 'keep'"),
        ({"features": FEATURES[:50]}, r"features must be \(90, d\), a row for every readable image, got \(50, 9\)"),
        ({"features": FEATURES[:, 0]}, r"features must be \(90, d\).*got \(90,\)"),
        (
            {"features": np.eye(3)[GROUPS % 3]},
            "k-means found 3 clusters, not 8",
        ),
        ({"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_bad_input(params, message, images):
    with pytest.raises(ValueError, match=message) as caught:
        tiny(**params).fit(images)
    assert "\n" not in str(caught.value)


def test_too_few_images(images):
    with pytest.raises(ValueError, match=r"need at least two batches of images \(2 x 8\), got 12"):
        tiny(features=FEATURES[:12]).fit(images[:12])


def test_labels_are_ignored_with_a_warning(images, digits):
    with pytest.warns(UserWarning, match="y is ignored: GSimCLR makes its own pseudo-classes"):
        learner = tiny().fit(images, digits[1][:90])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = tiny().fit(images)
    assert np.array_equal(learner.transform(images), plain.transform(images))


def test_one_cluster_that_holds_most_is_named(images):
    lopsided = np.r_[np.zeros((75, 2)), np.random.default_rng(0).normal(size=(15, 2)) * 10]
    with pytest.warns(UserWarning, match=r"one group holds 8\d% of the rows: clean batches cover \d+% of the data"):
        tiny(features=lopsided).fit(images)


def test_all_else_is_simclr(images):
    """With a batch composer that shuffles, it is SimCLR to the bit."""
    settings = Training(steps=5, batch_size=8, optimiser="sgd", lr=0.01, weight_decay=5e-4, stop_on_collapse=False)
    guided = tiny(temperature=0.3, training=settings)
    plain = SimCLR("resnet10-x0.125", projection=(16, 8), temperature=0.3, image_size=16, training=settings)
    guided.plan = lambda source, batch_size, rng: SimCLR.plan(guided, source, batch_size, rng)
    theirs = plain.fit(images).net_.state_dict()
    for name, value in guided.fit(images).net_.state_dict().items():
        assert torch.equal(value, theirs[name]), name
