"""Groups of samples that a network decides by the same concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nolabel.assess.inputs import as_array, as_count, as_embeddings
from nolabel.explain.dictionaries import unit

#: Samples that are drawn into a graph, at most: its layout takes seconds from there on.
MOST = 2000


@dataclass(frozen=True)
class StrategyGraph:
    """Samples of a class joined to those whose outputs rest on the same concepts.

    Attributes
    ----------
    importance : (n, k) local importances
    edges, weights : (m, 2) pairs of samples, and their cosines (m,)
    positions : (n, 2) in [-1, 1], joined samples near each other
    labels : (n,) cluster of each sample, largest first
    concepts : (clusters,) concept that dominates most samples of each cluster
    distinct : (clusters,) concept that each cluster has most beyond all samples, in the mean of importances of length 1
    dominant : (n,) concept with the largest importance of each sample
    prevalence : (k,) share of samples that each concept dominates
    reliability : (k,) share of these samples that are right; NaN where a concept dominates none of which it is known
    """

    importance: np.ndarray
    edges: np.ndarray
    weights: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    concepts: np.ndarray
    distinct: np.ndarray
    dominant: np.ndarray
    prevalence: np.ndarray
    reliability: np.ndarray


def strategy_graph(
    importance: np.ndarray,
    right: np.ndarray | None = None,
    *,
    clusters: int | None = None,
    neighbours: int = 15,
    random_state: int = 0,
) -> StrategyGraph:
    """The strategic cluster graph of one class, from local importances (n, k).

    Their cosines are compared, for their lengths follow how sure the network is: raw ones separate strategies worse.

    Parameters
    ----------
    importance : of each concept for each sample, such as gradient times input
    right : (n,) 1 where a sample is what the network says, 0 where it is not, NaN where that is not known
    clusters : so many clusters by k-means; ``None`` lets Louvain find them in the graph
    neighbours : of each sample in the graph

    Raises
    ------
    ValueError
        NaN, fewer than 3 samples, more clusters than samples, `right` of another length.

    >>> phi = np.array([[2.0, 0.1], [1.0, 0.0], [3.0, 0.2], [0.0, 1.0], [0.1, 4.0]])
    >>> graph = strategy_graph(phi, np.array([1, 1, 1, 1, 0]), clusters=2)
    >>> graph.prevalence.tolist(), graph.reliability.tolist(), graph.concepts.tolist()
    ([0.6, 0.4], [1.0, 0.5], [0, 1])
    """
    phi = as_embeddings(importance, "importance", at_least=3)
    n, k = phi.shape
    truth = np.full(n, np.nan) if right is None else as_array(right, "right").astype(np.float64)
    if truth.shape != (n,):
        raise ValueError(f"right: one value a sample was expected, shape ({n},), got {truth.shape}")
    as_count(neighbours, "neighbours")
    directions = unit(phi).astype(np.float32)
    edges, weights = neighbour_edges(directions, min(neighbours, n - 1))
    if clusters is None:
        found = communities(n, edges, weights, random_state)
    else:
        found = groups(directions, as_count(clusters, "clusters", high=n, why=f"{n} samples"), random_state)
    labels = by_size(found)
    dominant = phi.argmax(axis=1)
    prevalence, reliability = np.zeros(k), np.full(k, np.nan)
    for concept in range(k):
        own = dominant == concept
        prevalence[concept] = own.mean()
        reliability[concept] = share_right(truth[own])
    members = [labels == label for label in range(labels.max() + 1)]
    named = np.array([np.bincount(dominant[own]).argmax() for own in members])
    distinct = np.array([(directions[own].mean(axis=0) - directions.mean(axis=0)).argmax() for own in members])
    positions = layout(directions, edges, weights, random_state)
    return StrategyGraph(phi, edges, weights, positions, labels, named, distinct, dominant, prevalence, reliability)


def describe_clusters(graph: StrategyGraph, names: Sequence[str], right: np.ndarray) -> list[str]:
    """What each cluster of a graph is called: its concepts, its share of the samples, how many of these are right.

    Parameters
    ----------
    names : of the concepts
    right : as in `strategy_graph`
    """
    found = []
    for number, (first, more) in enumerate(zip(graph.concepts.tolist(), graph.distinct.tolist(), strict=True)):
        own = graph.labels == number
        said = names[first] if more == first else f"{names[first]}, much of {names[more]}"
        reliable = share_right(right[own])
        found.append(f"{said} ({own.mean():.0%}{'' if np.isnan(reliable) else f', {reliable:.0%} right'})")
    return found


def share_right(right: np.ndarray) -> float:
    """The mean of what is known; NaN where nothing is.

    >>> share_right(np.array([1.0, 0.0, np.nan]))
    0.5
    """
    known = right[~np.isnan(right)]
    return float(known.mean()) if len(known) else float("nan")


def neighbour_edges(directions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (m, 2) of each row and its k nearest by cosine, each pair once, and the cosines (m,); those below 0 are left out."""
    from nolabel.ops import nearest

    cosine, near = nearest(directions, directions, k, exclude_self=True)
    pairs = np.stack([np.repeat(np.arange(len(near)), k), near.ravel()], axis=1)
    pairs, first = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)
    weights = cosine.ravel()[first]
    return pairs[weights > 0], weights[weights > 0]


def _graph(n: int, edges: np.ndarray, weights: np.ndarray) -> Any:
    import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_weighted_edges_from((int(a), int(b), float(w)) for (a, b), w in zip(edges, weights, strict=True))
    return graph


def communities(n: int, edges: np.ndarray, weights: np.ndarray, seed: int) -> np.ndarray:
    """Communities (n,) of a graph by Louvain's method (Blondel et al. 2008, arXiv:0803.0476)."""
    import networkx

    found = np.zeros(n, np.int64)
    for number, members in enumerate(networkx.community.louvain_communities(_graph(n, edges, weights), seed=seed)):
        found[list(members)] = number
    return found


def groups(directions: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Clusters (n,) of unit rows by k-means."""
    from sklearn.cluster import KMeans

    labels: np.ndarray = KMeans(clusters, n_init=10, random_state=seed).fit_predict(directions)
    return labels


def by_size(labels: np.ndarray) -> np.ndarray:
    """The same clusters numbered from 0, largest first.

    >>> by_size(np.array([7, 3, 3])).tolist()
    [1, 0, 0]
    """
    names, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(names), np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(names))
    return rank[codes]


def layout(directions: np.ndarray, edges: np.ndarray, weights: np.ndarray, seed: int) -> np.ndarray:
    """Positions (n, 2): springs along the edges, from the two main components on (Fruchterman & Reingold 1991)."""
    import networkx
    from sklearn.decomposition import PCA

    n = len(directions)
    start = np.zeros((n, 2))
    width = min(2, *directions.shape)
    if np.ptp(directions, axis=0).max() > 0:
        start[:, :width] = PCA(width, random_state=seed).fit_transform(directions)
    start += 1e-3 * np.random.default_rng(seed).normal(size=start.shape)  # equal samples do not lie on each other
    graph = _graph(n, edges, weights)
    found = networkx.spring_layout(graph, pos=dict(enumerate(start)), iterations=50, seed=seed)
    positions: np.ndarray = np.array([found[i] for i in range(n)])
    return positions
