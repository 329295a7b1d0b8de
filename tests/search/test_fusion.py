"""Fused scores by hand, rows that a list lacks, invariances, and wrong lists."""

import math
import re

import numpy as np
import pytest

from nolabel.search.fusion import METHODS, fuse


def ranked(**lists):
    return {name: (np.array(ids), np.array(scores, dtype=float)) for name, (ids, scores) in lists.items()}


TWO = ranked(a=([7, 3, 5], [0.9, 0.8, 0.1]), b=([3, 9], [12.0, 4.0]))


def test_reciprocal_ranks_by_hand():
    ids, scores = fuse(TWO, 10, "rrf")
    expected = {3: 1 / 62 + 1 / 61, 7: 1 / 61, 9: 1 / 62, 5: 1 / 63}
    assert ids.tolist() == [3, 7, 9, 5]
    np.testing.assert_allclose(scores, [expected[row] for row in ids], rtol=1e-12)


def test_standardised_scores_by_hand():
    # a: mean 4, standard deviation sqrt(6); b: mean 2, standard deviation 1
    ids, scores = fuse(ranked(a=([7, 3, 5], [7.0, 4.0, 1.0]), b=([3, 9], [3.0, 1.0])), 10, "zscore")
    step = 3 / math.sqrt(6)
    expected = {7: step - 1, 3: 0 + 1, 5: -step - 1, 9: -step - 1}  # 7 and 5 lack b: its least; 9 lacks a
    assert ids.tolist() == [3, 7, 5, 9]  # the tie by id
    np.testing.assert_allclose(scores, [expected[row] for row in ids], atol=1e-12)


def test_a_list_of_equal_scores_says_only_who_is_in_it():
    ids, scores = fuse(ranked(a=([1, 2], [5.0, 5.0]), b=([4, 1, 2], [3.0, 2.0, 1.0])), 10, "zscore")
    step = math.sqrt(1.5)
    assert ids.tolist() == [4, 1, 2]
    np.testing.assert_allclose(scores, [step - 1, 0, -step], atol=1e-12)
    ids, scores = fuse(ranked(a=([8], [0.3]), b=([4, 8], [2.0, 1.0])), 10, "zscore")
    assert (ids.tolist(), scores.tolist()) == ([4, 8], [0.0, -1.0])


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_list_counts_for_nobody(method):
    alone = fuse({"a": TWO["a"]}, 10, method)
    both = fuse({"a": TWO["a"], "b": (np.empty(0, int), np.empty(0))}, 10, method)
    assert both[0].tolist() == alone[0].tolist() == [7, 3, 5]
    np.testing.assert_array_equal(both[1], alone[1])
    empty = fuse({"a": (np.empty(0, int), np.empty(0))}, 10, method)
    assert (len(empty[0]), len(empty[1])) == (0, 0)
    assert len(fuse({}, 10, method)[0]) == 0


def test_invariances():
    rng = np.random.default_rng(0)
    lists = {}
    for name in "ab":
        ids = rng.choice(60, 40, replace=False)
        lists[name] = (ids, -np.sort(-rng.random(40)))
    for method in METHODS:
        ids, scores = fuse(lists, 20, method)
        assert fuse(dict(reversed(lists.items())), 20, method)[0].tolist() == ids.tolist()
        assert (np.diff(scores) <= 0).all()
        assert fuse(lists, 7, method)[0].tolist() == ids[:7].tolist()
        stretched = lists | {"a": (lists["a"][0], 100 * lists["a"][1] - 3)}
        assert fuse(stretched, 20, method)[0].tolist() == ids.tolist()
    bent = lists | {"a": (lists["a"][0], lists["a"][1] ** 9)}  # ranks stay, distances do not
    assert fuse(bent, 20, "rrf")[0].tolist() == fuse(lists, 20, "rrf")[0].tolist()
    assert fuse(bent, 20, "zscore")[0].tolist() != fuse(lists, 20, "zscore")[0].tolist()


def test_a_row_found_by_both_beats_rows_found_by_one_at_the_same_rank():
    lists = ranked(a=([1, 5, 2], [3.0, 2.0, 1.0]), b=([3, 5, 4], [3.0, 2.0, 1.0]))
    assert fuse(lists, 1, "rrf")[0].tolist() == [5]


BAD = {
    "method": ({"method": "sum"}, "fusion: expected one of rrf, zscore, got 'sum'"),
    "k": ({"k": 0}, "k: expected a whole number of at least 1, got 0"),
    "length": ({"lists": ranked(a=([1, 2], [1.0]))}, "lists: 'a': expected a score for each id and no id twice"),
    "twice": ({"lists": ranked(a=([1, 1], [2.0, 1.0]))}, "lists: 'a': expected a score for each id and no id twice"),
    "nan": ({"lists": ranked(a=([1, 2], [1.0, np.nan]))}, "lists: 'a' holds NaN"),
    "order": ({"lists": ranked(a=([1, 2], [1.0, 2.0]))}, "lists: 'a': expected the largest score first"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lists(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fuse(**({"lists": TWO, "k": 10} | call))
