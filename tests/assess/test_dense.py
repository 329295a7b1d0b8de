import numpy as np
import pytest
import torch

from nolabel.assess.dense import DenseScores, dense_probe, labels_at_locations


def scene(n, seed, *, noise=0.3, side=4, fine=3):
    """Maps whose first three channels point at the class of a location, and label maps `fine` times as fine."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, (n, side, side))
    maps = np.eye(3)[classes].transpose(0, 3, 1, 2) + noise * rng.normal(size=(n, 3, side, side))
    return maps, classes.repeat(fine, axis=1).repeat(fine, axis=2)


def test_pixel_under_the_centre():
    fine = np.arange(48 * 48).reshape(1, 48, 48)
    expected = fine[:, 4::8, 4::8]  # centres of 6 x 6 locations lie at 8 k + 4
    assert np.array_equal(labels_at_locations(fine, 6, 6), expected)
    odd = np.arange(7).reshape(1, 1, 7)  # centres at 7/6, 7/2 and 35/6
    assert labels_at_locations(odd, 1, 3).tolist() == [[[1, 3, 5]]]
    assert np.array_equal(labels_at_locations(fine, 48, 48), fine)


def test_scores_by_hand():
    """One channel, threshold at 0: of eight test locations, six are named rightly."""
    maps = np.array([-1.0, -1.0, 1.0, 1.0]).reshape(1, 1, 2, 2)
    labels = np.array([[[0, 0], [1, 1]]])
    test = np.array([-2.0, -2.0, -2.0, 3.0, 3.0, 3.0, -2.0, 3.0]).reshape(2, 1, 2, 2)
    truth = np.array([0, 0, 0, 1, 1, 1, 1, 0]).reshape(2, 2, 2)
    found = dense_probe(maps, labels, test, truth)
    assert found == DenseScores(accuracy=0.75, mean_iou=0.6, iou={0: 0.6, 1: 0.6}, locations=8)  # 3 of 3 + 1 + 1
    assert str(found) == "accuracy 0.750, mean IoU 0.600 (2 classes, 8 locations)"
    assert found.to_dict()["iou"] == {0: 0.6, 1: 0.6}


def test_it_learns_from_training_maps_and_is_scored_on_others():
    maps, labels = scene(40, seed=0)
    test, truth = scene(20, seed=1)
    assert dense_probe(maps, labels, test, truth).accuracy > 0.95
    wrong = (labels + 1) % 3  # what training says decides, not what test says
    assert dense_probe(maps, wrong, test, truth).accuracy < 0.05
    shuffled = np.random.default_rng(2).permutation(labels.ravel()).reshape(labels.shape)
    assert 0.2 < dense_probe(maps, shuffled, test, truth).accuracy < 0.5


def test_memorised_training_maps_do_not_count():
    """More channels than locations fit any labels, yet noise says nothing about other maps."""
    rng = np.random.default_rng(0)
    maps, test = rng.normal(size=(2, 5, 200, 3, 3))
    labels, truth = rng.integers(0, 2, (2, 5, 3, 3))
    assert dense_probe(maps, labels, maps, labels).accuracy == 1.0
    assert dense_probe(maps, labels, test, truth).accuracy < 0.75


def test_it_equals_the_closed_form():
    maps, labels = scene(15, seed=3, noise=0.8)
    test, truth = scene(15, seed=4, noise=0.8)
    a, b = (x.transpose(0, 2, 3, 1).reshape(-1, 3) for x in (maps, test))
    y = labels[:, 1::3, 1::3].ravel()
    mean, scale = a.mean(axis=0), a.std(axis=0)
    a, b, hot = (a - mean) / scale, (b - mean) / scale, np.eye(3)[y]
    weights = np.linalg.solve(a.T @ a + 5.0 * np.eye(3), a.T @ (hot - hot.mean(axis=0)))
    found = (b @ weights + hot.mean(axis=0)).argmax(axis=1)
    expected = np.mean(found == truth[:, 1::3, 1::3].ravel())
    assert dense_probe(maps, labels, test, truth, penalty=5.0).accuracy == pytest.approx(expected)


def test_ignored_locations_neither_teach_nor_count():
    maps, labels = scene(30, seed=5)
    test, truth = scene(20, seed=6)
    usual = dense_probe(maps, labels, test, truth)
    void, test_void = labels.copy(), truth.copy()
    void[:10], test_void[:5] = 11, 11
    maps[:10], test[:5] = 1e6, -1e6  # would spoil the fit and the score
    found = dense_probe(maps, void, test, test_void, ignore=11)
    kept = dense_probe(maps[10:], labels[10:], test[5:], truth[5:])
    assert found == kept
    assert set(found.iou) == {0, 1, 2}
    assert found.locations == usual.locations - 5 * 16


def test_a_class_that_training_lacks_is_wrong_and_counts_in_the_mean():
    maps, labels = scene(30, seed=7)
    test, truth = scene(20, seed=8)
    truth[truth == 2] = 5
    found = dense_probe(maps, labels, test, truth)
    assert found.iou[5] == found.iou[2] == 0.0
    assert found.mean_iou == pytest.approx(sum(found.iou.values()) / 4)


def test_tensors_and_other_sides():
    maps, labels = scene(20, seed=9)
    test, truth = scene(10, seed=10, side=6, fine=1)
    expected = dense_probe(maps, labels, test, truth)
    found = dense_probe(*(torch.from_numpy(x) for x in (maps, labels, test, truth)))
    assert found == expected
    assert found.locations == 360


MAPS, LABELS = scene(4, seed=11)
NAN = MAPS.copy()
NAN[2, 0, 1, 1] = np.nan


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((MAPS[0], LABELS, MAPS, LABELS), ValueError, r"train_maps: maps \(n, d, h, w\) .* got shape \(3, 4, 4\)"),
        ((MAPS, LABELS, MAPS[:0], LABELS), ValueError, "test_maps: maps .* were expected"),
        ((NAN, LABELS, MAPS, LABELS), ValueError, "train_maps: row 2 has non-finite values"),
        ((MAPS.astype(int), LABELS, MAPS, LABELS), TypeError, "train_maps: floating-point"),
        (
            (MAPS, LABELS[:3], MAPS, LABELS),
            ValueError,
            "train_labels: one map of at least 4 x 4 pixels for each of the 4",
        ),
        ((MAPS, LABELS, MAPS, LABELS[:, :3]), ValueError, r"test_labels: .* got shape \(4, 3, 12\)"),
        ((MAPS, LABELS.astype(float), MAPS, LABELS), TypeError, "train_labels: integer classes .* float64"),
        ((MAPS, LABELS, MAPS[:, :2], LABELS), ValueError, "the same channels were expected, got 3 and 2"),
        ((MAPS, LABELS * 0, MAPS, LABELS), ValueError, r"train_labels: at least 2 classes were expected, got \[0\]"),
        ((MAPS, LABELS, MAPS, LABELS * 0 + 11), ValueError, "test_labels: every location is of the ignored class 11"),
    ],
)
def test_bad_input(given, error, message):
    with pytest.raises(error, match=message) as caught:
        dense_probe(*given, ignore=11)
    assert "\n" not in str(caught.value)


def test_bad_penalty():
    with pytest.raises(ValueError, match="penalty: a positive number was expected, got 0"):
        dense_probe(MAPS, LABELS, MAPS, LABELS, penalty=0)
