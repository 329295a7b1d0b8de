"""Few-shot accuracy: new classes from one to a few labelled examples each, over many random episodes. It needs labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nolabel.assess.geometry import unit_or_zero
from nolabel.assess.inputs import as_array, as_count, as_embeddings, as_labels


class Episode(NamedTuple):
    """Row numbers of the labelled examples and of the queries, each in random order."""

    support: np.ndarray
    query: np.ndarray


@dataclass(frozen=True)
class FewShotScore:
    """Mean accuracy, the half-width of its 95 % interval over episodes (Student's t), and the accuracy of each episode."""

    mean: float
    interval95: float
    values: np.ndarray


def episodes(
    y: Any,
    n_way: int = 5,
    n_shot: int = 1,
    n_query: int | Sequence[int] = 15,
    n_episodes: int = 300,
    random_state: int = 0,
) -> Iterator[Episode]:
    """Draw few-shot tasks: `n_way` classes, of each `n_shot` labelled examples and other rows as queries.

    An episode depends on the labels, the seed and its number alone, so different classifiers are compared on the same
    ones, and more episodes begin with the same as fewer.

    Parameters
    ----------
    y : (n,) integers or strings.
    n_query : queries of each class; or `n_way` numbers, for the drawn classes in random order, for unequal classes.

    Raises
    ------
    ValueError
        Fewer than `n_way` classes with enough rows; a number out of range.

    References
    ----------
    Vinyals et al. 2016, arXiv:1606.04080.

    >>> [len(rows) for rows in next(episodes([0, 1, 0, 1, 0, 1], n_way=2, n_query=2))]
    [2, 4]
    """
    labels = as_labels(y, len(as_array(y, "y")), "y")
    as_count(n_way, "n_way", low=2)
    as_count(n_shot, "n_shot")
    as_count(n_episodes, "n_episodes")
    counts = [n_query] * n_way if isinstance(n_query, int | np.integer) else list(n_query)
    if len(counts) != n_way:
        raise ValueError(f"n_query: one number, or one for each of the {n_way} classes was expected, got {counts}")
    for count in counts:
        as_count(count, "n_query", low=0 if max(counts) > 0 else 1)
    members = [np.flatnonzero(labels == name) for name in np.unique(labels)]
    needed = n_shot + max(counts)
    large = [rows for rows in members if len(rows) >= needed]
    if len(large) < n_way:
        raise ValueError(f"y: {n_way} classes with at least {needed} rows were expected, got {len(large)}")
    return _drawn(large, n_way, n_shot, counts, n_episodes, random_state)


def _drawn(
    members: list[np.ndarray], n_way: int, n_shot: int, counts: list[int], n_episodes: int, random_state: int
) -> Iterator[Episode]:
    for number in range(n_episodes):
        rng = np.random.default_rng([random_state, number])
        drawn = [rng.permutation(members[c]) for c in rng.choice(len(members), n_way, replace=False)]
        support = np.concatenate([rows[:n_shot] for rows in drawn])
        query = np.concatenate([rows[n_shot : n_shot + count] for rows, count in zip(drawn, counts, strict=True)])
        yield Episode(rng.permutation(support), rng.permutation(query))


class _NearestMean:
    """The class whose mean unit vector is nearest."""

    def fit(self, z: np.ndarray, y: np.ndarray) -> _NearestMean:
        self.classes, codes = np.unique(y, return_inverse=True)
        unit = unit_or_zero(z)
        self.means = np.stack([unit[codes == c].mean(axis=0) for c in range(len(self.classes))])
        return self

    def predict(self, z: np.ndarray) -> np.ndarray:
        squares = (self.means**2).sum(axis=1) - 2.0 * unit_or_zero(z) @ self.means.T  # (q, c) less the queries' own
        return self.classes[squares.argmin(axis=1)]


def few_shot_score(
    embeddings: Any,
    labels: Any,
    *,
    n_way: int = 5,
    n_shot: int = 1,
    n_query: int | Sequence[int] = 15,
    n_episodes: int = 300,
    classifier: Any = None,
    random_state: int = 0,
) -> FewShotScore:
    """Accuracy of a classifier on the queries of random episodes, fitted anew on the labelled examples of each.

    Parameters
    ----------
    embeddings : (n, d) floats; labels : (n,) integers or strings, of classes the representation was not trained on.
    n_way, n_shot, n_query, n_episodes, random_state : as in `episodes`.
    classifier : anything with ``fit(Z, y)`` and ``predict(Z)``; it is given all queries of an episode at once. ``None`` is the
        nearest class mean of unit vectors (prototypical networks, Snell et al. 2017, arXiv:1703.05175).

    Returns
    -------
    FewShotScore(mean, interval95, values)

    Raises
    ------
    ValueError
        Shapes or lengths that do not fit, NaN, too few classes or rows; what the classifier raises.

    >>> z = np.repeat(np.eye(3), 4, axis=0)
    >>> few_shot_score(z, np.repeat([0, 1, 2], 4), n_way=3, n_query=2, n_episodes=5).mean
    1.0
    """
    from scipy.stats import t

    z = as_embeddings(embeddings)
    y = as_labels(labels, len(z))
    model = _NearestMean() if classifier is None else classifier
    values = []
    for task in episodes(y, n_way, n_shot, n_query, n_episodes, random_state):
        predicted = model.fit(z[task.support], y[task.support]).predict(z[task.query])
        values.append(np.mean(np.asarray(predicted) == y[task.query]))
    found = np.array(values)
    half = (
        float(t.ppf(0.975, len(found) - 1)) * found.std(ddof=1) / math.sqrt(len(found)) if len(found) > 1 else math.nan
    )
    return FewShotScore(float(found.mean()), float(half), found)
