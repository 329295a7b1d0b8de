"""From domains to classes, by Bayes' rule worked out by hand."""

import numpy as np
import pytest

from nolabel.cluster.posterior import class_posterior, class_weights, domain_given_class

MIX = np.array([[0.8, 0.2], [0.6, 0.4], [0.4, 0.6]])  # p(class | domain), (3, 2)
GIVEN = np.array([[4 / 9, 1 / 6], [3 / 9, 2 / 6], [2 / 9, 3 / 6]])


def test_domains_of_a_class_are_its_column_divided_by_its_sum():
    np.testing.assert_allclose(domain_given_class(MIX), GIVEN)


def test_a_class_that_no_domain_has_is_guarded():
    np.testing.assert_allclose(domain_given_class(np.array([[1.0, 0.0], [1.0, 0.0]])), [[0.5, 1e-8], [0.5, 1e-8]])


@pytest.mark.parametrize("project", ["clip", "nnls", "pinv"])
def test_bayes_by_hand(project):
    q = GIVEN @ np.array([0.25, 0.75])
    told = class_posterior(np.stack([q, q, q]), GIVEN, np.array([0, 2, 1]), project)
    # domain 0: 4/9 * 1/4 to 1/6 * 3/4 = 8 to 9; domain 2: 2/9 * 1/4 to 1/2 * 3/4 = 4 to 27; domain 1: 1/12 to 1/4
    np.testing.assert_allclose(told, [[8 / 17, 9 / 17], [4 / 31, 27 / 31], [0.25, 0.75]], atol=1e-9)
    np.testing.assert_allclose(class_posterior(q[None], GIVEN, None, project), [[0.25, 0.75]], atol=1e-9)


def test_the_same_as_bayes_rule_from_the_mixes():
    """In domain d: p(y | x, d) is proportional to p(y | d) p(x | y), whatever p(x | y) is."""
    likelihood = np.array([0.3, 0.05])
    pooled = MIX.mean(axis=0)
    weights = pooled * likelihood / (pooled @ likelihood)  # q(y | x)
    q = GIVEN @ weights
    for d in range(3):
        direct = MIX[d] * likelihood / (MIX[d] @ likelihood)
        np.testing.assert_allclose(class_posterior(q[None], GIVEN, np.array([d]), "clip")[0], direct)


def test_projections_by_hand():
    given = np.array([[0.75, 0.125], [0.25, 0.875]])  # determinant 0.625
    beyond = np.array([[1.0, 0.0]])
    np.testing.assert_allclose(class_weights(beyond, given, "pinv"), [[1.4, -0.4]])
    np.testing.assert_allclose(class_weights(beyond, given, "clip"), [[1.4, 0.0]], atol=1e-12)
    np.testing.assert_allclose(class_weights(beyond, given, "nnls"), [[0.75 / 0.625, 0.0]])
    np.testing.assert_allclose(class_posterior(beyond, given, None, "pinv"), [[1.4, -0.4]])
    np.testing.assert_allclose(class_posterior(beyond, given, None, "nnls"), [[1.0, 0.0]])


def test_without_a_bound_a_negative_sum_turns_the_answer_round():
    given = np.array([[0.65, 0.1], [0.3, 0.1], [0.05, 0.8]])
    surely_first, third = np.array([[1.0, 0.0, 0.0]]), np.array([2])
    # normal equations: v = (1.2917, -0.1127); in the third domain 0.0646 and -0.0902, which sum to less than 0
    np.testing.assert_allclose(class_weights(surely_first, given, "pinv"), [[1.2917, -0.1127]], atol=1e-4)
    assert class_posterior(surely_first, given, third, "pinv").argmax() == 1
    for project in ("clip", "nnls"):
        np.testing.assert_allclose(class_posterior(surely_first, given, third, project), [[1.0, 0.0]], atol=1e-12)


def test_a_domain_that_rules_a_row_out_leaves_it_its_likeness():
    given = np.array([[1.0, 0.0], [0.0, 0.5], [0.0, 0.5]])
    told = class_posterior(np.array([[1.0, 0.0, 0.0]]), given, np.array([1]), "clip")
    np.testing.assert_allclose(told, [[1.0, 0.0]])


@pytest.mark.parametrize("project", ["clip", "nnls"])
def test_a_row_with_nothing_of_any_class_is_of_all_alike(project):
    given = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    for domains in (None, np.array([0])):
        np.testing.assert_allclose(class_posterior(np.array([[0.0, 0.0, 1.0]]), given, domains, project), [[0.5, 0.5]])


def test_classes_in_another_order_are_the_same_classes():
    q = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], size=20)
    domains = np.arange(20) % 3
    for project in ("clip", "nnls", "pinv"):
        told = class_posterior(q, GIVEN, domains, project)
        np.testing.assert_allclose(class_posterior(q, GIVEN[:, ::-1], domains, project), told[:, ::-1], atol=1e-9)
