"""Embeddings as the report sees them: unit vectors, their neighbours, near-duplicates, a varied choice of rows."""

from __future__ import annotations

import numpy as np

from nolabel.ops import neighbours

EXACT_ROWS = 20_000  # beyond, the closest row of every row is searched approximately
NEAR = 0.01  # a near-duplicate is closer than this share of the typical distance


def unit_rows(z: np.ndarray) -> np.ndarray:
    """Scale rows to unit length, float32; rows of zeros stay zeros.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).round(2).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    largest = np.maximum(z.max(axis=1, initial=0), -z.min(axis=1, initial=0))[:, None]
    unit = z / np.maximum(largest, np.finfo(np.float32).tiny)  # squares cannot overflow now
    norms = np.sqrt(np.einsum("nd,nd->n", unit, unit))[:, None]
    unit /= np.where(norms > 0, norms, 1)
    return unit.astype(np.float32, copy=False)


def nearest_others(unit: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k rows of highest cosine to each query row, the row itself left out.

    Returns
    -------
    rows int64 (q, k) and cosines float32 (q, k), best first; k is cut to n - 1.

    >>> rows, cosines = nearest_others(np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), np.array([0]), 1)
    >>> rows.tolist(), cosines.round(2).tolist()
    ([[2]], [[0.6000000238418579]])
    """
    k = min(k, len(unit) - 1)
    cosines, rows = neighbours.nearest(unit[queries], unit, k + 1)
    own = rows == np.asarray(queries)[:, None]
    own[~own.any(axis=1), -1] = True  # duplicates have pushed the row itself off the list
    shape = (len(queries), k)
    return rows[~own].reshape(shape), cosines[~own].reshape(shape).clip(-1, 1)


def near_duplicates(unit: np.ndarray, seed: int = 0) -> tuple[np.ndarray, list[tuple[int, int, float]]]:
    """Find rows that have another row almost on top of them.

    Almost: one minus the cosine is below 1 % of its median over random pairs, so the scale of the embedding does not
    matter.

    Returns
    -------
    bool (n,), and the pairs (row, closest row, cosine), closest first.

    >>> near_duplicates(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=np.float32))[0].tolist()
    [True, True, False]
    """
    n = len(unit)
    rng = np.random.default_rng(seed)
    first = rng.integers(0, n, 10_000)
    second = (first + rng.integers(1, n, 10_000)) % n  # never the row itself
    typical = float(np.median(1 - np.einsum("nd,nd->n", unit[first], unit[second])))
    cosines, rows = neighbours.nearest(unit, unit, 1, exclude_self=True, exact=n <= EXACT_ROWS)
    cosine, other = cosines[:, 0].clip(-1, 1), rows[:, 0]
    near = 1 - cosine <= max(NEAR * typical, 1e-6)
    order = np.flatnonzero(near)
    order = order[np.argsort(-cosine[order], kind="stable")]
    pairs: dict[tuple[int, int], float] = {}
    for row in order:
        pairs.setdefault((min(int(row), int(other[row])), max(int(row), int(other[row]))), float(cosine[row]))
    return near, [(a, b, value) for (a, b), value in pairs.items()]


def varied_rows(unit: np.ndarray, count: int) -> np.ndarray:
    """Choose rows that differ: the one nearest to the mean, then each time the row farthest from those chosen.

    Rows that say nothing new (cosine 1 to a chosen one) are not added, so fewer than `count` may come back. The
    farthest rows of a large set are its freaks, so the search runs over the 95 % of rows nearest to their mean.

    >>> unit = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    >>> varied_rows(unit, 3).tolist()
    [0, 1]
    """
    centrality = unit @ unit.mean(axis=0)
    pool = np.sort(np.argsort(-centrality, kind="stable")[: max(count, int(0.95 * len(unit)))])
    chosen = [int(pool[np.argmax(centrality[pool])])]
    distance = 1 - unit[pool] @ unit[chosen[0]]
    while len(chosen) < count and distance.max() > 1e-6:
        chosen.append(int(pool[np.argmax(distance)]))
        distance = np.minimum(distance, 1 - unit[pool] @ unit[chosen[-1]])
    return np.array(chosen, dtype=np.int64)
