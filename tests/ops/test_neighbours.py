import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from nolabel.ops import nearest, neighbours


def gaussian(n, d, seed):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def by_sorting(queries, keys, k, metric):
    """All pairs one by one, then a sort."""
    measures = {
        "cosine": lambda a, b: -a @ b / np.linalg.norm(a) / np.linalg.norm(b),
        "dot": lambda a, b: -a @ b,
        "euclidean": lambda a, b: np.linalg.norm(a - b),
    }
    cost = np.array([[measures[metric](q, x) for x in keys] for q in queries])
    order = cost.argsort(axis=1)[:, :k]
    sign = 1 if metric == "euclidean" else -1
    return sign * np.take_along_axis(cost, order, axis=1), order


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("block", [65_536, 40, 7, 1])
def test_equals_sorting_all_pairs(metric, k, block, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK_ROWS", block)
    queries, keys = gaussian(30, 6, 0), gaussian(40, 6, 1)
    scores, indices = nearest(queries, keys, k, metric=metric)
    wanted_scores, wanted_indices = by_sorting(queries, keys, k, metric)
    np.testing.assert_array_equal(indices, wanted_indices)
    np.testing.assert_allclose(scores, wanted_scores, atol=1e-5)
    assert (scores.dtype, indices.dtype) == (np.float32, np.int64)


def test_by_hand():
    keys = np.array([[1.0, 0.0], [0.0, 2.0], [4.0, 4.0]])
    query = np.array([[3.0, 0.0]])
    for metric, wanted_scores, wanted_indices in (
        ("cosine", [1, 0.5**0.5, 0], [0, 2, 1]),
        ("dot", [12, 3, 0], [2, 0, 1]),
        ("euclidean", [2, 13**0.5, 17**0.5], [0, 1, 2]),
    ):
        scores, indices = nearest(query, keys, 3, metric=metric)
        assert indices[0].tolist() == wanted_indices
        assert scores[0].tolist() == pytest.approx(wanted_scores, abs=1e-6)


def test_tensors_of_any_precision_and_layout_equal_arrays():
    queries, keys = gaussian(5, 4, 0), gaussian(20, 4, 1)
    wanted = nearest(queries, keys, 3)
    for q, x in (
        (torch.from_numpy(queries).requires_grad_(), torch.from_numpy(keys).double()),
        (np.asfortranarray(queries), keys.astype(np.float64)),
    ):
        for got, expected in zip(nearest(q, x, 3), wanted, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_inputs_are_left_as_they_were():
    keys = gaussian(20, 4, 1)
    before = keys.copy()
    for metric in ("cosine", "euclidean", "dot"):
        nearest(keys, keys, 3, metric=metric)
    np.testing.assert_array_equal(keys, before)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_exclude_self_skips_the_own_row_only(metric):
    keys = gaussian(30, 6, 2)
    _, indices = nearest(keys, keys, 29, metric=metric, exclude_self=True)
    assert all(sorted(row) == [j for j in range(30) if j != i] for i, row in enumerate(indices))


def test_exclude_self_among_duplicates_keeps_the_duplicates():
    keys = np.repeat(gaussian(3, 4, 3), 5, axis=0)  # five copies of each
    scores, indices = nearest(keys, keys, 2, exclude_self=True)
    np.testing.assert_allclose(scores, 1, atol=1e-6)
    for i, row in enumerate(indices):
        assert i not in row
        assert (row // 5 == i // 5).all()


def test_euclidean_far_from_the_origin():
    keys = load_digits().data.astype(np.float32)[:300]
    near = nearest(keys, keys, 4, metric="euclidean", exclude_self=True)
    far = nearest(keys + 10_000, keys + 10_000, 4, metric="euclidean", exclude_self=True)
    np.testing.assert_allclose(far[0], near[0], rtol=1e-5)


def test_a_row_of_zeros_is_orthogonal_to_everything():
    scores, _ = nearest(np.zeros((1, 3)), gaussian(4, 3, 0), 4)
    assert scores.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_approximate_search_finds_nearly_all(metric):
    keys = gaussian(4000, 8, 4)
    _, exact = nearest(keys[:200], keys, 10, metric=metric)
    scores, approximate = nearest(keys[:200], keys, 10, metric=metric, exact=False)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, approximate, strict=True)])
    assert recall > 0.9
    assert (np.diff(scores, axis=1) * (1 if metric == "euclidean" else -1) >= 0).all()


def test_approximate_search_always_fills_k():
    keys = gaussian(1000, 4, 5)
    _, indices = nearest(keys[:5], keys, 1000, exact=False)  # more than the visited lists hold
    assert all(sorted(row) == list(range(1000)) for row in indices)


def test_approximate_search_of_few_keys_is_exact():
    queries, keys = gaussian(5, 4, 0), gaussian(20, 4, 1)
    for got, wanted in zip(nearest(queries, keys, 3, exact=False), nearest(queries, keys, 3), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("queries", "keys", "options", "error", "message"),
    [
        (np.ones((2, 3)), np.ones((4, 3)), {"k": 5}, ValueError, "k must be from 1 to 4, .* got 5"),
        (np.ones((2, 3)), np.ones((4, 3)), {"k": 0}, ValueError, "k must be from 1 to 4, .* got 0"),
        (np.ones((4, 3)), np.ones((4, 3)), {"k": 4, "exclude_self": True}, ValueError, "k must be from 1 to 3"),
        (np.ones((2, 3)), np.ones((4, 3)), {"exclude_self": True}, ValueError, "the same rows, got 2 and 4"),
        (np.ones((2, 3)), np.ones((4, 2)), {}, ValueError, "one width, got 3 and 2"),
        (np.ones(3), np.ones((4, 3)), {}, ValueError, r"queries must be a non-empty \(n, d\) matrix, got shape \(3,\)"),
        (np.ones((2, 3)), np.ones((0, 3)), {}, ValueError, "keys must be a non-empty"),
        (np.ones((2, 3)), np.array([[1, 2, 3], [1, np.nan, 3]]), {}, ValueError, "row 1 of keys has non-finite"),
        (np.array([[np.inf, 0, 0]]), np.ones((4, 3)), {}, ValueError, "row 0 of queries has non-finite"),
        (np.ones((2, 3)), np.ones((4, 3)), {"metric": "manhattan"}, ValueError, "metric must be .* got 'manhattan'"),
        ([[1.0, 2.0, 3.0]], np.ones((4, 3)), {}, TypeError, "queries must be an array or a tensor, got list"),
        (np.array([["a", "b", "c"]]), np.ones((4, 3)), {}, TypeError, "queries must hold real numbers"),
    ],
)
def test_bad_input(queries, keys, options, error, message):
    with pytest.raises(error, match=message):
        nearest(queries, keys, **({"k": 1} | options))
