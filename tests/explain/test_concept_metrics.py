"""Measures of dictionaries and importances, against answers by hand."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from nolabel.explain.concept_metrics import (
    area,
    deletion_and_insertion,
    deletion_masks,
    extraction_metrics,
    fidelity,
    frechet_distance,
    instability,
    losses,
    matched_cosine,
    out_of_distribution,
    relative_error,
    share_of_zeros,
)
from nolabel.explain.dictionaries import learn_dictionary

RNG = np.random.default_rng(0)
WEIGHTS = torch.tensor([3.0, 1.0, -2.0])
U = torch.tensor([[1.0, 1.0, 1.0], [0.5, 4.0, 0.0]])


def outputs(u):
    return (u @ WEIGHTS)[:, None]


def test_concepts_are_matched_whatever_their_order_and_length():
    a = RNG.normal(size=(3, 5))
    assert matched_cosine(a, 7 * a[[2, 0, 1]]) == pytest.approx(1.0)
    first, second = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 1.0], [1.0, 0.0]])
    assert matched_cosine(first, second) == pytest.approx((1 + 0.5**0.5) / 2)


def test_the_same_rows_twice_have_stable_concepts():
    rows = np.repeat(np.eye(4)[:3] * [[1.0], [2.0], [3.0]], 40, axis=0)
    assert instability(rows, 3, "nmf") < 1e-4
    assert instability(RNG.normal(size=(60, 30)), 5, "svd") > 0.3


def test_taking_the_mean_off_shows_that_centroids_only_share_it():
    rows = 10.0 + RNG.normal(size=(200, 20))
    plain, centred = (instability(rows, 4, "kmeans", centred=flag) for flag in (False, True))
    assert plain < 0.01
    assert centred > 0.2


def test_frechet_distance_of_gaussians():
    a, b = RNG.normal(size=(50, 3)), RNG.normal(size=(70, 3)) @ RNG.normal(size=(3, 3)) + 1.0
    one, two = np.cov(a.T, bias=True), np.cov(b.T, bias=True)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one + two - 2 * sqrtm(one @ two).real)
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(a, a + np.array([3.0, 4.0, 0.0])) == pytest.approx(25.0)


def test_the_neighbour_that_counts_is_the_fiftieth():
    angles = np.linspace(0.0, 1.0, 101)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    there = np.broadcast_to([5.0, 0.0], rows.shape)  # on the first of them, but for its length
    assert out_of_distribution(rows, there) == pytest.approx(2 * np.sin(0.49 / 2), rel=1e-4)
    assert out_of_distribution(rows[:10], rows[:10] * 0 + [0.0, 1.0]) == pytest.approx(
        np.linalg.norm(rows[0] - [0.0, 1.0]), rel=1e-4
    )


def test_kmeans_has_a_share_of_zeros_of_1_less_1_by_k():
    rows = RNG.random((80, 6))
    found = extraction_metrics(learn_dictionary(rows, 4, "kmeans"), RNG.random((30, 6)), rows)
    assert found["zeros"] == 0.75
    assert set(found) == {
        "relative error, fitted", "relative error", "zeros", "instability", "instability, centred", "distribution gap",
        "out of distribution",
    }  # fmt: skip


def test_dictionaries_in_the_order_that_algebra_says():
    rows, others = RNG.random((80, 6)) ** 3, RNG.random((40, 6)) ** 3
    found = {m: extraction_metrics(learn_dictionary(rows, 4, m), others, rows) for m in ("svd", "nmf", "kmeans")}
    fitted = [found[m]["relative error, fitted"] for m in ("svd", "nmf", "kmeans")]
    assert fitted == sorted(fitted)
    everything = learn_dictionary(rows, 6, "svd")
    assert extraction_metrics(everything, others)["relative error"] < 1e-6
    assert relative_error(others, np.zeros_like(others)) == 1.0
    assert share_of_zeros(np.zeros((2, 2))) == 1.0


def test_masks_hide_the_most_important_first():
    masks = deletion_masks(torch.tensor([[2, 0, 1]]))
    assert masks[0].tolist() == [[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_deletion_and_insertion_by_hand():
    importance = U * WEIGHTS  # orders 0, 1, 2 and 1, 0, 2
    deletion, insertion = deletion_and_insertion(outputs, U, importance)
    # outputs 2, -1, -2, 0 and 5.5, 1.5, 0, 0; then 0, 3, 4, 2 and 0, 4, 5.5, 5.5
    assert deletion.item() == pytest.approx(((2 / 2 - 1 - 2 + 0) / 3 + (5.5 / 2 + 1.5) / 3) / 2)
    assert insertion.item() == pytest.approx(((3 + 4 + 2 / 2) / 3 + (4 + 5.5 + 5.5 / 2) / 3) / 2)
    worst, _ = deletion_and_insertion(outputs, U, -importance)
    assert worst > deletion


def test_an_order_of_a_linear_output_is_best_by_its_parts():
    u = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    best, _ = deletion_and_insertion(outputs, u, u * WEIGHTS)
    for seed in range(20):
        other, _ = deletion_and_insertion(outputs, u, torch.rand(4, 3, generator=torch.Generator().manual_seed(seed)))
        assert best <= other + 1e-6


def test_sums_of_parts_are_what_a_linear_output_loses():
    def f(u):
        return u @ WEIGHTS

    chosen, lost = losses(f, U)
    torch.testing.assert_close(lost, (U * WEIGHTS) @ chosen.T)
    assert fidelity(chosen, lost, U * WEIGHTS) == pytest.approx(1.0)
    assert fidelity(chosen, lost, -5 * U * WEIGHTS) == pytest.approx(-1.0)
    assert np.isnan(fidelity(chosen, lost, torch.zeros(2, 3)))
    assert fidelity(chosen, lost, torch.tensor([[0.0, 1, 0], [0, 1, 0]])) < 0.99
    assert area(torch.tensor([[0.0, 1.0, 1.0]])).item() == 0.75
