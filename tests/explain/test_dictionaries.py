"""Dictionaries of activations, against answers by hand and other solvers."""

import numpy as np
import pytest
from scipy.optimize import nnls

from nolabel.explain.dictionaries import METHODS, Dictionary, learn_dictionary, non_negative_coefficients

RNG = np.random.default_rng(0)
#: Rank 3, not negative, and some noise.
ROWS = RNG.random((60, 3)) @ RNG.random((3, 7)) + 0.01 * RNG.random((60, 7))


def test_the_svd_is_the_best_reconstruction_of_its_rank():
    learned = learn_dictionary(ROWS, 2, "svd")
    u, s, v = np.linalg.svd(ROWS, full_matrices=False)
    best = (u[:, :2] * s[:2]) @ v[:2]
    np.testing.assert_allclose(learned.reconstruct(learned.coefficients(ROWS)), best, atol=1e-5)
    np.testing.assert_allclose(learned.concepts @ learned.concepts.T, np.eye(2), atol=1e-6)
    assert learned.mean.tolist() == [0.0] * 7
    assert learned.coefficients(ROWS)[:, 0].mean() > 0


def test_pca_takes_the_mean_off():
    from sklearn.decomposition import PCA

    learned = learn_dictionary(ROWS, 2, "pca")
    expected = PCA(2).fit(ROWS)
    np.testing.assert_allclose(np.abs(learned.concepts), np.abs(expected.components_), atol=1e-5)
    back = expected.inverse_transform(expected.transform(ROWS))
    np.testing.assert_allclose(learned.reconstruct(learned.coefficients(ROWS)), back, atol=1e-5)


def test_kmeans_by_hand():
    a = np.array([[0.0, 1.0], [0.0, 3.0], [5.0, 0.0], [7.0, 0.0]])
    learned = learn_dictionary(a, 2, "kmeans")
    assert sorted(learned.concepts.tolist()) == [[0.0, 2.0], [6.0, 0.0]]
    new = learned.coefficients(np.array([[0.2, 9.0], [1.0, 0.5]]))
    near = learned.concepts.argmax(axis=1).tolist()
    assert new.tolist() == 2 * [[float(at == 1) for at in near]]
    assert learned.coefficients(a).sum(axis=1).tolist() == [1.0] * 4


def test_nmf_finds_parts_and_its_rows_have_length_1():
    a = np.array([[2.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 3.0, 4.0], [0.0, 6.0, 8.0]])
    learned = learn_dictionary(a, 2, "nmf")
    parts = learned.concepts[np.argsort(learned.concepts[:, 0])]
    np.testing.assert_allclose(parts, [[0.0, 0.6, 0.8], [1.0, 0.0, 0.0]], atol=1e-3)
    assert (learned.concepts >= 0).all()


def test_new_coefficients_are_non_negative_least_squares():
    concepts = learn_dictionary(ROWS, 3, "nmf").concepts
    new = RNG.random((9, 7))
    expected = np.array([nnls(concepts.T.astype(float), row)[0] for row in new])
    np.testing.assert_allclose(non_negative_coefficients(new, concepts), expected, atol=2e-3)
    np.testing.assert_allclose(non_negative_coefficients(new[:1], concepts), expected[:1], atol=2e-3)
    assert not non_negative_coefficients(np.zeros((2, 7)), concepts).any()


def test_sparse_coefficients_shrink_by_the_penalty():
    learned = Dictionary("sparse", np.eye(3, dtype=np.float32), np.zeros(3, np.float32), length=2.0)
    found = learned.coefficients(np.array([[1.0, 0.05, -3.0]]))
    np.testing.assert_allclose(found, [[0.9, 0.0, 0.0]], atol=1e-6)  # 0.05 of the length, 2, less; never below 0


@pytest.mark.parametrize("method", METHODS)
def test_every_dictionary_of_three_parts_finds_them_and_repeats_itself(method):
    first, second = (learn_dictionary(ROWS, 3, method, random_state=1) for _ in range(2))
    assert np.array_equal(first.concepts, second.concepts)
    back = first.reconstruct(first.coefficients(ROWS))
    assert np.linalg.norm(back - ROWS) / np.linalg.norm(ROWS) < (0.35 if method == "kmeans" else 0.12)
    if method != "kmeans":
        np.testing.assert_allclose(np.linalg.norm(first.concepts, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("method", ["svd", "nmf", "kmeans"])
def test_the_unit_of_activations_does_not_matter(method):
    one, ten = (learn_dictionary(scale * ROWS, 3, method) for scale in (1, 10))
    scale = 10 if method == "kmeans" else 1
    np.testing.assert_allclose(ten.concepts, scale * one.concepts, atol=5e-3 * scale)


def test_bad_input():
    with pytest.raises(ValueError, match=r"nmf needs values of at least 0, as after a ReLU, got -2; .*method='pca'"):
        learn_dictionary(ROWS - 2 - ROWS.min(), 3, "nmf")
    with pytest.raises(ValueError, match="nmf needs values of at least 0"):
        learn_dictionary(ROWS, 3, "nmf").coefficients(ROWS - 1)
    with pytest.raises(
        ValueError, match=r"n_concepts: an integer in \[1, 7\] was expected \(60 rows of 7 activations\), got 8"
    ):
        learn_dictionary(ROWS, 8)
    with pytest.raises(ValueError, match="method must be one of kmeans, pca, svd, nmf, sparse, got 'ica'"):
        learn_dictionary(ROWS, 2, "ica")
    with pytest.raises(ValueError, match="row 0 has non-finite values"):
        learn_dictionary(np.full((4, 3), np.nan), 2)
    with pytest.raises(ValueError, match="all of them are 0"):
        learn_dictionary(np.zeros((4, 3)), 2)
    with pytest.raises(ValueError, match="2 different rows of activations have no 3 centroids"):
        learn_dictionary(np.repeat(ROWS[:2], 5, axis=0), 3, "kmeans")
    with pytest.raises(ValueError, match="a width of 7 was expected, as in fit, got 5"):
        learn_dictionary(ROWS, 2).coefficients(ROWS[:, :5])
