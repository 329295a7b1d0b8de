"""The summed loss by hand, heads that see only their prefix, thresholds by hand, the cascade against a slow walk."""

import re

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

import nolabel
from nolabel.learn.matryoshka import (
    THRESHOLDS,
    AdaptiveClassifier,
    MatryoshkaClassifier,
    PrefixHeads,
    smallest_best_threshold,
)
from nolabel.training import Training


def tiny(**params):
    return MatryoshkaClassifier(**{"sizes": (2, 4, 8), "training": Training(steps=4, batch_size=32), **params})


@pytest.fixture(scope="module")
def data():
    """Thirty blobs in 16 dimensions: vectors and labels, 900 rows."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(900) % 30)
    X = rng.normal(size=(30, 16))[y] + 0.35 * rng.normal(size=(900, 16))
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def fitted(data):
    settings = Training(steps=150, batch_size=64, random_state=0)
    return tiny(sizes=(4, 8, 16), training=settings).fit(data[0][:500], data[1][:500])


def net_of(efficient):
    torch.manual_seed(0)
    net = nn.Module()
    net.encoder, net.heads = nn.Identity(), PrefixHeads((2, 8), 3, shared=efficient)
    return net


@pytest.mark.parametrize("efficient", [False, True])
def test_loss_by_hand(efficient):
    net, z, y = net_of(efficient), torch.randn(5, 8), torch.tensor([0, 2, 1, 1, 0])
    total = 0.0
    for size, weight in ((2, 0.5), (8, 2.0)):
        if efficient:
            logits = z[:, :size] @ net.heads.shared.weight[:, :size].T + net.heads.shared.bias
        else:
            logits = z[:, :size] @ net.heads.own[str(size)].weight.T + net.heads.own[str(size)].bias
        wanted = torch.full((5, 3), 0.1 / 3).scatter(1, y[:, None], 0.9 + 0.1 / 3)  # smoothed labels
        total += weight * -(wanted * logits.log_softmax(1)).sum(1).mean()
    model = tiny(weights=(0.5, 2.0), efficient=efficient)
    model.sizes_ = (2, 8)
    torch.testing.assert_close(model.loss(net, (z, y)), total)


def test_heads_see_their_prefix_and_nothing_else():
    for shared in (False, True):
        heads, z = PrefixHeads((2, 8), 3, shared=shared), torch.randn(5, 8, requires_grad=True)
        heads(z[:, :2]).sum().backward()
        assert z.grad[:, :2].abs().min() > 0
        assert z.grad[:, 2:].abs().max() == 0
    assert sum(p.numel() for p in heads.parameters()) == 8 * 3 + 3  # one matrix and one bias
    assert sum(p.numel() for p in PrefixHeads((2, 8), 3, shared=False).parameters()) == (2 + 8) * 3 + 2 * 3


def test_sizes_by_halving(data):
    model = tiny(sizes="halve").fit(*data)
    assert model.sizes_ == (8, 16)
    assert model.transform(data[0]).shape == (900, 16)


def test_every_size_learns(fitted, data):
    X, y = data[0][500:], data[1][500:]
    right = {size: (fitted.predict(X, size) == y).mean() for size in (4, 8, 16)}
    assert right[16] > 0.9
    assert right[4] > 0.6  # 30 classes
    assert fitted.score(X, y) == right[16]
    np.testing.assert_allclose(fitted.predict_proba(X, 4).sum(axis=1), 1, rtol=1e-5)


def test_probabilities_need_the_prefix_only(fitted, data):
    z = fitted.transform(data[0])
    changed = z.copy()
    changed[:, 4:] = 7.0
    assert np.array_equal(fitted.classify(z, 4), fitted.classify(changed, 4))
    assert np.array_equal(fitted.classify(z, 4), fitted.classify(z[:, :4], 4))
    assert not np.array_equal(fitted.classify(z, 8), fitted.classify(changed, 8))


def test_nested_beats_the_first_coordinates_of_a_plain_classifier(fitted, data):
    """Nearest class mean by the first 4 of 16 coordinates, on rows that were not trained on."""
    plain = clone(fitted).set_params(sizes=(16,)).fit(data[0][:500], data[1][:500])
    right = {}
    for name, model in (("nested", fitted), ("plain", plain)):
        z = model.transform(data[0])[:, :4]
        means = np.stack([z[:500][data[1][:500] == c].mean(axis=0) for c in range(30)])
        nearest = np.linalg.norm(z[500:, None] - means, axis=2).argmin(axis=1)
        right[name] = (nearest == data[1][500:]).mean()
    assert right["nested"] > right["plain"] + 0.03


def test_labels_may_be_words_and_data_a_table(data):
    X, y = data
    words = np.array([f"kind {label:02d}" for label in y])
    by_number, by_word = tiny().fit(X, y), tiny().fit(X, words)
    assert np.array_equal(by_number.transform(X), by_word.transform(X))
    assert by_word.classes_.tolist() == sorted(set(words))
    assert np.array_equal(by_word.predict(X), np.array([f"kind {label:02d}" for label in by_number.predict(X)]))
    table = tiny().fit({"features": X, "label": y}, columns={"vector": "features"})
    assert np.array_equal(table.transform(X), by_number.transform(X))


def test_transform_cuts(fitted, data):
    z = fitted.transform(data[0])
    assert np.array_equal(fitted.transform(data[0], dim=8), z[:, :8])
    with pytest.warns(UserWarning, match=r"^dim=5 was not trained for: the sizes are 4, 8, 16$"):
        assert np.array_equal(fitted.transform(data[0], dim=5), z[:, :5])


def test_save_load_clone_and_repeat(fitted, data, tmp_path):
    fitted.save(tmp_path / "run")
    again = nolabel.load(tmp_path / "run")
    assert again.sizes_ == (4, 8, 16)
    assert np.array_equal(again.classes_, fitted.classes_)
    assert np.array_equal(again.predict_proba(data[0], 8), fitted.predict_proba(data[0], 8))
    repeated = clone(fitted).fit(data[0][:500], data[1][:500])
    assert np.array_equal(repeated.transform(data[0]), fitted.transform(data[0]))


def test_own_encoder(data):
    encoder = nn.Linear(16, 8)
    before = encoder.weight.detach().clone()
    model = tiny(encoder=encoder).fit(*data)
    assert torch.equal(encoder.weight, before)
    assert not torch.equal(model.net_.encoder.weight, before)
    with pytest.raises(ValueError, match=r"^sizes: the last must be 8, the width of embeddings 1, got 4$"):
        tiny(encoder=encoder, sizes=(2, 4)).fit(*data)


WRONG = {
    "one class": (lambda X, y: tiny().fit(X, y * 0), ValueError, "label: at least 2 classes were expected, got only 0"),
    "no labels": (lambda X, y: tiny().fit(X), ValueError, "columns: no column 'label'; the columns are vector"),
    "few labels": (lambda X, y: tiny().fit(X, y[:5]), ValueError, r"y: one label a row was expected.*"),
    "NaN": (lambda X, y: tiny().fit(X * np.where(np.arange(900) == 3, np.nan, 1)[:, None], y), ValueError,
            r"X: row 3 has non-finite values \(1 of 900 rows has\)"),
    "falling sizes": (lambda X, y: tiny(sizes=(8, 4)).fit(X, y), ValueError,
                      r"sizes must be whole numbers from 1 that rise, each given once, got \(8, 4\)"),
    "a word": (lambda X, y: tiny(sizes="half").fit(X, y), ValueError,
               "sizes must be 'halve' or prefix sizes that rise, got 'half'"),
    "weights": (lambda X, y: tiny(weights=(1, 1)).fit(X, y), ValueError,
                "weights must be one for each of 3 sizes, got 2"),
    "smoothing": (lambda X, y: tiny(label_smoothing=1.0).fit(X, y), ValueError,
                  r"label_smoothing must lie in \[0, 1\), got 1.0"),
    "encoder": (lambda X, y: tiny(encoder="mlp").fit(X, y), TypeError,
                "encoder must be an nn.Module from vectors to embeddings, got str"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_fits(case, data):
    call, kind, message = WRONG[case]
    with pytest.raises(kind, match=f"^{message}$"):
        call(*data)


def test_wrong_questions(fitted, data):
    X = data[0]
    for call in (fitted.predict, fitted.predict_proba):
        with pytest.raises(ValueError, match=r"^dim must be one of 4, 8, 16, the sizes that have a head, got 5$"):
            call(X, 5)
    with pytest.raises(ValueError, match=r"^dim must lie between 1 and 16, the width of the embedding, got 17$"):
        fitted.transform(X, dim=17)
    with pytest.raises(ValueError, match=r"^vector: 16 columns were expected, as in training, got 15$"):
        fitted.transform(X[:, :15])
    with pytest.raises(ValueError, match=r"^embeddings must be \(n, 8 or more\), got shape \(3, 4\)$"):
        fitted.classify(np.ones((3, 4)), 8)
    with pytest.raises(NotFittedError):
        tiny().predict(X)


def test_threshold_by_hand():
    # sure rows are right when narrow, the unsure one only when wide: any threshold from 0.3 to below 0.7 gets all right
    confidence, narrow = np.array([0.7, 0.9, 0.3]), np.array([True, True, False])
    wide = np.array([False, True, True])
    found = smallest_best_threshold(confidence, narrow, wide)
    assert 0.3 <= found < 0.7
    assert found == THRESHOLDS[THRESHOLDS >= 0.3][0]  # the smallest of equals
    assert smallest_best_threshold(confidence, wide, wide) == THRESHOLDS[0]  # nothing to gain: always stop early
    assert smallest_best_threshold(confidence, narrow & False, wide) >= 0.9  # the wide size has to decide all rows


@pytest.mark.parametrize("sizes", [None, (4, 16), (16,)])
def test_cascade_equals_a_slow_walk(fitted, data, sizes):
    X, y = data
    adaptive = AdaptiveClassifier(fitted, sizes).fit(X[500:700], y[500:700])
    labels, used = adaptive.predict(X[700:])
    steps = sizes or (4, 8, 16)
    for row, x in enumerate(X[700:760]):
        for number, size in enumerate(steps):
            p = fitted.predict_proba(x[None], size)[0]
            if number == len(steps) - 1 or p.max() > adaptive.thresholds_[number]:
                break
        assert (labels[row], used[row]) == (fitted.classes_[p.argmax()], size)
    assert adaptive.expected_dim_ == adaptive.predict(X[500:700])[1].mean()
    if sizes is None:
        assert 4 < adaptive.expected_dim_ < 16
        assert (labels == y[700:]).mean() >= (fitted.predict(X[700:]) == y[700:]).mean() - 0.03


def test_thresholds_are_the_best_for_each_pair_of_sizes(fitted, data):
    X, y = data[0][500:700], data[1][500:700]
    adaptive = AdaptiveClassifier(fitted).fit(X, y)
    for number, (narrow, wide) in enumerate(((4, 8), (8, 16))):
        p, q = fitted.predict_proba(X, narrow), fitted.predict_proba(X, wide)
        right = [(np.where(p.max(1) > t, p.argmax(1), q.argmax(1)) == y).sum() for t in THRESHOLDS]
        assert adaptive.thresholds_[number] == THRESHOLDS[int(np.argmax(right))]


def test_adaptive_is_saved_with_its_model(fitted, data, tmp_path):
    adaptive = AdaptiveClassifier(fitted).fit(data[0][500:700], data[1][500:700])
    adaptive.save(tmp_path / "adaptive")
    again = nolabel.load(tmp_path / "adaptive")
    for expected, found in zip(adaptive.predict(data[0][700:]), again.predict(data[0][700:])):
        assert np.array_equal(expected, found)


ADAPTIVE_WRONG = {
    "empty": (lambda m, X, y: AdaptiveClassifier(m).fit(X[:0], y[:0]), ValueError,
              "X: at least 1 row and 1 column were expected, got shape (0, 16)"),
    "size without head": (lambda m, X, y: AdaptiveClassifier(m, (4, 5)).fit(X, y), ValueError,
                          "sizes must be among 4, 8, 16, which have a head, got 5"),
    "falling": (lambda m, X, y: AdaptiveClassifier(m, (8, 4)).fit(X, y), ValueError,
                "sizes must be whole numbers from 1 that rise, each given once, got (8, 4)"),
    "no model": (lambda m, X, y: AdaptiveClassifier("mrl").fit(X, y), TypeError,
                 "model must be a fitted MatryoshkaClassifier, got str"),
    "foreign labels": (lambda m, X, y: AdaptiveClassifier(m).fit(X, y + 100), ValueError,
                       "y: none of its labels is known to the model, such as"),
    "unfitted model": (lambda m, X, y: AdaptiveClassifier(tiny()).fit(X, y), NotFittedError,
                       "this MatryoshkaClassifier is not fitted"),
    "before fit": (lambda m, X, y: AdaptiveClassifier(m).predict(X), NotFittedError,
                   "this AdaptiveClassifier is not fitted"),
}  # fmt: skip


@pytest.mark.parametrize("case", ADAPTIVE_WRONG)
def test_wrong_cascades(case, fitted, data):
    call, kind, message = ADAPTIVE_WRONG[case]
    with pytest.raises(kind, match=f"^{re.escape(message)}"):
        call(fitted, *data)
