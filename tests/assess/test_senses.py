import numpy as np
import pytest

from nolabel.assess.senses import pruned, sense_report


def test_by_hand():
    vectors = np.array([[[1.0, 0.0], [0.0, 2.0]], [[3.0, 4.0], [4.0, 3.0]]])
    priors = np.array([[0.97, 0.03], [0.6, 0.4]])
    report = sense_report(vectors, priors, prune=0.05, certainty=0.8)
    assert (report.words, report.senses, report.active) == (2, 2, 1.5)
    assert report.least_prior == pytest.approx((0.03 + 0.4) / 2)
    assert report.cosine == pytest.approx((0 + 24 / 25) / 2)
    assert not report.collapsed
    assert report.to_dict()["certainty"] == 0.8
    assert "active senses" in str(report)


def test_collapses_are_told():
    different = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    assert sense_report(different, np.array([[0.99, 0.01]])).collapsed
    assert sense_report(np.ones((1, 2, 2)), np.array([[0.5, 0.5]])).collapsed
    assert not sense_report(different, np.array([[0.5, 0.5]])).collapsed


def test_pruned():
    np.testing.assert_allclose(pruned(np.array([0.6, 0.3, 0.1]), np.array([False, True, True])), [0, 0.75, 0.25])
    np.testing.assert_allclose(pruned(np.array([1.0, 0.0]), np.array([False, True])), [0, 1])  # nothing was left
    p = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    np.testing.assert_allclose(pruned(p, np.ones((5, 3), bool)), p)


def test_one_sense_is_no_collapse():
    report = sense_report(np.ones((2, 1, 3)), np.ones((2, 1)))
    assert (report.senses, report.active, report.collapsed) == (1, 1.0, False)


def test_bad_input():
    with pytest.raises(ValueError, match="vectors .words, senses, d. and priors"):
        sense_report(np.ones((3, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="were expected, got"):
        sense_report(np.ones((3, 2, 2)), np.ones((3, 3)))
