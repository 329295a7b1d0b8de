"""Two coordinates for each row of an embedding: where it lies on the map.

t-SNE (van der Maaten and Hinton, JMLR 2008) of at most `LANDMARKS` rows, started from their two main components; every
other row goes to the weighted mean of its nearest landmarks. Distances are between unit vectors, so the map shows what
a search by cosine sees. Only neighbourhoods mean something on such a map: sizes and gaps do not.
"""

from __future__ import annotations

import numpy as np

from nolabel.assess.inputs import as_embeddings
from nolabel.report.vectors import unit_rows

LANDMARKS = 2000  # about 4 s of one core; the time grows a little faster than this number
COMPONENTS = 50  # PCA before t-SNE: noise dimensions cost time and blur neighbourhoods
NEIGHBOURS = 5
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


def sunflower(n: int) -> np.ndarray:
    """Spread n points evenly over the unit disk: the map of rows that do not differ.

    >>> sunflower(1).round(2).tolist()
    [[0.71, 0.0]]
    """
    i = np.arange(n)
    radius, angle = np.sqrt((i + 0.5) / n), i * GOLDEN_ANGLE
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def main_components(z: np.ndarray, seed: int) -> np.ndarray:
    """Project (n, d) rows on their main components, at most 50, at least 2; equal rows become zeros."""
    from sklearn.decomposition import PCA

    if float(np.ptp(z, axis=0).max()) < 1e-6:
        return np.zeros((len(z), 2), dtype=np.float32)
    count = min(COMPONENTS, *z.shape)
    sample = np.random.default_rng(seed).permutation(len(z))[:10_000]
    projected = PCA(count, random_state=seed).fit(z[np.sort(sample)]).transform(z).astype(np.float32, copy=False)
    return projected if count >= 2 else np.pad(projected, ((0, 0), (0, 2 - count)))


def place_between(rows: np.ndarray, landmarks: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Put rows (m, c) at the mean position of their nearest landmarks, weighted by distance ** -6.

    The steep weights keep a row between two groups with the nearer one instead of in the void between them.
    """
    from sklearn.neighbors import NearestNeighbors

    k = min(NEIGHBOURS, len(landmarks))
    distance, near = NearestNeighbors(n_neighbors=k).fit(landmarks).kneighbors(rows)
    nearest = distance[:, :1]
    ratio = np.divide(nearest, distance, out=np.ones_like(distance), where=distance > 0)
    weight = ratio**6
    return (weight[:, :, None] * positions[near]).sum(axis=1) / weight.sum(axis=1, keepdims=True)


def tsne(z: np.ndarray, seed: int) -> np.ndarray:
    """Lay out (n, c) rows, n >= 5, by scikit-learn's t-SNE, on one core: its steps are too short to share."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    start = z[:, :2] / max(float(z[:, 0].std()), 1e-12) * 1e-4
    model = TSNE(
        perplexity=min(30.0, (len(z) - 1) / 3),
        init=start.astype(np.float32),
        max_iter=500,
        angle=0.7,
        n_jobs=1,
        random_state=seed,
    )
    with threadpool_limits(limits=1):
        return model.fit_transform(z)


def map_layout(embeddings: np.ndarray, *, landmarks: int = LANDMARKS, random_state: int = 0) -> np.ndarray:
    """Lay out embeddings on a plane.

    Parameters
    ----------
    embeddings : (n, d) finite floats, n >= 2.
    landmarks : rows that t-SNE places; the others are placed between them.
    random_state : seed; the same seed gives the same map.

    Returns
    -------
    float32 (n, 2), the larger side spanning [0, 1], the smaller one centred in it.

    Raises
    ------
    ValueError
        Embeddings that are not a finite matrix of at least two rows.

    References
    ----------
    van der Maaten and Hinton, Visualizing data using t-SNE, JMLR 9, 2008.

    >>> points = map_layout(np.eye(4, dtype=np.float32))
    >>> points.shape, float(points.min()), float(points.max())
    ((4, 2), 0.0, 1.0)
    """
    unit = unit_rows(as_embeddings(embeddings))
    n = len(unit)
    z = main_components(unit, random_state)
    if not z.any():
        positions = sunflower(n)
    else:
        order = np.random.default_rng(random_state).permutation(n)
        chosen, rest = np.sort(order[:landmarks]), np.sort(order[landmarks:])
        spread = float(np.ptp(z[chosen], axis=0).max()) > 1e-6
        if len(chosen) < 5 or not spread:  # too few for neighbourhoods: the two main components say all
            positions = z[:, :2].astype(np.float64)
        else:
            positions = np.empty((n, 2))
            positions[chosen] = tsne(z[chosen], random_state)
            if len(rest):
                positions[rest] = place_between(z[rest], z[chosen], positions[chosen])
    low, high = positions.min(axis=0), positions.max(axis=0)
    span = max(float((high - low).max()), 1e-12)
    return ((positions - (low + high) / 2) / span + 0.5).clip(0, 1).astype(np.float32)
