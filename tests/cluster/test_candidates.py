import numpy as np
import pytest

from nolabel.cluster.candidates import candidates, cosine, inliers, unit

S = np.array([0.2, 0.9, 0.5, 0.9, -0.1, 0.7])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"min_docs": 1}, [1]),  # strictly above the highest there is none: the one nearest is taken
        ({"min_docs": 4}, [1, 3, 5, 2]),
        ({"min_docs": 99}, [1, 3, 5, 2, 0, 4]),  # a corpus smaller than that gives all it has
        ({"min_docs": 1, "offset": 0.2}, [1, 3]),  # above 0.7, not 0.7 itself
        ({"min_docs": 1, "offset": 0.45}, [1, 3, 5, 2]),
        ({"min_docs": 1, "offset": 0.45, "max_docs": 2}, [1, 3]),
        ({"min_docs": 1, "threshold": 0.5}, [1, 3, 5]),
        ({"min_docs": 1, "threshold": -1.0}, [1, 3, 5, 2, 0, 4]),
        ({"min_docs": 3, "threshold": 0.95, "max_docs": 3}, [1, 3, 5]),
        ({"min_docs": 2, "threshold": 0.95}, [1, 3]),
        ({"min_docs": 1, "threshold": 0.5, "offset": 2.0}, [1, 3, 5]),  # a threshold that is given counts alone
    ],
)
def test_by_hand(settings, expected):
    assert candidates(S, **settings).tolist() == expected


def test_against_a_slow_recomputation():
    rng = np.random.default_rng(0)
    for _ in range(200):
        s = rng.normal(size=rng.integers(1, 30)).clip(-1, 1)
        least, most, offset = int(rng.integers(1, 8)), int(rng.integers(8, 20)), float(rng.uniform(0, 1))
        passing = [i for i in range(len(s)) if s[i] > max(s) - offset]
        ranked = sorted(range(len(s)), key=lambda i: -s[i])
        expected = sorted(passing, key=lambda i: -s[i])[:most]
        if len(expected) < least:
            expected = ranked[:least]
        assert candidates(s, min_docs=least, max_docs=most, offset=offset).tolist() == expected


def test_order_of_rows_does_not_matter():
    order = np.random.default_rng(1).permutation(len(S))
    distinct = S + np.arange(6) * 1e-6
    found = candidates(distinct[order], min_docs=3)
    assert order[found].tolist() == candidates(distinct, min_docs=3).tolist()


def test_cosine_and_unit():
    a = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    b = np.array([[0.0, 3.0], [5.0, 0.0]])
    np.testing.assert_allclose(cosine(a, b), [[0, 1], [0.5**0.5, 0.5**0.5], [0, 0]], atol=1e-12)
    np.testing.assert_allclose(cosine(7 * a, b), cosine(a, b), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(unit(a), axis=1), [1, 1, 0])


def test_inliers_leave_the_far_row_out_and_never_all():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=(40, 5)), np.full((1, 5), 12.0)])
    assert np.flatnonzero(~inliers(z)).tolist() == [40]
    for n in (1, 2, 3, 4, 25):
        for _ in range(20):
            kept = inliers(rng.standard_cauchy(size=(n, 2)))
            assert kept.any()
            assert kept.shape == (n,)
