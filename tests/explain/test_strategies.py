"""Clusters of samples by what decides them."""

import numpy as np
import pytest

from nolabel.explain.strategies import describe_clusters, neighbour_edges, strategy_graph

RNG = np.random.default_rng(0)


def two_strategies(n=40):
    """Half of the samples rest on concept 2, half on concept 0, each with a strength of its own."""
    directions = np.where(np.arange(n)[:, None] < n // 2, [0.1, 0.2, 1.0], [1.0, 0.1, 0.0])
    return directions * RNG.uniform(0.1, 10.0, (n, 1)) + 0.01 * RNG.normal(size=(n, 3))


def test_strategies_are_found_whatever_the_strength():
    phi = two_strategies()
    first = np.arange(40) < 20
    for clusters in (2, None):
        graph = strategy_graph(phi, clusters=clusters, neighbours=15)
        assert len(set(graph.labels[first])) == len(set(graph.labels[~first])) == 1
        assert graph.labels[0] != graph.labels[-1]
    assert sorted(graph.concepts.tolist()) == [0, 2]
    assert graph.dominant.tolist() == [2] * 20 + [0] * 20
    assert graph.positions.shape == (40, 2)
    apart = np.linalg.norm(graph.positions[first].mean(0) - graph.positions[~first].mean(0))
    assert apart > graph.positions[first].std(0).max()


def test_prevalence_and_reliability_by_hand():
    phi = np.array([[2.0, 1.0, 0.0], [3.0, 0.0, 0.0], [0.0, 5.0, -9.0], [1.0, 0.0, 0.1]])
    graph = strategy_graph(phi, np.array([1.0, 0.0, 1.0, np.nan]), clusters=2, neighbours=2)
    assert graph.prevalence.tolist() == [0.75, 0.25, 0.0]
    assert graph.reliability[:2].tolist() == [0.5, 1.0]
    assert np.isnan(graph.reliability[2])  # it dominates none: unknown, not 0
    assert np.isnan(strategy_graph(phi, neighbours=2).reliability).all()
    assert describe_clusters(graph, ["a", "b", "c"], np.array([1.0, 0.0, 1.0, np.nan])) == [
        "a (75%, 50% right)",
        "b (25%, 100% right)",
    ]


def test_edges_join_the_nearest_once():
    angles = np.deg2rad([0, 10, 25, 180])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    edges, weights = neighbour_edges(rows, 1)
    assert edges.tolist() == [[0, 1], [1, 2]]  # the fourth has nothing on its side
    np.testing.assert_allclose(weights, np.cos(np.deg2rad([10, 15])), atol=1e-6)


def test_the_same_seed_gives_the_same_graph():
    phi = two_strategies()
    first, second = (strategy_graph(phi, random_state=3) for _ in range(2))
    assert np.array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.positions, second.positions)


def test_samples_without_any_importance():
    graph = strategy_graph(np.zeros((5, 2)), clusters=None)
    assert graph.prevalence.tolist() == [1.0, 0.0]
    assert len(graph.edges) == 0
    assert np.isfinite(graph.positions).all()


def test_bad_input():
    with pytest.raises(ValueError, match=r"right: one value a sample was expected, shape \(40,\), got \(3,\)"):
        strategy_graph(two_strategies(), np.ones(3))
    with pytest.raises(ValueError, match=r"clusters: an integer in \[1, 40\] was expected \(40 samples\), got 41"):
        strategy_graph(two_strategies(), clusters=41)
    with pytest.raises(ValueError, match="at least 3 rows"):
        strategy_graph(np.ones((2, 3)))
