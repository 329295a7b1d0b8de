"""Scores of masks against counts by hand and against scikit-learn."""

import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from nolabel.assess.segmentation import confusion_of, scores_of_confusion, segmentation_scores


def test_counts_by_hand():
    truth = np.array([[[0, 0, 0], [1, 1, 9]]])
    found = np.array([[[0, 0, 1], [1, 0, 1]]])
    scores = segmentation_scores(truth, found, ignore=9)
    assert scores.confusion == [[2, 1], [1, 1]]
    assert scores.iou == {0: 2 / 4, 1: 1 / 3}
    assert scores.dice == {0: 4 / 6, 1: 2 / 4}
    assert scores.accuracy == 3 / 5
    assert (scores.mean_iou, scores.mean_dice) == (pytest.approx(5 / 12), pytest.approx(7 / 12))
    assert scores.pixels == 5
    for name, iou in scores.iou.items():
        assert scores.dice[name] == pytest.approx(2 * iou / (1 + iou))
    json.dumps(scores.to_dict())


def test_as_scikit_learn():
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 5, (2, 3, 20, 30)).astype(np.uint8)
    scores = segmentation_scores(truth, found)
    assert scores.confusion == confusion_matrix(truth.ravel(), found.ravel()).tolist()
    np.testing.assert_allclose(list(scores.iou.values()), jaccard_score(truth.ravel(), found.ravel(), average=None))
    np.testing.assert_allclose(list(scores.dice.values()), f1_score(truth.ravel(), found.ravel(), average=None))


def test_a_class_that_is_nowhere_does_not_count_and_one_that_is_only_told_does():
    scores = segmentation_scores([[[0, 0]]], [[[0, 3]]])
    assert scores.iou == {0: 0.5, 3: 0.0}
    counts = confusion_of([[[0, 0]]], [[[0, 0]]], [0, 5])
    assert scores_of_confusion(counts, [0, 5]).iou == {0: 1.0}


def test_counts_of_batches_add_up():
    rng = np.random.default_rng(1)
    truth, found = rng.integers(0, 3, (2, 6, 4, 4))
    whole = confusion_of(truth, found, [0, 1, 2])
    parts = sum(confusion_of(truth[i : i + 2], found[i : i + 2], [0, 1, 2]) for i in (0, 2, 4))
    assert np.array_equal(whole, parts)


def test_bad_masks():
    ones = np.ones((1, 2, 2), int)
    with pytest.raises(ValueError, match="truth: masks .n, h, w. were expected, got shape"):
        segmentation_scores(ones[0], ones[0])
    with pytest.raises(ValueError, match="masks of one shape were expected"):
        segmentation_scores(ones, np.ones((1, 2, 3), int))
    with pytest.raises(TypeError, match="found: whole numbers were expected, got dtype float64"):
        segmentation_scores(ones, ones * 0.5)
    with pytest.raises(ValueError, match="no pixel is left to score"):
        segmentation_scores(ones, ones, ignore=1)
    with pytest.raises(ValueError, match=r"found: class 7 is none of \[0, 1\]"):
        confusion_of(ones, 7 * ones, [0, 1])
