from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

from nolabel.assess.equivariance import (
    equivariance_report,
    global_r2,
    pose_error,
    ranks_of_targets,
    transformation_r2,
)
from nolabel.ops.quaternions import canonical_quaternion, rotation_matrix


def test_r2_has_one_mean():
    """Columns of different means: the usual R2 takes a mean for each, this one a mean of all."""
    true = np.array([[0.0, 10.0], [1.0, 11.0]])
    predicted = np.array([[0.5, 10.5], [0.5, 10.5]])
    mean = 22 / 4
    total = (5.5**2 + 4.5**2) * 2
    assert np.mean(true) == mean
    assert global_r2(true, predicted) == pytest.approx(1 - 1.0 / total)
    assert r2_score(true, predicted) == pytest.approx(0.0)
    assert global_r2(true[:, :1], predicted[:, :1]) == pytest.approx(r2_score(true[:, :1], predicted[:, :1]))
    assert global_r2(true, true) == 1
    assert global_r2(true, np.full_like(true, mean)) == 0


def angles(n, seed):
    """Two random unit vectors in the plane and the turn from the first to the second."""
    a, b = np.random.default_rng(seed).uniform(-np.pi, np.pi, (2, n))
    return *(np.stack([np.cos(x), np.sin(x)], axis=1) for x in (a, b)), np.stack([np.cos(b - a), np.sin(b - a)], axis=1)


def test_a_turn_is_read_from_what_shows_it_and_not_from_noise():
    train, test = angles(1024, 0), angles(256, 1)
    assert transformation_r2(train, test, steps=200) > 0.9
    noise = np.random.default_rng(2).normal(size=(2, 1280, 2))
    lost = [
        (noise[0, rows], noise[1, rows], z) for rows, (_, _, z) in ((slice(1024), train), (slice(1024, None), test))
    ]
    assert transformation_r2(*lost, steps=100) < 0.1
    few = transformation_r2(train, test, steps=8)
    assert few == transformation_r2(train, test, steps=8)
    assert few != transformation_r2(train, test, steps=8, random_state=1)


def test_probe_sees_the_first_and_the_second_view():
    first, second, _ = angles(600, 3)
    one = transformation_r2((first, second, second[:, :1]), (first, second, second[:, :1]), steps=150)
    other = transformation_r2((first, second, first[:, :1]), (first, second, first[:, :1]), steps=150)
    assert min(one, other) > 0.9


def test_ranks_by_hand():
    candidates = np.array([[1.0, 0], [0, 1], [1, 1], [-1, 0]])
    predicted = np.array([[0, 2.0], [3, 3.1], [-1, 0.1]])  # scale does not matter
    assert ranks_of_targets(predicted, candidates, target=1).tolist() == [1, 1, 1]
    assert ranks_of_targets([[1.0, 0.1]], candidates, target=3).tolist() == [4]


def test_a_collapsed_embedding_ranks_in_the_middle_not_first():
    assert ranks_of_targets(np.ones((9, 4)), np.ones((10, 4)), target=1).tolist() == [5.5] * 9


def test_ranks_against_sorting():
    rng = np.random.default_rng(0)
    candidates, predicted = rng.normal(size=(8, 5)), rng.normal(size=(5, 5))
    for query, rank in enumerate(ranks_of_targets(predicted, candidates, target=2)):
        cosine = [c @ predicted[query] / np.linalg.norm(c) for c in candidates]
        assert sorted(cosine, reverse=True).index(cosine[2 + query]) + 1 == rank


def test_pose_errors_by_hand():
    eighth = np.array([[0, 0, np.sin(np.pi / 8), np.cos(np.pi / 8)]])  # a turn by 45 degrees
    none = np.array([[0, 0, 0, 1.0]])
    expected = np.sin(np.pi / 8) ** 2
    assert pose_error(eighth, none, "so3") == pytest.approx(expected)
    assert pose_error(-eighth, none, "so3") == pytest.approx(expected)  # the sign of a quaternion means nothing
    assert pose_error([[3.0]], [[3.0 + np.pi / 4 - 2 * np.pi]], "so2") == pytest.approx(expected)
    assert pose_error(np.column_stack([eighth, [0.9]]), np.column_stack([none, [0.1]]), "so3") == pytest.approx(
        expected
    )
    assert pose_error([[1.0, 2.0], [0.0, 0.0]], [[4.0, 6.0], [0.0, 0.0]], "vector") == 12.5


