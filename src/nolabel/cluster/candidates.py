"""From keywords to a topic vector: the documents nearest to the keywords, cleaned of outliers, and their mean.

Schopf, Braun & Matthes, "Lbl2Vec: an embedding-based approach for unsupervised document retrieval on predefined topics",
WEBIST 2021, section 3.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Int64

NEIGHBOURS = 20


def cosine(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "l d"]) -> Float[np.ndarray, "n l"]:
    """Cosine of every row of one matrix with every row of another, 0 where a row is zero.

    >>> cosine(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[1.0, 0.0]])).tolist()
    [[0.6], [0.0]]
    """
    product: np.ndarray = unit(a) @ unit(b).T
    return product.clip(-1.0, 1.0)


def unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows scaled to length 1; a zero row stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def candidates(
    similarity: Float[np.ndarray, " n"],
    *,
    min_docs: int,
    max_docs: int | None = None,
    threshold: float | None = None,
    offset: float = 0.0,
) -> Int64[np.ndarray, " k"]:
    """Rows of the documents that stand for a topic, most similar first, ties in order of row.

    Those above `threshold`, or above the highest similarity less `offset` where none is given; but at most `max_docs` and
    at least `min_docs` of them, or all there are.

    >>> candidates(np.array([0.1, 0.9, 0.5, 0.8]), min_docs=1, threshold=0.4).tolist()
    [1, 3, 2]
    >>> candidates(np.array([0.1, 0.9, 0.5, 0.8]), min_docs=2).tolist()  # nothing lies above the highest
    [1, 3]
    """
    order = np.argsort(-similarity, kind="stable")
    least = float(similarity.max()) - offset if threshold is None else threshold
    passing = int((similarity > least).sum())
    return order[: max(min(passing, math.inf if max_docs is None else max_docs), min_docs)]


def inliers(vectors: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
    """Which rows the local outlier factor (Breunig et al., SIGMOD 2000) with up to 20 neighbours keeps; never none.

    Of one or two rows neither can be told from the other: both stay.

    >>> np.flatnonzero(~inliers(np.append(np.linspace(0, 1, 30), 9.0)[:, None])).tolist()
    [30]
    """
    if len(vectors) < 3:
        return np.ones(len(vectors), dtype=bool)
    from sklearn.neighbors import LocalOutlierFactor

    found: np.ndarray = LocalOutlierFactor(n_neighbors=min(NEIGHBOURS, len(vectors) - 1)).fit_predict(vectors)
    return found == 1  # the densest row has a factor of at most 1, so that it stays
