"""How well a classifier transfers to a domain without labels: which of several adapted candidates to keep.

With features z (n, d) of target images, those that the last layer is applied to, its weights W (k, d) and predicted
distributions P (n, k),

    score = H(z) + MI(P) / log k - U(W)                                                         higher is better
    U     = mean_{i != j} (arccos cos(w_i, w_j) - arccos(-1 / (k - 1))) ** 2                     bias of the classifier
    H     = sum_i a_i / (sum_i a_i + sum_i b_i)                                                  tendency to form clusters
    MI    = entropy(mean_n P_n) - mean_n entropy(P_n)                                            sure, and of all classes

where a_i are distances from points drawn evenly in the bounding box of z to their nearest row, and b_i distances from as many
rows to their nearest other row. No label is looked at.

Yang, Qian, Xu, Wang & Xie, "Can we evaluate domain adaptation models without target-domain labels?", ICLR 2024,
arXiv:2305.18712. Differences: cosines are clamped, so that parallel weights are no NaN; the Hopkins statistic is a mean over
draws that are the same for all candidates; MI is that of the whole set, not a mean over batches of 32, of which each can show
no more than log 32 and has shares of its own (``mi_batch=32`` gives that).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import entr, softmax

from nolabel.assess.inputs import as_count, as_embeddings
from nolabel.ops.neighbours import nearest

#: Fewer rows have no 5 % to speak of.
FEWEST_ROWS, FEWEST_POINTS = 40, 20
#: How far the sum of a distribution may be from 1.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class TransferScore:
    """Transfer Score and its parts (Yang et al., ICLR 2024, arXiv:2305.18712): comparable between candidates of one task.

    Attributes
    ----------
    total : ``hopkins + mutual_information - uniformity``; higher is better
    uniformity : squared angles, in radians, by which class weights miss an even spread: 0 is best
    hopkins : 0.5 for features without structure, near 1 for clustered ones
    mutual_information : of images and predicted classes as a share of log k: 1 for sure and even predictions
    """

    total: float
    uniformity: float
    hopkins: float
    mutual_information: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def angular_uniformity(head_weight: Any) -> float:
    """Mean squared deviation of the angles between class weights from that of a regular simplex, in square radians.

    Parameters
    ----------
    head_weight : (k, d) weights of the last layer, a row a class. The same for candidates that froze it.

    Raises
    ------
    ValueError
        Fewer than 2 classes, a class whose weights are all 0, NaN.

    >>> round(angular_uniformity([[1.0, 0.0], [-1.0, 0.0]]), 6)  # two classes, opposite
    0.0
    >>> round(angular_uniformity([[1.0, 0.0], [1.0, 0.0]]), 4)  # one on the other: pi squared
    9.8696
    """
    weight = as_embeddings(head_weight, "head_weight").astype(np.float64)
    lengths = np.linalg.norm(weight, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(f"head_weight: the weights of class {int(np.argmin(lengths))} are all 0: they have no angle")
    k = len(weight)
    unit = weight / lengths
    angles = np.arccos(np.clip(unit @ unit.T, -1.0, 1.0))[~np.eye(k, dtype=bool)]  # (k * (k - 1),)
    return float(np.mean((angles - np.arccos(-1.0 / (k - 1))) ** 2))


def hopkins(X: Any, points: int | None = None, *, repeats: int = 10, random_state: int = 0) -> float:
    """Hopkins statistic: whether rows lie in clusters (near 1), anyhow (0.5), or more evenly than by chance (below).

    In many dimensions points of the bounding box are far from everything and all data come near 1: compare only data of
    one width, or reduce it first.

    Parameters
    ----------
    X : (n, d)
    points : drawn in the box, and rows compared with them; ``None`` is 5 % of the rows and at least 20
    repeats : draws to average over
    random_state : seed of the draws; candidates that are compared must have the same

    Raises
    ------
    ValueError
        Fewer than 40 rows where `points` is not given, more points than rows, rows that are all equal, NaN.

    References
    ----------
    Hopkins & Skellam, "A new method for determining the type of distribution of plant individuals", Annals of Botany, 1954.

    >>> rng = np.random.default_rng(0)
    >>> round(hopkins(rng.random((2000, 2))), 1), hopkins(rng.integers(2, size=(2000, 2)) + rng.random((2000, 2)) / 50) > 0.95
    (0.5, True)
    """
    x = as_embeddings(X, "X").astype(np.float64)
    count = _points(len(x), points, 0.05)
    as_count(repeats, "repeats")
    low, span = x.min(axis=0), np.ptp(x, axis=0)
    if not span.any():
        raise ValueError("X: all rows are equal, so they have no bounding box: the model has collapsed")
    rng = np.random.default_rng([random_state, FEWEST_POINTS])  # not the stream that made-up data may come from
    drawn, rows = [], []
    for _ in range(repeats):
        drawn.append(low + span * rng.random((count, x.shape[1])))
        rows.append(rng.choice(len(x), count, replace=False))
    probes, own = np.concatenate(drawn), np.concatenate(rows)  # (repeats * count, d), (repeats * count,)
    from_box = _distances(probes, x, nearest(probes, x, 1, metric="euclidean")[1][:, 0])
    two = nearest(x[own], x, 2, metric="euclidean")[1]
    other = np.where(
        two[:, 0] == own, two[:, 1], two[:, 0]
    )  # of several equal rows its own may come second, or not at all
    a, b = (d.reshape(repeats, count).sum(axis=1) for d in (from_box, _distances(x[own], x, other)))
    return float(np.mean(a / (a + b)))


def mutual_information(probabilities: Any, *, batch: int | None = None) -> float:
    """Mutual information of images and predicted classes, in nats: from 0 to log k, high where predictions are sure and even.

    (`nolabel.ops.mutual_information` is that of columns of categories, from counts.)

    Parameters
    ----------
    probabilities : (n, k) that sum to 1
    batch : mean over batches of so many consecutive rows, the incomplete last one left out; ``None`` takes all rows as one

    Raises
    ------
    ValueError
        Rows that do not sum to 1 or are negative, fewer than 2 classes, fewer rows than `batch`.

    >>> round(mutual_information([[1.0, 0.0], [0.0, 1.0]]), 4), mutual_information([[1.0, 0.0], [1.0, 0.0]])
    (0.6931, 0.0)
    """
    p = as_probabilities(None, probabilities)
    size = len(p) if batch is None else as_count(batch, "batch", high=len(p), why=f"there are {len(p)} rows")
    parts = p[: len(p) // size * size].reshape(-1, size, p.shape[1])  # (batches, size, k)
    together = entr(parts.mean(axis=1)).sum(axis=1)
    alone = entr(parts).sum(axis=2).mean(axis=1)
    return float(np.mean(np.maximum(together - alone, 0.0)))


def transfer_score(
    features: Any,
    logits: Any = None,
    probabilities: Any = None,
    head_weight: Any = None,
    *,
    hopkins_fraction: float = 0.05,
    hopkins_points: int | None = None,
    hopkins_repeats: int = 10,
    mi_batch: int | None = None,
    components: int | None = None,
    random_state: int = 0,
) -> TransferScore:
    """Score a classifier on a domain by its outputs for unlabelled images there.

    Use it to choose among candidates of one task: methods, hyper-parameters, epochs. It is no estimate of accuracy, and only
    candidates with equally many classes and features compare. Take the evaluation transform, not augmented images.

    Parameters
    ----------
    features : (n, d) features that the last layer is applied to
    logits, probabilities : (n, k) outputs of the last layer, or their softmax; one of the two
    head_weight : (k, d) weights of the last layer
    hopkins_fraction : share of the rows that a draw of the Hopkins statistic takes, but at least 20 rows
    hopkins_points : their number instead, for fewer than 40 rows
    hopkins_repeats : draws to average over
    mi_batch : mutual information as a mean over batches; 32 in the paper's experiments, ``None`` is the whole set
    components : principal components of the features that the Hopkins statistic looks at; 10 to 20 keep it from nearing 1
        for every candidate in many dimensions. ``None`` takes the features as they are, as the paper does.
    random_state : seed of the draws; the same for candidates that are compared

    Raises
    ------
    ValueError
        Both or neither of logits and probabilities, shapes that do not fit, fewer than 2 classes, and what
        `angular_uniformity`, `hopkins` and `mutual_information` refuse.

    >>> sure = np.eye(2)[[0, 1] * 50]
    >>> score = transfer_score(sure + 0.01, probabilities=sure, head_weight=[[1.0, 0.0], [-1.0, 0.0]])
    >>> score.hopkins, score.mutual_information, score.uniformity, score.total
    (1.0, 1.0, 0.0, 2.0)
    """
    z = as_embeddings(features, "features")
    p = as_probabilities(logits, probabilities)
    if len(z) != len(p):
        raise ValueError(f"features and {'logits' if probabilities is None else 'probabilities'}: "
                         f"the same rows were expected in both, got {len(z)} and {len(p)}")  # fmt: skip
    weight = _as_head(head_weight, p.shape[1], z.shape[1])
    if not 0 < hopkins_fraction <= 1:
        raise ValueError(f"hopkins_fraction: a share in (0, 1] was expected, got {hopkins_fraction!r}")
    points = _points(len(z), hopkins_points, hopkins_fraction)
    if components is not None:
        from sklearn.decomposition import PCA

        as_count(components, "components", high=min(z.shape), why=f"of features of shape {z.shape}")
        z = PCA(components, svd_solver="full").fit_transform(z)
    tendency = hopkins(z, points, repeats=hopkins_repeats, random_state=random_state)
    told = mutual_information(p, batch=mi_batch) / float(np.log(p.shape[1]))
    bias = angular_uniformity(weight)
    return TransferScore(tendency + told - bias, bias, tendency, told)


def as_probabilities(logits: Any, probabilities: Any) -> np.ndarray:
    """Distributions (n, k), float64, from either logits or distributions; exactly one of them is given.

    >>> as_probabilities([[0.0, 0.0]], None).tolist()
    [[0.5, 0.5]]
    """
    if (logits is None) == (probabilities is None):
        came = "neither" if logits is None else "both"
        raise ValueError(f"logits, probabilities: one of the two was expected, got {came}")
    name, given = ("logits", logits) if probabilities is None else ("probabilities", probabilities)
    p = as_embeddings(given, name, at_least=1).astype(np.float64)
    if p.shape[1] < 2:
        raise ValueError(f"{name}: at least 2 classes, one a column, were expected, got shape {p.shape}")
    if logits is not None:
        found: np.ndarray = softmax(p, axis=1)
        return found
    sums = p.sum(axis=1)
    wrong = (np.abs(sums - 1) > TOLERANCE) | (p < 0).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        what = "negative values" if (p[row] < 0).any() else f"a sum of {sums[row]:.4g}"
        raise ValueError(f"probabilities: rows that sum to 1 were expected, row {row} has {what}; are these logits?")
    return p


def _as_head(head_weight: Any, classes: int, width: int) -> np.ndarray:
    if head_weight is None:
        raise ValueError(f"head_weight: the weights ({classes}, {width}) of the last layer were expected, got None")
    weight = as_embeddings(head_weight, "head_weight", at_least=1)
    if weight.shape != (classes, width):
        hint = "; it seems transposed: give head_weight.T" if weight.shape == (width, classes) else ""
        raise ValueError(
            f"head_weight: shape ({classes}, {width}), classes by features, was expected, got {weight.shape}{hint}"
        )
    return weight


def _points(rows: int, points: int | None, fraction: float) -> int:
    """How many points a draw of the Hopkins statistic takes."""
    if points is not None:
        return as_count(points, "points", high=rows, why=f"there are {rows} rows")
    if rows < FEWEST_ROWS:
        raise ValueError(
            f"the Hopkins statistic wants at least {FEWEST_ROWS} rows, got {rows}; with fewer, say how many points to draw"
        )
    return max(FEWEST_POINTS, int(fraction * rows))


def _distances(points: np.ndarray, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """From each point to the row of x that was found for it, without the rounding of the search."""
    found: np.ndarray = np.linalg.norm(points - x[rows], axis=1)
    return found