class Perfect:
    """A model whose embedding of a view is the angle on a circle, beside what the object is."""

    columns, group, split_, projection = ("image", "object", "pose"), "so2", (2, 2), (8, 2)

    def __init__(self, knows=True):
        self.knows = knows

    def open_one(self, data, columns, needed):
        assert needed == self.columns
        return data

    def read_poses(self, source):
        return source.objects, source.poses

    def transform_source(self, source, layer="representation"):
        angle = source.poses[:, 0]
        posed = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return np.concatenate([np.random.default_rng(0).normal(size=(len(angle), 2)), posed], axis=1).astype(np.float32)

    def predict_equi(self, E, Z):
        cosine, sine = Z[:, 0], Z[:, 1] if self.knows else -Z[:, 1]
        return np.stack([E[:, 0] * cosine - E[:, 1] * sine, E[:, 0] * sine + E[:, 1] * cosine], axis=1).astype(
            np.float32
        )


def views(objects, each, seed=0):
    rng = np.random.default_rng(seed)
    names = np.array([f"thing {i}" for i in rng.permutation(np.repeat(np.arange(objects), each))])
    return SimpleNamespace(objects=names, poses=rng.uniform(-np.pi, np.pi, (len(names), 1)))


def test_report_on_a_model_that_knows_everything():
    seen = views(60, 5)
    alone = SimpleNamespace(objects=np.append(seen.objects, ["lone"]), poses=np.append(seen.poses, [[0.3]], axis=0))
    report = equivariance_report(Perfect(), alone, pairs=512, probe_seeds=1)
    assert report.r2_equi > 0.9
    assert report.r2_all > 0.7
    assert report.r2_inv < 0.1
    assert (report.mrr, report.hits_at_1, report.hits_at_5) == (1, 1, 1)
    assert report.mrr_chance == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5)
    assert report.prediction_error < 1e-4
    assert (report.views, report.queries) == (301, 240)  # what has one view is not asked for
    assert report.to_dict()["mrr"] == 1


def test_report_on_a_predictor_that_turns_the_wrong_way():
    report = equivariance_report(Perfect(knows=False), views(60, 5), pairs=64, probe_seeds=1)
    assert report.hits_at_1 < 0.5
    assert report.mrr < 0.7
    assert report.hits_at_5 == 1  # there are only five
    assert report.prediction_error == pytest.approx(0.5, abs=0.07)  # uniform over the circle


def test_rotations_of_space_are_read_from_their_matrices():
    rng = np.random.default_rng(0)
    q = canonical_quaternion(torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(1500, 4))), dim=1))
    matrices = rotation_matrix(q).flatten(1).numpy()
    first = np.broadcast_to(np.eye(3).ravel(), matrices.shape)
    pairs = first + 0.0, matrices, q.numpy()
    assert transformation_r2(pairs, pairs) > 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: global_r2(np.ones((2, 2)), np.ones((2, 2))), "entries that differ were expected"),
        (lambda: global_r2(np.ones((2, 2)), np.ones((3, 2))), r"one shape was expected, got \(2, 2\) and \(3, 2\)"),
        (
            lambda: transformation_r2((*angles(9, 0)[:2], np.ones((8, 2))), angles(9, 0)),
            r"train: embeddings of one shape",
        ),
        (lambda: transformation_r2(angles(9, 0), tuple(x[:, :1] for x in angles(9, 0))), "same widths were expected"),
        (lambda: transformation_r2(angles(9, 0), angles(9, 0), steps=0), "steps: an integer at least 1"),
        (lambda: transformation_r2((np.full((9, 2), np.nan),) * 3, angles(9, 0)), r"train\[0\]: row 0 has non-finite"),
        (lambda: ranks_of_targets(np.ones((2, 2)), np.ones((3, 4)), 0), "one width was expected, got 2 and 4"),
        (lambda: ranks_of_targets(np.ones((2, 2)), np.ones((3, 2)), 2), r"target: an integer in \[0, 1\]"),
        (lambda: pose_error(np.ones((2, 1)), np.ones((2, 1)), "so4"), "group must be one of"),
        (lambda: pose_error(np.ones((2, 1)), np.ones((3, 1)), "so2"), "one shape was expected"),
        (
            lambda: equivariance_report(Perfect(), views(2, 3)),
            "at least 3 objects with 2 or more views were expected, got 2",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
