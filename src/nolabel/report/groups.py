"""The clusters of an embedding as the report shows them: their most central members, and those at their edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nolabel.report.layout import main_components

SHEETS = 20  # clusters that get a contact sheet, largest first
CENTRAL, EDGE = 24, 6
BLOCK_ROWS = 16_384  # compared with the centres at once
FIT_ROWS, FIT_STEPS = 5_000, 25  # k-means is fitted on at most so many rows; more of both hardly move the centres
# One colour a sheet, of middle lightness so that it stands out on white and on near-black; neighbours differ in hue.
PALETTE = (
    *("#3f7fc1", "#d9822b", "#3d9a5f", "#c8504f", "#8a6bbf", "#a07a4f", "#d070a8", "#7d8590", "#a5a02e", "#2fa3b0"),
    *("#6f9bea", "#e0a458", "#6fbf73", "#e88079", "#b194e0", "#8f5d3b", "#b34d8c", "#5c7a99", "#7f8f1f", "#1f8a8a"),
)
OTHER = "#8b8f94"


@dataclass(frozen=True)
class Group:
    """One cluster: `label` is what the caller or k-means calls it, `tightness` the mean cosine to its centre."""

    label: int
    name: str
    size: int
    tightness: float
    central: np.ndarray
    edge: np.ndarray
    duplicates: int
    colour: str


def cluster_count(n: int) -> int:
    """How many clusters k-means looks for: 10 up to 2,000 rows, 20 from 20,000 on, fewer in tiny sets.

    >>> [cluster_count(n) for n in (2, 40, 1797, 5000, 10**6)]
    [1, 5, 10, 13, 20]
    """
    grown = 10 + 10 * np.log10(max(n, 2000) / 2000)
    return int(max(1, min(grown, 20, n // 8)))


def cluster_rows(unit: np.ndarray, seed: int) -> np.ndarray:
    """Group unit vectors (n, d) by k-means; int64 (n,), clusters numbered by falling size.

    Centres are found on the main components of some rows; every row then goes to the nearest centre in all dimensions.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    sample = unit[np.sort(np.random.default_rng(seed).permutation(len(unit))[:FIT_ROWS])]
    z = main_components(sample, seed)
    count = min(cluster_count(len(unit)), len(np.unique(z.round(5), axis=0)))
    with threadpool_limits(limits=1):  # on a busy machine its threads would wait for each other
        fitted = KMeans(count, n_init=4, max_iter=FIT_STEPS, random_state=seed).fit_predict(z)
    # k-means that is cut short may leave a cluster without rows, which has no centre
    centres = np.stack([sample[fitted == number].mean(axis=0) for number in np.unique(fitted)])
    half = 0.5 * np.einsum("cd,cd->c", centres, centres)  # |x - c|^2 is smallest where x.c - |c|^2 / 2 is largest
    found = np.empty(len(unit), dtype=np.int64)
    for start in range(0, len(unit), BLOCK_ROWS):
        np.argmax(unit[start : start + BLOCK_ROWS] @ centres.T - half, axis=1, out=found[start : start + BLOCK_ROWS])
    order = np.argsort(-np.bincount(found, minlength=len(centres)), kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[found]


def checked_clusters(clusters: np.ndarray, n: int) -> np.ndarray:
    """Return given clusters as int64 (n,).

    Raises
    ------
    ValueError
        Not one whole number a row.

    >>> checked_clusters([0, 1, 1], 2)
    Traceback (most recent call last):
    ValueError: clusters: one integer a row was expected, shape (2,), got int64 (3,)
    """
    given = np.asarray(clusters)
    if given.shape != (n,) or given.dtype.kind not in "iu":
        raise ValueError(f"clusters: one integer a row was expected, shape ({n},), got {given.dtype} {given.shape}")
    return given.astype(np.int64)


def describe_groups(unit: np.ndarray, clusters: np.ndarray, duplicated: np.ndarray, first: int) -> list[Group]:
    """Describe every cluster, largest first; negative numbers mean rows that belong to none and come last.

    Parameters
    ----------
    unit : (n, d) unit vectors.
    clusters : int (n,).
    duplicated : bool (n,), rows that have a near-duplicate.
    first : what to add to a number to name it: 1 where the numbers are ours and start at 0.
    """
    labels, sizes = np.unique(clusters, return_counts=True)
    order = np.lexsort((labels, -sizes, labels < 0))
    groups = []
    for rank, (label, size) in enumerate(zip(labels[order].tolist(), sizes[order].tolist(), strict=True)):
        rows = np.flatnonzero(clusters == label)
        centre = unit[rows].mean(axis=0, dtype=np.float64)
        centre /= max(float(np.linalg.norm(centre)), 1e-12)
        cosine = unit[rows] @ centre.astype(np.float32)
        by_cosine = rows[np.argsort(-cosine, kind="stable")]
        groups.append(
            Group(
                label=label,
                name=f"Cluster {label + first}" if label >= 0 else "In no cluster",
                size=size,
                tightness=float(cosine.mean().clip(-1, 1)),
                central=by_cosine[:CENTRAL],
                edge=by_cosine[CENTRAL:][-EDGE:][::-1],
                duplicates=int(duplicated[rows].sum()),
                colour=PALETTE[rank] if rank < SHEETS and label >= 0 else OTHER,
            )
        )
    return groups
