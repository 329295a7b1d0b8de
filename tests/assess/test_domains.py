import numpy as np
import pytest

from nolabel.assess.domains import domain_purity


def test_by_hand():
    """Angles 0, 1, 2 and 50 degrees: the neighbours of each are known."""
    angles = np.radians([0.0, 1.0, 2.5, 50.0])
    z = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # nearest: 0 -> 1, 1 -> 0, 2 -> 1, 3 -> 2
    assert domain_purity(z, ["a", "b", "b", "b"], k=1) == 0.5
    assert domain_purity(z, ["a", "a", "a", "b"], k=1) == 0.75
    assert domain_purity(z, [1, 1, 2, 2], k=3) == pytest.approx(1 / 3)  # everybody else: one of three is alike
    assert domain_purity(z * np.array([[1.0], [5.0], [0.1], [9.0]]), ["a", "b", "b", "b"], k=1) == 0.5  # cosine


def test_equals_a_loop_and_chance():
    rng = np.random.default_rng(0)
    z, domains = rng.normal(size=(300, 8)), rng.integers(0, 3, 300)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    shares = []
    for i in range(300):
        others = np.delete(np.arange(300), i)
        near = others[np.argsort(-(unit[others] @ unit[i]))[:10]]
        shares.append((domains[near] == domains[i]).mean())
    assert domain_purity(z, domains) == pytest.approx(np.mean(shares), abs=1e-9)
    assert domain_purity(z, domains) == pytest.approx(1 / 3, abs=0.05)
    assert domain_purity(z + 20 * np.eye(8)[domains], domains) == 1.0


def test_bad_input():
    z = np.random.default_rng(0).normal(size=(12, 3))
    with pytest.raises(ValueError, match="domains: at least 2 were expected, got only a"):
        domain_purity(z, ["a"] * 12)
    with pytest.raises(ValueError, match="domains: one label a row"):
        domain_purity(z, [0, 1])
    with pytest.raises(ValueError, match=r"k: an integer in \[1, 11\] was expected .*got 12"):
        domain_purity(z, [0, 1] * 6, k=12)
    with pytest.raises(ValueError, match="row 0 has non-finite"):
        domain_purity(np.where(np.arange(12)[:, None] == 0, np.nan, z), [0, 1] * 6)
