"""What the nearest neighbours of an embedding say: about labels, about views, about another embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nolabel.assess.geometry import unit_or_zero
from nolabel.assess.inputs import as_count, as_embeddings, as_labels, as_pair
from nolabel.ops.neighbours import nearest


@dataclass(frozen=True)
class SelfConsistency:
    """Share of rows that find their own other view, the share by chance, and the rows compared."""

    share: float
    chance: float
    rows: int


def knn_accuracy(
    train: Any, train_labels: Any, test: Any, test_labels: Any, *, k: int = 20, temperature: float = 0.1
) -> float:
    """Accuracy of a weighted vote among the k nearest training rows (cosine); needs labels.

    A neighbour at cosine s votes with exp(s / temperature). A test class that training lacks is always wrong.

    Parameters
    ----------
    train, test : (n, d) and (m, d) floats.
    train_labels, test_labels : (n,) and (m,) integers or strings.
    k : voters.
    temperature : lower trusts the nearest more.

    Returns
    -------
    float in [0, 1].

    Raises
    ------
    ValueError
        Shapes or lengths that do not fit, NaN, k above n, temperature not positive.

    References
    ----------
    Wu, Xiong, Yu and Lin, CVPR 2018, arXiv:1805.01978.

    >>> knn_accuracy([[1.0, 0.0], [0.0, 1.0]], ["a", "b"], [[0.9, 0.1]], ["a"], k=1)
    1.0
    """
    if not temperature > 0:
        raise ValueError(f"temperature: a positive number was expected, got {temperature!r}")
    keys, queries = as_embeddings(train, "train", at_least=1), as_embeddings(test, "test", at_least=1)
    if keys.shape[1] != queries.shape[1]:
        raise ValueError(f"train and test: the same width was expected, got shapes {keys.shape} and {queries.shape}")
    names = as_labels(train_labels, len(keys), "train_labels")
    truth = as_labels(test_labels, len(queries), "test_labels")
    as_count(k, "k", high=len(keys), why=f"there are {len(keys)} training rows")
    scores, indices = nearest(queries, keys, k, metric="cosine")
    classes, codes = np.unique(names, return_inverse=True)
    weights = np.exp((np.asarray(scores) - 1) / temperature)  # cosine <= 1: no overflow at any temperature
    votes = np.zeros((len(queries), len(classes)))
    np.add.at(votes, (np.arange(len(queries))[:, None], codes[np.asarray(indices)]), weights)
    return float(np.mean(classes[votes.argmax(axis=1)] == truth))


def self_consistency(
    z1: Any, z2: Any, k: int = 1, *, center: bool = False, max_samples: int = 2000, random_state: int = 0
) -> SelfConsistency:
    """Share of rows whose own second view is among the k nearest second views (cosine); label-free.

    Rows that are equally near share the place: each counts with the probability of winning a draw, so a constant
    embedding scores exactly chance.

    Parameters
    ----------
    z1, z2 : (n, d) floats; row i of both shows the same thing.
    k : how many neighbours may contain it.
    center : subtract the mean of each view first; use it for features behind a ReLU, whose common mean fills the cosine.
    max_samples : rows drawn from larger matrices. The share falls as rows grow: compare at equal numbers.
    random_state : seed of that draw.

    Returns
    -------
    SelfConsistency(share, chance = k / rows, rows).

    Raises
    ------
    ValueError
        Shapes that differ, NaN, k above the rows compared.

    >>> self_consistency([[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1], [0.2, 0.8]])
    SelfConsistency(share=1.0, chance=0.5, rows=2)
    """
    a, b = as_pair(z1, z2, ("z1", "z2"), same_width=True)
    as_count(max_samples, "max_samples", low=2)
    if len(a) > max_samples:
        drawn = np.random.default_rng(random_state).choice(len(a), max_samples, replace=False)
        a, b = a[drawn], b[drawn]
    n = len(a)
    as_count(k, "k", high=n, why=f"{n} rows are compared")
    if center:
        a, b = (z - z.mean(axis=0, dtype=np.float64) for z in (a, b))
    left, right = unit_or_zero(a), unit_or_zero(b)
    chances = np.empty(n)
    for start in range(0, n, 1024):  # rows of the similarity matrix at a time
        similarity = left[start : start + 1024] @ right.T
        rows = np.arange(len(similarity))
        own = similarity[rows, start + rows][:, None]
        close = np.abs(similarity - own) <= 1e-12  # equal but for rounding; includes itself
        nearer = ((similarity > own) & ~close).sum(axis=1)
        chances[start : start + 1024] = ((k - nearer) / close.sum(axis=1)).clip(0, 1)
    return SelfConsistency(share=float(chances.mean()), chance=k / n, rows=n)


def neighbour_overlap(z1: Any, z2: Any, k: int = 10) -> float:
    """Mean share of common rows in the k-nearest-neighbour lists (cosine) of two embeddings of the same rows.

    1 means that both see the same neighbourhoods, k / (n - 1) is chance. Widths may differ: use it for the stability of
    two seeds or two epochs.

    Raises
    ------
    ValueError
        Different numbers of rows, NaN, k above n - 1.

    >>> neighbour_overlap([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], [[1.0, 0.0], [0.9, 0.2], [0.1, 1.0]], k=1)
    1.0
    """
    a, b = as_pair(z1, z2, ("z1", "z2"), same_width=False)
    as_count(k, "k", high=len(a) - 1, why=f"each of {len(a)} rows has {len(a) - 1} others")
    first, second = (np.asarray(nearest(z, z, k, metric="cosine", exclude_self=True)[1]) for z in (a, b))
    return float(np.mean([len(np.intersect1d(x, y)) / k for x, y in zip(first, second, strict=True)]))
