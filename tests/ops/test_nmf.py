"""Factorisations of a table of counts, against products that were made by hand."""

import numpy as np
import pytest

from nolabel.ops.nmf import cells_by_mix, mix_by_anchors, mix_by_nmf, nonnegative_weights, successive_projection

MIX = np.array([[0.8, 0.6, 0.4], [0.2, 0.4, 0.6]])  # p(class | domain): class 0 is 0.6 of all
CELLS = np.array([[0.5, 0.0], [0.5, 0.3], [0.0, 0.7]])  # q(cell | class): the first and the last hold one class alone
TABLE = CELLS @ MIX


def permuted(found, expected):
    """Rows in the order in which they are nearest to the expected ones."""
    return found if np.abs(found - expected).sum() <= np.abs(found[::-1] - expected).sum() else found[::-1]


def test_non_negative_weights_by_hand():
    basis = np.array([[1.0, 1.0], [0.0, 1.0]])
    # (2, 1) = 1 e0 + 1 (1, 1); (1, -1) would need -1 of the second column, so the first alone: 1
    np.testing.assert_allclose(nonnegative_weights(basis, np.array([[2.0, 1.0], [1.0, -1.0]])), [[1, 1], [1, 0]])
    assert nonnegative_weights(basis, np.zeros((0, 2))).shape == (0, 2)


def test_corners_are_found_among_their_mixtures_whatever_the_order():
    corners = np.array([[0.9, 0.1, 0.0], [0.0, 0.8, 0.2], [0.1, 0.0, 0.9]])
    weights = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], size=30)
    rows = np.concatenate([weights @ corners, corners])
    order = np.random.default_rng(1).permutation(33)
    found = order[successive_projection(rows[order], 3)]
    assert sorted(found) == [30, 31, 32]


def test_rows_of_one_direction_have_no_second_corner():
    with pytest.raises(ValueError, match="rows: they span 1 dimensions, 2 corners were expected"):
        successive_projection(np.array([[1.0, 2.0], [2.0, 4.0]]), 2)


def test_anchors_give_back_the_mixes_of_an_exact_product():
    found = mix_by_anchors(TABLE, np.array([10, 10, 10]), 2)
    np.testing.assert_allclose(permuted(found, MIX), MIX, atol=1e-12)
    np.testing.assert_allclose(permuted(cells_by_mix(TABLE, found).T, CELLS.T), CELLS.T, atol=1e-12)


def test_anchors_of_more_classes_whose_frequencies_differ():
    rng = np.random.default_rng(2)
    mix = rng.dirichlet([0.3] * 4, size=8).T  # (4, 8)
    cells = np.concatenate([0.4 * np.eye(4), 0.6 * rng.dirichlet([1.0] * 5, size=4).T])  # an own cell each, five mixed
    found = mix_by_anchors(cells @ mix, np.full(9, 10), 4)
    nearest = [np.abs(found - row).sum(axis=1).argmin() for row in mix]
    assert sorted(nearest) == [0, 1, 2, 3]
    np.testing.assert_allclose(found[nearest], mix, atol=1e-9)


def test_a_small_cell_is_no_corner():
    outlier = np.array([[0.0, 0.0, 0.01]])  # a row or two, all of the last domain, lie beyond all corners
    table = np.concatenate([TABLE, outlier])
    np.testing.assert_allclose(permuted(mix_by_anchors(table, np.array([10, 10, 10, 1]), 2), MIX), MIX, atol=0.02)
    moved = permuted(mix_by_anchors(table, np.array([10, 10, 10, 10]), 2), MIX)
    assert np.abs(moved - MIX).max() > 0.1


def test_empty_cells_count_for_nothing():
    table = np.concatenate([TABLE, np.zeros((1, 3))])
    found = mix_by_anchors(table, np.array([10, 10, 10, 0]), 2)
    np.testing.assert_allclose(permuted(found, MIX), MIX, atol=1e-12)
    np.testing.assert_array_equal(cells_by_mix(table, found)[3], [0, 0])


def test_nmf_gives_back_the_mixes_where_the_factors_are_unique():
    mix = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])  # two domains of one class, two cells of one class
    found = mix_by_nmf(CELLS @ mix, 2, n_init=3, random_state=0)
    np.testing.assert_allclose(permuted(found, mix), mix, atol=0.02)
    np.testing.assert_allclose(found.sum(axis=0), 1.0)
    np.testing.assert_array_equal(found, mix_by_nmf(CELLS @ mix, 2, n_init=3, random_state=0))


def test_nmf_that_begins_at_the_solution_stays_there():
    np.testing.assert_allclose(mix_by_nmf(TABLE, 2, start=MIX), MIX, atol=1e-6)


def test_nmf_explains_an_exact_product_that_it_need_not_find():
    found = mix_by_nmf(TABLE, 2, n_init=3)
    assert np.abs(TABLE - cells_by_mix(TABLE, found) @ found).max() < 0.01
