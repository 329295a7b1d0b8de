"""Information of pairs of columns against scikit-learn's and by hand, and what is left of it beyond chance."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from nolabel.ops.mutual_information import adjusted_information, mutual_information


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 6, (300, 4))
    columns[:, 3] = columns[:, 0] // 2
    found = mutual_information(columns)
    expected = [[mutual_info_score(a, b) for b in columns.T] for a in columns.T]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.array_equal(found, found.T)


def test_by_hand():
    """Two coins that agree in three of four throws."""
    columns = np.array([[0, 0], [1, 1], [0, 0], [0, 1]])
    joint = {(0, 0): 0.5, (1, 1): 0.25, (0, 1): 0.25}
    first, second = {0: 0.75, 1: 0.25}, {0: 0.5, 1: 0.5}
    expected = sum(p * np.log(p / (first[a] * second[b])) for (a, b), p in joint.items())
    assert mutual_information(columns)[0, 1] == pytest.approx(expected)
    assert mutual_information(np.array([["a", "x"], ["b", "x"]]))[0, 1] == 0


def test_chance_is_taken_away():
    """Raw information ranks a nearly unique column first; what is left of it beyond chance does not."""
    rng = np.random.default_rng(1)
    n = 400
    shelf = rng.integers(0, 8, n)
    twin = np.where(rng.random(n) < 0.8, shelf, rng.integers(0, 8, n))
    number = np.arange(n) // 2  # nearly unique
    columns = np.stack([shelf, twin, number, rng.integers(0, 8, n), np.zeros(n, int)], axis=1)
    raw, left = mutual_information(columns), adjusted_information(columns, np.random.default_rng(0))
    assert raw[0, 2] > raw[0, 1]
    assert left[0, 1] > 0.4 > 0.1 > left[0, 2]
    assert left[0, 3] < 0.05
    assert left[0, 4] == 0
    assert np.array_equal(left, left.T)
    assert np.diag(left).tolist() == [1] * 5
    assert ((left >= 0) & (left <= 1)).all()


def test_names_do_not_matter():
    rng = np.random.default_rng(2)
    columns = rng.integers(0, 5, (100, 3))
    renamed = np.array([3, 1, 4, 0, 2])[columns]
    np.testing.assert_allclose(mutual_information(columns), mutual_information(renamed), atol=1e-12)


def test_bad_input():
    with pytest.raises(ValueError, match=r"columns must be \(n, k\).* got shape \(3,\)"):
        mutual_information(np.zeros(3))
    with pytest.raises(ValueError, match="shuffles must be at least 1, got 0"):
        adjusted_information(np.zeros((3, 2)), np.random.default_rng(0), shuffles=0)
