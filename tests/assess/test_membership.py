"""Membership attacks: blind to classes, at chance where there is nothing, right where there is; refusals."""

import numpy as np
import pytest

from nolabel.assess.membership import loss_auc, membership_inference


def answers(rng, rows, least, most, classes=4):
    """Probabilities whose largest lies between two bounds, at a random class."""
    top = rng.uniform(least, most, rows)
    rest = rng.dirichlet(np.ones(classes - 1), rows) * (1 - top)[:, None]
    return rng.permuted(np.c_[top, rest], axis=1)


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


def test_a_model_that_remembers_is_found_out(rng):
    members, strangers = answers(rng, 300, 0.95, 1.0), answers(rng, 200, 0.5, 0.9)
    remembered = membership_inference(members, strangers, answers(rng, 100, 0.95, 1.0))
    assert remembered.accuracy > 0.97
    assert remembered.confidence_auc == 1.0
    assert remembered.suspects_called > 0.97
    forgotten = membership_inference(members, strangers, answers(rng, 100, 0.5, 0.9))
    assert forgotten.suspects_called < 0.03
    assert set(forgotten.to_dict()) >= {"accuracy", "auc", "suspects_called", "strangers_called"}


def test_nothing_to_find_is_chance(rng):
    found = membership_inference(answers(rng, 600, 0.4, 1.0), answers(rng, 200, 0.4, 1.0))
    assert found.accuracy == pytest.approx(0.5, abs=0.06)
    assert found.auc == pytest.approx(0.5, abs=0.08)
    assert found.suspects_called is None
    assert found.accuracy == pytest.approx((found.members_called + 1 - found.strangers_called) / 2)


def test_classes_do_not_count_and_seeds_repeat(rng):
    members, strangers = answers(rng, 80, 0.7, 1.0), answers(rng, 80, 0.5, 0.9)
    found = membership_inference(members, strangers, strangers)
    assert membership_inference(members[:, ::-1], rng.permuted(strangers, axis=1), strangers[:, ::-1]) == found
    few = membership_inference(members, strangers, most=50, random_state=3)
    assert few == membership_inference(members, strangers, most=50, random_state=3)


def test_confidence_and_loss_by_hand():
    members = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.8, 0.2]])
    strangers = np.array([[0.65, 0.35], [0.25, 0.75]])
    # largest: 0.9, 0.6, 0.7, 0.8 against 0.65, 0.75: members are the larger in 3 + 2 of 8 pairs
    assert membership_inference(members, strangers, folds=2).confidence_auc == 5 / 8
    # probability of the true class: 0.9, 0.4, 0.7, 0.2 against 0.65, 0.75: in 2 + 1 of 8
    assert loss_auc(members, [0, 0, 0, 1], strangers, [0, 1]) == 3 / 8


def test_bad_input(rng):
    members = answers(rng, 30, 0.5, 1.0)
    with pytest.raises(ValueError, match=r"members: probabilities that sum to 1 were expected, got sums from 2 to 2"):
        membership_inference(2 * members, members)
    with pytest.raises(ValueError, match=r"the same number of classes was expected, got \[3, 4\]"):
        membership_inference(members, answers(rng, 30, 0.5, 1.0, classes=3))
    with pytest.raises(
        ValueError, match=r"folds: an integer in \[2, 3\] was expected \(there are 30 members and 3 strangers\), got 5"
    ):
        membership_inference(members, members[:3])
    with pytest.raises(ValueError, match="most: an integer at least 2"):
        membership_inference(members, members, most=1)
    with pytest.raises(ValueError, match="member_codes: classes from 0 to 3 were expected"):
        loss_auc(members, np.full(30, 4), members, np.zeros(30, int))
