"""Wrong labels by losses and features."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from nolabel.clean import detect_noise
from nolabel.clean.detection import correction_confidence, linear_separation, small_loss, trusted_flags

RNG = np.random.default_rng(0)
NOISY = np.arange(200) < 60
LOSSES = np.where(NOISY, RNG.normal(4.0, 0.8, 200), RNG.exponential(0.3, 200))


def features(gap):
    """Noisy rows stand apart from the others along one direction."""
    z = RNG.normal(size=(200, 6))
    z[:, 0] = z[:, 0] * 0.3 + gap * NOISY
    z[:, 1] += 3
    return z


def test_high_losses_are_noise():
    found = detect_noise(LOSSES)
    assert (found.noisy == NOISY).mean() > 0.98
    assert found.noisy.tolist() == (found.probability > 0.95).tolist()
    assert detect_noise(LOSSES, loss_threshold=0.5).noisy.sum() >= found.noisy.sum()


def test_features_find_what_the_losses_miss():
    losses = np.where(np.arange(200) < 30, 0.2, LOSSES)  # half of the noise has a low loss
    z = features(3.0)
    found = detect_noise(losses, z)
    assert not detect_noise(losses).noisy[:30].any()
    assert roc_auc_score(NOISY, found.probability) > 0.9
    flags = (small_loss(losses, 0.5).noisy).astype(int)
    again = linear_separation(z, flags)
    np.testing.assert_allclose(found.probability, again.probability)
    assert (found.noisy == (found.probability > 0.5)).all()
    assert detect_noise(losses, z, linear_threshold=0.9).noisy.sum() <= found.noisy.sum()


def test_the_regression_is_balanced_on_standardised_unit_rows():
    z, flags = features(1.0), NOISY.astype(int)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    unit = (unit - unit.mean(axis=0)) / unit.std(axis=0)
    model = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=1000).fit(unit, flags)
    np.testing.assert_allclose(linear_separation(z, flags).probability, model.predict_proba(unit)[:, 1], atol=1e-6)
    np.testing.assert_allclose(linear_separation(7 * z, flags).probability, model.predict_proba(unit)[:, 1], atol=1e-6)


def test_flags_of_a_person():
    trusted = np.full(200, -1)
    trusted[:20], trusted[100:150] = 1, 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = detect_noise(np.ones(200), features(3.0), trusted=trusted)  # the losses play no part
    assert roc_auc_score(NOISY, found.probability) > 0.9
    assert trusted_flags([True, False], 2).tolist() == [1, 0]


def test_equal_losses_are_no_noise():
    for z in (None, features(1.0)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = detect_noise(np.full(200, 1.5), z)
        assert any("there is one group, not two" in str(each.message) for each in caught)
        assert not found.noisy.any()
        assert np.isfinite(found.probability).all()


def test_too_few_or_many_to_learn_from():
    few = np.where(np.arange(200) < 6, 5.0, LOSSES * (LOSSES < 2))
    with pytest.warns(UserWarning, match="learns from 3% of the samples as noisy; outside 15% to 60%"):
        detect_noise(few, features(1.0))
    assert linear_separation(features(1.0), np.zeros(200, int)) is None


def test_confidence_is_that_of_the_low_pseudo_losses():
    losses = np.array([0.1, 0.12, 0.11, 2.0, 2.1, np.inf, 0.5])
    noisy = np.array([True] * 6 + [False])
    confidence = correction_confidence(losses, noisy)
    assert confidence[:3].min() > 0.9
    assert confidence[3:6].max() < 0.1
    assert confidence[6] == 1.0
    assert correction_confidence(losses, np.array([True, False, False, True] + [False] * 3)).tolist() == [1.0] * 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"losses": LOSSES[:, None]}, r"losses: one number a sample was expected, got shape \(200, 1\)"),
        ({"losses": np.append(LOSSES[1:], np.nan)}, "got NaN"),
        ({"features": np.ones((3, 2))}, "features: one row a loss was expected, 200, got 3"),
        ({"features": np.full((200, 2), np.nan)}, "features: row 0 has non-finite values"),
        ({"loss_threshold": 1.0}, "loss_threshold must lie between 0 and 1, got 1.0"),
        ({"linear_threshold": 0}, "linear_threshold must lie between 0 and 1, got 0"),
        ({"target_threshold": -1}, "target_threshold must lie between 0 and 1, got -1"),
        ({"trusted": NOISY}, "give features as well"),
        ({"features": np.ones((200, 2)), "trusted": np.ones(200, int)}, "flags of both kinds"),
        ({"features": np.ones((200, 2)), "trusted": [1, 0]}, r"one flag a sample was expected, 200, got shape \(2,\)"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        detect_noise(**{"losses": LOSSES, **arguments})
