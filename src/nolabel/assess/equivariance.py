"""Does a representation move with the pose, and is it known where to? Measures of equivariance.

`transformation_r2` asks a small network to read from two embeddings what happened between them. `ranks_of_targets` asks
whether a predictor, given a view and a transformation, lands nearest to the right other view of the object.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nolabel.assess.inputs import as_count, as_embeddings
from nolabel.ops.neighbours import nearest
from nolabel.ops.pairs import pair_rows
from nolabel.ops.quaternions import GROUPS, relative_pose


def global_r2(true: Any, predicted: Any) -> float:
    """1 - residual / total sum of squares, with one mean over all entries of `true`, as for quaternions in SIE.

    Raises
    ------
    ValueError
        Matrices of different shapes, or a `true` whose entries are all equal.

    >>> global_r2([[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.5, 0.5]])
    0.5
    """
    a, b = as_embeddings(true, "true", at_least=1), as_embeddings(predicted, "predicted", at_least=1)
    if a.shape != b.shape:
        raise ValueError(f"true and predicted: one shape was expected, got {a.shape} and {b.shape}")
    total = float(((a - a.mean()) ** 2).sum())
    if total == 0:
        raise ValueError("true: entries that differ were expected, got all equal")
    return 1.0 - float(((a - b) ** 2).sum()) / total


def transformation_r2(
    train: tuple[Any, Any, Any],
    test: tuple[Any, Any, Any],
    *,
    hidden: Sequence[int] = (128, 128),
    steps: int = 500,
    random_state: int = 0,
) -> float:
    """How well a perceptron reads the transformation between two views from their embeddings, by `global_r2`.

    Parameters
    ----------
    train, test : (embeddings of first views (n, d), of second views (n, d), transformations (n, g)). Keep the objects of
        both apart, or the probe may know them by heart.
    hidden : widths of the hidden layers; the paper's are (2d, 2d)
    steps : of Adam, with 256 pairs each; inputs are standardised

    Returns
    -------
    at most 1; about 0 where nothing can be read

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN, fewer than 2 pairs.

    >>> rng = np.random.default_rng(0)
    >>> first, second = rng.normal(size=(2, 400, 2))
    >>> pairs = first, second, second - first
    >>> transformation_r2(pairs, pairs, hidden=(16,), steps=200) > 0.9
    True
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor
    from sklearn.preprocessing import StandardScaler

    x, z = _joined(train, "train")
    x_test, z_test = _joined(test, "test")
    if x.shape[1] != x_test.shape[1] or z.shape[1] != z_test.shape[1]:
        raise ValueError(f"train and test: the same widths were expected, got {x.shape[1]} and {x_test.shape[1]}")
    batch = min(256, len(x))
    epochs = max(1, round(as_count(steps, "steps") / math.ceil(len(x) / batch)))
    probe = MLPRegressor(
        hidden_layer_sizes=tuple(hidden),
        batch_size=batch,
        learning_rate_init=2e-3,
        max_iter=epochs,
        n_iter_no_change=epochs,
        random_state=random_state,
    )
    scaler = StandardScaler().fit(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps is fixed on purpose
        probe.fit(scaler.transform(x), z[:, 0] if z.shape[1] == 1 else z)
    return global_r2(z_test, probe.predict(scaler.transform(x_test)).reshape(z_test.shape))


def _joined(pairs: tuple[Any, Any, Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Both embeddings side by side, and the transformations."""
    first, second, z = (as_embeddings(values, f"{name}[{i}]") for i, values in enumerate(pairs))
    if first.shape != second.shape or len(z) != len(first):
        shapes = f"{first.shape}, {second.shape} and {z.shape}"
        raise ValueError(f"{name}: embeddings of one shape and a transformation a row were expected, got {shapes}")
    return np.concatenate([first, second], axis=1).astype(np.float64), z.astype(np.float64)


def ranks_of_targets(predicted: Any, candidates: Any, target: int) -> np.ndarray:
    """The rank of the right candidate by cosine, for each prediction; 1 is best, equals share the mean of their ranks.

    Parameters
    ----------
    predicted : (q, d)
    candidates : the same ones for all predictions (c, d)
    target : the right candidate of prediction 0; that of prediction 1 is the next one, and so on

    >>> ranks_of_targets([[1.0, 0.1], [1.0, 0.2]], [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]], target=1).tolist()
    [1.0, 2.0]
    """
    p, c = as_embeddings(predicted, "predicted", at_least=1), as_embeddings(candidates, "candidates")
    if p.shape[1] != c.shape[1]:
        raise ValueError(f"predicted and candidates: one width was expected, got {p.shape[1]} and {c.shape[1]}")
    as_count(target, "target", low=0, high=len(c) - len(p), why=f"{len(p)} predictions, {len(c)} candidates")
    cosine = _unit(p) @ _unit(c).T  # (q, c)
    right = cosine[np.arange(len(p)), target + np.arange(len(p))][:, None]
    ahead, equal = (cosine > right + 1e-6).sum(axis=1), (np.abs(cosine - right) <= 1e-6).sum(axis=1)
    return ahead + (equal + 1) / 2  # of equals, one is the right one itself: a collapsed embedding ranks at chance


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def pose_error(first: Any, second: Any, group: str) -> float:
    """How far poses lie apart on average.

    Rotations count 1 - <q, q'>^2 of their quaternions, which is sin^2 of half the angle between them: 0 for the same, 1 for
    half a turn. Poses of the group ``vector`` count the squared distance.

    Parameters
    ----------
    first, second : poses (n, p), see `nolabel.ops.quaternions.relative_pose`; only the rotation of ``so3`` and ``so2`` counts

    >>> round(pose_error([[0.0]], [[3.14159265]], "so2"), 6)
    1.0
    """
    if group not in GROUPS:
        raise ValueError(f"group must be one of {', '.join(GROUPS)}, got {group!r}")
    a, b = as_embeddings(first, "first", at_least=1), as_embeddings(second, "second", at_least=1)
    if a.shape != b.shape:
        raise ValueError(f"first and second: one shape was expected, got {a.shape} and {b.shape}")
    if group == "so3":
        return float(np.mean(1 - (a[:, :4] * b[:, :4]).sum(axis=1) ** 2))
    if group == "so2":
        return float(np.mean(np.sin((a[:, 0] - b[:, 0]) / 2) ** 2))
    return float(np.mean(((a - b) ** 2).sum(axis=1)))


@dataclasses.dataclass(frozen=True)
class EquivarianceReport:
    """What `equivariance_report` found.

    Attributes
    ----------
    r2_all, r2_inv, r2_equi : `transformation_r2` of the whole representation and of its halves
    mrr, hits_at_1, hits_at_5 : mean reciprocal rank of the right view among the views of the object, and how often it is
        among the first
    mrr_chance : what random order gives
    prediction_error : `pose_error` of the nearest view of all objects to the prediction
    views, queries : how many views were embedded, and how many predictions made
    """

    r2_all: float
    r2_inv: float
    r2_equi: float
    mrr: float
    hits_at_1: float
    hits_at_5: float
    mrr_chance: float
    prediction_error: float
    views: int
    queries: int

    def to_dict(self) -> dict[str, float]:
        return dataclasses.asdict(self)


def equivariance_report(
    model: Any,
    data: Any,
    *,
    columns: dict[str, str] | None = None,
    pairs: int = 5000,
    probe_seeds: int = 2,
    random_state: int = 0,
) -> EquivarianceReport:
    """Judge a fitted SIE on views of objects it has not learned from.

    Two thirds of the objects, drawn by `random_state`, train the probes and one third tests them. From the first view of
    each object, the embeddings of its other views are predicted.

    Parameters
    ----------
    model : a fitted `nolabel.learn.SIE`
    data, columns : as in its `fit`: a table with ``image``, ``object`` and ``pose``
    pairs : how many pairs train the probes; half as many test them
    probe_seeds : how many probes are averaged

    Raises
    ------
    ValueError
        Fewer than 3 objects with at least 2 views.
    """
    source = model.open_one(data, columns, model.columns)
    objects, poses = model.read_poses(source)
    numbers = np.unique(objects, return_inverse=True)[1].reshape(-1)
    several = np.flatnonzero(np.bincount(numbers) > 1)
    if len(several) < 3:
        raise ValueError(f"data: at least 3 objects with 2 or more views were expected, got {len(several)}")
    rng = np.random.default_rng(random_state)
    tested = np.isin(numbers, rng.permutation(several)[: len(several) // 3])
    whole = model.transform_source(source)
    border = model.split_[0]
    halves = {"r2_all": whole, "r2_inv": whole[:, :border], "r2_equi": whole[:, border:]}
    train = _drawn_pairs(np.flatnonzero(~tested), numbers, pairs, rng)
    test = _drawn_pairs(np.flatnonzero(tested), numbers, max(pairs // 2, 2), rng)
    scores: dict[str, Any] = {}
    for name, features in halves.items():
        parts = [
            (features[rows[:, 0]], features[rows[:, 1]], _between(poses, rows, model.group)) for rows in (train, test)
        ]
        found = [transformation_r2(*parts, random_state=random_state + i) for i in range(probe_seeds)]
        scores[name] = float(np.mean(found))
    embeddings = model.transform_source(source, layer="embedding")[:, model.projection[1] :]
    return EquivarianceReport(**scores, **_predictions(model, embeddings, numbers, poses, several), views=len(whole))


def _drawn_pairs(rows: np.ndarray, objects: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """About `count` pairs of rows of the same object: (pairs, 2)."""
    once = pair_rows(objects[rows], rng)
    again = [pair_rows(objects[rows], rng) for _ in range(-(-count // len(once)) - 1)]
    return rows[np.concatenate([once, *again])][:count]


def _between(poses: np.ndarray, rows: np.ndarray, group: str) -> np.ndarray:
    first, second = (torch.from_numpy(poses[rows[:, i]]) for i in (0, 1))
    return relative_pose(first, second, group).numpy()


def _predictions(
    model: Any, embeddings: np.ndarray, objects: np.ndarray, poses: np.ndarray, several: np.ndarray
) -> dict[str, Any]:
    """Ranks and errors of what is predicted from the first view of each object that has several."""
    members = np.split(np.argsort(objects, kind="stable"), np.cumsum(np.bincount(objects))[:-1])
    rows = np.concatenate([[(members[o][0], other) for other in members[o][1:]] for o in several])  # (queries, 2)
    predicted = model.predict_equi(embeddings[rows[:, 0]], _between(poses, rows, model.group))
    ranks, chance, begun = [], [], 0
    for o in several:
        views = len(members[o])
        queries = slice(begun, begun + views - 1)
        ranks.append(ranks_of_targets(predicted[queries], embeddings[members[o]], target=1))
        chance += [sum(1 / r for r in range(1, views + 1)) / views] * (views - 1)
        begun += views - 1
    rank = np.concatenate(ranks)
    found = nearest(predicted, embeddings, 1)[1][:, 0]
    return {
        "mrr": float(np.mean(1 / rank)),
        "hits_at_1": float(np.mean(rank <= 1)),
        "hits_at_5": float(np.mean(rank <= 5)),
        "mrr_chance": float(np.mean(chance)),
        "prediction_error": pose_error(poses[found], poses[rows[:, 1]], model.group),
        "queries": len(rank),
    }
