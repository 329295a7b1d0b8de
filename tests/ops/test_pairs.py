from collections import Counter

import numpy as np
import pytest

from nolabel.ops.pairs import pair_rows

GROUPS = np.array([3, 3, 3, 7, 7, 1, 3, 7, 7, 3])  # five, four and one


def test_pairs_are_of_one_group_and_disjoint():
    for seed in range(20):
        pairs = pair_rows(GROUPS, np.random.default_rng(seed))
        assert pairs.shape == (4, 2)
        assert len(set(pairs.ravel())) == 8
        assert np.array_equal(GROUPS[pairs[:, 0]], GROUPS[pairs[:, 1]])


def test_everybody_meets_everybody_in_either_order():
    rng = np.random.default_rng(0)
    met = Counter(tuple(pair) for _ in range(2000) for pair in pair_rows([0] * 4, rng))
    assert len(met) == 12
    assert max(met.values()) < 1.3 * min(met.values())  # 333 expected each, deviation 17


def test_order_of_the_pairs_is_random():
    groups = np.repeat(np.arange(50), 2)
    order = groups[pair_rows(groups, np.random.default_rng(0))[:, 0]]
    assert sorted(order) == list(range(50))
    assert abs(np.corrcoef(order, np.arange(50))[0, 1]) < 0.4


def test_texts_and_seed():
    names = ["b", "a", "b", "a"]
    pairs = pair_rows(names, np.random.default_rng(5))
    assert np.array_equal(pairs, pair_rows(names, np.random.default_rng(5)))
    assert {frozenset(pair) for pair in pairs.tolist()} == {frozenset((0, 2)), frozenset((1, 3))}


def test_nobody_to_meet():
    assert pair_rows([1, 2, 3], np.random.default_rng(0)).shape == (0, 2)
    with pytest.raises(ValueError, match=r"one value a row, got shape \(2, 2\)"):
        pair_rows(np.zeros((2, 2)), np.random.default_rng(0))
