"""From which domains come the inputs of a cell, and which mixes of classes explain that."""

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans

from nolabel.ops.nmf import cells_by_mix, mix_by_anchors, mix_by_nmf

SOLVERS = ("anchor", "nmf", "anchor-nmf")
KMEANS_ITERATIONS = 100


class Factors(NamedTuple):
    """The table of counts H (m, r), columns divided by their sums, as a product.

    Attributes
    ----------
    sizes : (m,) rows of each cell
    singular_values : of H
    mix : (k, r) p(class | domain), commonest class first
    cells : (m, k) q(cell | class)
    residual : what the product leaves over of H, as part of its norm
    """

    sizes: np.ndarray
    singular_values: np.ndarray
    mix: np.ndarray
    cells: np.ndarray
    residual: float


def factorised(
    q: np.ndarray, codes: np.ndarray, classes: int, cells: int, solver: str, *, n_init: int, random_state: int
) -> Factors:
    """Cut q(domain | x) (n, r) into cells, count by the domains (n,) of the rows, and find the mixes behind the counts.

    >>> q = np.array([[0.8, 0.2], [0.2, 0.8]])[[0, 0, 0, 0, 1, 0, 1, 1, 1, 1]]
    >>> found = factorised(q, np.repeat([0, 1], 5), 2, 2, "anchor", n_init=1, random_state=0)
    >>> np.sort(found.mix.round(3), axis=0).tolist(), round(found.residual, 6)  # 4 of 5 are of the one, 1 of the other
    ([[0.2, 0.2], [0.8, 0.8]], 0.0)
    """
    if len(q) < cells:
        raise ValueError(f"n_cells: at most as many as the {len(q)} rows were expected, got {cells}")
    means = KMeans(cells, n_init=n_init, max_iter=KMEANS_ITERATIONS, random_state=random_state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fewer different points than cells: empty cells are counted
        found = means.fit_predict(q)
    counts = np.zeros((cells, q.shape[1]))
    np.add.at(counts, (found, codes), 1)
    table, sizes = counts / counts.sum(axis=0), counts.sum(axis=1).astype(np.int64)
    there = int((sizes > 0).sum())
    if there < classes:
        raise ValueError(
            f"n_classes: the domain classifier tells only {there} kinds of rows apart, got {classes} classes"
        )
    if solver == "nmf":
        mix = mix_by_nmf(table, classes, n_init=n_init, random_state=random_state)
    else:
        mix = mix_by_anchors(table, sizes, classes)
        if solver == "anchor-nmf":
            mix = mix_by_nmf(table, classes, start=mix)
    mix = mix[np.argsort(-mix.sum(axis=1), kind="stable")]
    held = cells_by_mix(table, mix)
    residual = float(np.linalg.norm(table - held @ mix) / np.linalg.norm(table))
    return Factors(sizes, np.linalg.svd(table, compute_uv=False), mix, held, residual)
