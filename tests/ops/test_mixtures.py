"""Two groups along a line."""

import numpy as np
import pytest
from scipy.stats import norm

from nolabel.ops.mixtures import upper_component

RNG = np.random.default_rng(0)
LOW, HIGH = RNG.normal(1.0, 0.1, 700), RNG.normal(3.0, 0.3, 300)
VALUES = np.concatenate([LOW, HIGH])


def test_it_is_the_posterior_of_the_two_gaussians_that_made_the_values():
    found = upper_component(VALUES, iterations=200, tolerance=1e-9, regularisation=1e-9)
    upper, lower = 0.3 * norm.pdf(VALUES, 3.0, 0.3), 0.7 * norm.pdf(VALUES, 1.0, 0.1)
    assert np.abs(found - upper / (upper + lower)).mean() < 0.01
    assert ((found > 0.5) == (np.arange(1000) >= 700)).mean() > 0.99


def test_the_upper_one_is_the_one_of_the_higher_mean_whatever_the_seed_order_and_scale():
    expected = upper_component(VALUES)
    for seed in range(4):
        np.testing.assert_allclose(upper_component(VALUES, random_state=seed), expected, atol=0.02)
    np.testing.assert_allclose(upper_component(VALUES[::-1])[::-1], expected, atol=0.02)
    np.testing.assert_allclose(upper_component(1000 * VALUES - 7), expected, atol=1e-6)
    mirrored = upper_component(-VALUES, tolerance=1e-9, iterations=200)
    np.testing.assert_allclose(1 - mirrored, upper_component(VALUES, tolerance=1e-9, iterations=200), atol=0.02)


def test_one_extreme_value_does_not_press_the_others_together():
    found = upper_component(np.append(VALUES, [1e6]))
    assert (found[:700] < 0.5).mean() > 0.99
    assert (found[700:] > 0.5).all()
    endless = upper_component(np.append(VALUES, [np.inf]))
    assert np.isfinite(endless).all()
    assert endless[-1] > 0.99


def test_equal_values_are_one_group():
    with pytest.warns(UserWarning, match="all 5 values are 2.3: there is one group, not two"):
        assert upper_component(np.full(5, 2.3)).tolist() == [0.0] * 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 2)), r"values must be \(n >= 1,\), got shape \(2, 2\)"),
        (np.zeros(0), r"got shape \(0,\)"),
        ([1.0, np.nan], "got NaN, -inf or nothing finite"),
        ([1.0, -np.inf], "got NaN, -inf or nothing finite"),
        ([np.inf, np.inf], "got NaN, -inf or nothing finite"),
    ],
)
def test_bad_values(values, message):
    with pytest.raises(ValueError, match=message):
        upper_component(values)
