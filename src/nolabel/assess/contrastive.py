"""How a contrastive loss acts on an embedding: on whom it pushes, and what its temperature trades away.

Negative j of anchor i is pushed in proportion to ``r_ij = exp(s_ij / temperature) / sum_k exp(s_ik / temperature)``, s the
cosines: a low temperature pushes the nearest alone, a high one all alike. Low temperatures give a uniform embedding that
does not tolerate that neighbours may be of one kind; high ones tolerate it and lose uniformity.

Wang and Liu, "Understanding the behaviour of contrastive loss", CVPR 2021, arXiv:2012.09740.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from nolabel.assess.geometry import potential, unit_rows
from nolabel.assess.inputs import as_count, as_embeddings, as_labels, as_pair
from nolabel.ops.neighbours import nearest

ROWS_AT_ONCE = 512  # of the similarity matrix
COLLAPSED = 0.95  # `neighbour_tolerance` to the nearest half


@dataclass(frozen=True)
class ContrastiveDiagnostics:
    """What InfoNCE at one temperature does with an embedding; means over anchors.

    Attributes
    ----------
    temperature : as given
    alignment : squared distance of an anchor to its key, in [0, 4]; lower is better aligned
    uniformity : of the anchors, see `uniformity`; lower is more uniform
    tolerance : mean cosine of anchors of one class; None without labels
    penalty_entropy : entropy (nats) of the push over the negatives
    effective_negatives : exp of that entropy: how many negatives share the push
    top1_mass, top_percent_mass : share of the push on the nearest negative and on the nearest 1 % (at least one)
    grad_pos : derivative of the loss by the cosine of the positive; at most 0
    grad_neg_sum : sum of the derivatives by the cosines of the negatives; equals ``-grad_pos``
    """

    temperature: float
    alignment: float
    uniformity: float
    tolerance: float | None
    penalty_entropy: float
    effective_negatives: float
    top1_mass: float
    top_percent_mass: float
    grad_pos: float
    grad_neg_sum: float

    def __str__(self) -> str:
        return "\n".join(
            f"{name.replace('_', ' '):20}{value:12.4g}" for name, value in self.to_dict().items() if value is not None
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def contrastive_diagnostics(
    q: Any, k: Any, temperature: float, labels: Any = None, *, negatives: Any = None, normalized: bool = False
) -> ContrastiveDiagnostics:
    """Measure how InfoNCE at a temperature would push an embedding: gradients, hardness, uniformity, tolerance.

    Values at different temperatures compare; losses at different temperatures do not.

    Parameters
    ----------
    q, k : (n >= 2, d) floats; row i of both is a view of the same thing. Rows are scaled to unit length here.
    temperature : above 0.
    labels : (n,) classes, for `tolerance` alone.
    negatives : (m, d) such as a memory bank; None: the other rows of `k`.
    normalized : refuse rows whose length is not 1 within 1e-3, rather than scale them.

    Returns
    -------
    ContrastiveDiagnostics.

    Raises
    ------
    ValueError
        Temperature not above 0, shapes that differ, fewer than 2 rows, NaN, a zero row, labels without two rows of one
        class.

    References
    ----------
    Wang and Liu, CVPR 2021, arXiv:2012.09740; uniformity: Wang and Isola, ICML 2020, arXiv:2005.10242.

    >>> z = np.eye(4)
    >>> round(contrastive_diagnostics(z, z, temperature=0.5).effective_negatives, 6)  # three, all at cosine 0
    3.0
    """
    if not temperature > 0:
        raise ValueError(f"temperature: a positive number was expected, got {temperature!r}")
    first, second = as_pair(q, k, ("q", "k"), same_width=True)
    a, b = _on_sphere(first, "q", normalized), _on_sphere(second, "k", normalized)
    bank = None if negatives is None else as_embeddings(negatives, "negatives", at_least=1)
    others = b if bank is None else _on_sphere(bank, "negatives", normalized)
    if others.shape[1] != a.shape[1]:
        raise ValueError(f"negatives: the width of q, {a.shape[1]}, was expected, got shape {others.shape}")
    blocks = []
    for start in range(0, len(a), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        blocks.append(_push(a[rows], b[rows], others, start if bank is None else None, temperature))
    means = np.concatenate(blocks).mean(axis=0)
    entropy, effective, top1, top_percent, positive, negative = (float(value) for value in means)
    return ContrastiveDiagnostics(
        temperature=float(temperature),
        alignment=float(((a - b) ** 2).sum(axis=1).mean()),
        uniformity=potential(a),
        tolerance=None if labels is None else tolerance(a, labels),
        penalty_entropy=entropy,
        effective_negatives=effective,
        top1_mass=top1,
        top_percent_mass=top_percent,
        grad_pos=(positive - 1) / temperature,
        grad_neg_sum=negative / temperature,
    )


def tolerance(z: Any, labels: Any, *, conditional: bool = True) -> float:
    """Mean cosine of two rows of one class: how far an embedding tolerates that its neighbours are alike; needs labels.

    Parameters
    ----------
    z : (n, d) floats.
    labels : (n,) classes; a class of one row has no pairs and does not count.
    conditional : divide by the pairs of one class. False: by all pairs, pairs of two classes counting 0, as the paper
        writes it; that value shrinks with the number of classes.

    Returns
    -------
    float in [-1, 1].

    Raises
    ------
    ValueError
        No two rows of one class, a zero row, NaN.

    References
    ----------
    Wang and Liu, CVPR 2021, arXiv:2012.09740.

    >>> tolerance([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0, 0, 1])
    1.0
    >>> round(tolerance([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0, 0, 1], conditional=False), 4)
    0.3333
    """
    u = unit_rows(as_embeddings(z), "embeddings")
    classes, codes, sizes = np.unique(as_labels(labels, len(u)), return_inverse=True, return_counts=True)
    pairs = int((sizes * (sizes - 1)).sum())
    if pairs == 0:
        raise ValueError(f"labels: tolerance needs same-class pairs, got {len(u)} rows of {len(classes)} classes")
    sums = np.zeros((len(classes), u.shape[1]))
    np.add.at(sums, codes, u)
    total = float((sums**2).sum() - (u**2).sum())  # over ordered pairs of two different rows
    return total / (pairs if conditional else len(u) * (len(u) - 1))


def neighbour_tolerance(z: Any, k: int = 10, *, reference: Any = None) -> float:
    """Mean cosine of rows to their k nearest: tolerance without labels, neighbours standing in for one's own kind.

    Near 1 means that neighbourhoods have shrunk to points; with `k` half of the rows, that the whole embedding has.

    Parameters
    ----------
    z : (n, d) floats.
    k : neighbours, fewer than rows.
    reference : (n, m) another embedding of the same rows, in which the neighbours are looked for; None: `z` itself.

    Returns
    -------
    float in [-1, 1].

    Raises
    ------
    ValueError
        k not below the rows, different numbers of rows, a zero row, NaN.

    References
    ----------
    After the tolerance of Wang and Liu, CVPR 2021, arXiv:2012.09740.

    >>> round(neighbour_tolerance([[1.0, 0.0], [1.0, 1.0], [-1.0, 1.0]], k=1), 4)  # cosines 0.7071, 0.7071 and 0
    0.4714
    """
    array = as_embeddings(z)
    u = unit_rows(array, "embeddings")
    where = u
    if reference is not None:
        where = as_pair(array, reference, ("embeddings", "reference"), same_width=False)[1]
    as_count(k, "k", high=len(u) - 1, why=f"each of {len(u)} rows has {len(u) - 1} others")
    _, indices = nearest(where, where, k, metric="cosine", exclude_self=True)
    total = sum(float((u * u[column]).sum()) for column in np.asarray(indices).T)
    return total / indices.size


def _on_sphere(z: np.ndarray, name: str, normalized: bool) -> np.ndarray:
    if normalized:
        off = np.abs(np.linalg.norm(z.astype(np.float64), axis=1) - 1)
        if off.max() > 1e-3:
            row = int(off.argmax())
            length = float(np.linalg.norm(z[row]))
            raise ValueError(f"{name}: rows of length 1 were expected (normalized=True), row {row} has {length:.4g}")
    return unit_rows(z, name)


def _push(a: np.ndarray, b: np.ndarray, others: np.ndarray, own: int | None, temperature: float) -> np.ndarray:
    """Of each anchor: entropy of the push, its exp, push on the nearest, on the nearest 1 %, probability of the positive, of
    all negatives: (n, 6). Its own key is row ``own + i`` of `others`, or not among them.
    """
    positive = (a * b).sum(axis=1) / temperature
    logits = a @ others.T / temperature  # (n, m)
    if own is not None:
        rows = np.arange(len(a))
        logits[rows, own + rows] = -np.inf
    total = logsumexp(logits, axis=1)
    log_r = logits - total[:, None]
    r = np.exp(log_r)
    entropy = -(r * np.where(r > 0, log_r, 0.0)).sum(axis=1)
    top = max(1, -(-(others.shape[0] - (own is not None)) // 100))
    nearest_percent = np.partition(r, -top, axis=1)[:, -top:]
    whole = np.logaddexp(positive, total)
    columns = (
        entropy,
        np.exp(entropy),
        r.max(axis=1),
        nearest_percent.sum(axis=1),
        np.exp(positive - whole),
        np.exp(total - whole),
    )
    return np.stack(columns, axis=1)
