"""What clustering under latent label shift accepts."""

import numpy as np
import pandas as pd
import pytest

from nolabel.cluster.domains import as_domains, as_probabilities, domain_codes, held_out, known_codes, matched_mix_error


def test_domains_are_integers_or_texts_however_they_come():
    assert as_domains([3, 1], 2).tolist() == [3, 1]
    assert as_domains(np.array([2.0, 5.0]), 2).tolist() == [2, 5]
    assert as_domains(pd.Series(["b", "a"]), 2).tolist() == ["b", "a"]
    assert as_domains(["b", "a"], 2).tolist() == ["b", "a"]


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ([1, 2, 3], r"domain: one for each of 4 rows was expected, got shape \(3,\)"),
        ([[1, 2], [3, 4]], r"domain: one for each of 4 rows was expected, got shape \(2, 2\)"),
        ([1, 1, float("nan"), 2], "domain: integers or texts were expected, row 2 is nan"),
        ([1, 1, 2.5, 2], "domain: integers or texts were expected, row 2 is 2.5"),
        (["a", None, "b", None], r"domain: row 1 has none \(2 of 4 rows\)"),
    ],
)
def test_other_domains_are_refused(domain, message):
    with pytest.raises(ValueError, match=message):
        as_domains(domain, 4)


def test_a_domain_of_one_row_is_named():
    with pytest.raises(ValueError, match="domain: 'b' has 1 row, at least 2 of each domain were expected"):
        domain_codes(np.array(["a", "a", "b", "c", "c"]))


def test_unseen_domains_are_named():
    assert known_codes(np.array([7, 3, 7]), [3, 7]).tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="domain: 5 of row 1 was not among those of fit: 3, 7"):
        known_codes(np.array([3, 5]), [3, 7])
    with pytest.raises(ValueError, match="domain: 'x' of row 0 was not among those of fit: 3, 7"):
        known_codes(np.array(["x"]), [3, 7])


def test_rows_held_out_are_of_every_domain_and_of_the_seed():
    codes = np.repeat([0, 1, 2], [50, 10, 2])
    held = held_out(codes, 0.2, 4)
    assert np.bincount(codes[held]).tolist() == [10, 2, 1]
    assert len(set(held.tolist())) == 13
    np.testing.assert_array_equal(held, held_out(codes, 0.2, 4))
    assert not np.array_equal(held, held_out(codes, 0.2, 5))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0.5, 0.498]], "X: rows were expected to sum to 1, row 0 sums to 0.998"),
        ([[0.5, 0.5], [1.2, -0.2]], "X: probabilities of at least 0 were expected, row 1 holds -0.2"),
        ([[0.5, 0.5], [float("nan"), 1.0]], "X: probabilities of at least 0 were expected, row 1 holds nan"),
        ([0.5, 0.5], r"X: probabilities of domains \(n, r\) were expected, got float64 of shape \(2,\)"),
        (np.zeros((0, 3)), "X: probabilities of domains"),
    ],
)
def test_what_is_no_table_of_probabilities_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        as_probabilities(values)


def test_rounded_probabilities_are_made_to_sum_to_one():
    np.testing.assert_allclose(as_probabilities([[0.5, 0.4995]]).sum(axis=1), 1.0)


def test_mix_error_by_hand_and_whatever_the_clusters_are_called():
    labels, codes = np.array(["x", "x", "y", "y"]), np.array([0, 0, 0, 1])
    # true mixes (2/3, 1/3) and (0, 1); estimated (0.6, 0.4) and (0.1, 0.9): differences 2/30, 2/30, 0.1, 0.1
    mix = np.array([[0.6, 0.4], [0.1, 0.9]])
    expected = (4 / 30 + 0.2) / 4
    assert matched_mix_error(mix, np.array([0, 0, 1, 1]), labels, codes) == pytest.approx(expected)
    assert matched_mix_error(mix[:, ::-1], np.array([1, 1, 0, 0]), labels, codes) == pytest.approx(expected)
    with pytest.raises(ValueError, match="y: 2 classes were expected, as many as n_classes, got 1"):
        matched_mix_error(mix, np.zeros(4, int), np.zeros(4, int), codes)
