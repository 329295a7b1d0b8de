"""Dictionaries of activations: A (n, p) is about U V with few rows of V (k, p), the concepts, and constrained U (n, k)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from nolabel.assess.inputs import as_count, as_embeddings

METHODS = ("kmeans", "pca", "svd", "nmf", "sparse")
#: Weight of the l1 norm of sparse coefficients, for activations scaled to a mean length of 1.
PENALTY = 0.05
#: Values below this share of the largest one count as negative only by rounding.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Dictionary:
    """What was learned of activations.

    Attributes
    ----------
    method : one of `METHODS`
    concepts : (k, p)
    mean : (p,), taken off before; zeros but for ``pca``
    length : mean length of the activations it was learned from, the unit of the sparse penalty
    """

    method: str
    concepts: np.ndarray
    mean: np.ndarray
    length: float

    def coefficients(self, activations: np.ndarray) -> np.ndarray:
        """U (n, k) of rows (n, p): the closest reconstruction under the method's constraint.

        Raises
        ------
        ValueError
            Another width, NaN, or negative values for ``nmf``.
        """
        a = as_embeddings(activations, "activations", at_least=1)
        k, p = self.concepts.shape
        if a.shape[1] != p:
            raise ValueError(f"activations: a width of {p} was expected, as in fit, got {a.shape[1]}")
        if self.method == "nmf":
            return non_negative_coefficients(as_non_negative(a), self.concepts)
        if self.method == "kmeans":
            from nolabel.ops import nearest

            _, closest = nearest(a, self.concepts, 1, metric="euclidean")
            one_hot = np.zeros((len(a), k), np.float32)
            one_hot[np.arange(len(a)), closest[:, 0]] = 1.0
            return one_hot
        if self.method == "sparse":
            return sparse_coefficients(a / self.length, self.concepts) * np.float32(self.length)
        coefficients: np.ndarray = ((a - self.mean) @ self.concepts.T).astype(np.float32)
        return coefficients

    def reconstruct(self, coefficients: np.ndarray) -> np.ndarray:
        """Rows (n, p) from U (n, k)."""
        rows: np.ndarray = coefficients @ self.concepts + self.mean
        return rows


def learn_dictionary(
    activations: np.ndarray, n_concepts: int, method: str = "nmf", *, random_state: int = 0
) -> Dictionary:
    """Learn k concepts from activations.

    ===========  =====================================================  ===========================
    ``kmeans``   U one-hot, V the centroids                             ACE, arXiv:1902.03129
    ``pca``      V orthonormal, the mean taken off                      ICE, arXiv:2006.15417
    ``svd``      V orthonormal, no mean taken off                       the best U V of that rank
    ``nmf``      U and V not negative                                   CRAFT, arXiv:2211.10154
    ``sparse``   U not negative with an l1 penalty, rows of V of length 1   Mairal et al., ICML 2009
    ===========  =====================================================  ===========================

    Rows of V of all but ``kmeans`` have length 1, so that coefficients of different concepts can be compared.

    Parameters
    ----------
    activations : (n, p) floats
    n_concepts : k, at most min(n, p)

    Raises
    ------
    ValueError
        An unknown method, k out of range, NaN, negative activations for ``nmf``.

    >>> a = np.array([[2.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 3.0, 3.0]])
    >>> learn_dictionary(a, 2).coefficients(a).max(axis=0).round().tolist()
    [4.0, 4.0]
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    a = as_embeddings(activations, "activations")
    n, p = a.shape
    as_count(n_concepts, "n_concepts", high=min(n, p), why=f"{n} rows of {p} activations")
    length = float(np.linalg.norm(a, axis=1).mean())
    if not length:
        raise ValueError("activations: all of them are 0, so there are no concepts in them")
    mean = a.mean(axis=0) if method == "pca" else np.zeros(p, a.dtype)
    if method == "nmf":
        concepts = _nmf(as_non_negative(a) / length, n_concepts, random_state)  # its tolerances are for values near 1
    elif method == "kmeans":
        concepts = _kmeans(a, n_concepts, random_state)
    elif method == "sparse":
        concepts = _sparse(a / length, n_concepts, random_state)
    else:
        concepts = _main_directions(a - mean, n_concepts)
    return Dictionary(method, concepts.astype(np.float32), mean.astype(np.float32), length)


def as_non_negative(a: np.ndarray) -> np.ndarray:
    """Activations with rounding below 0 taken away.

    >>> as_non_negative(np.array([[-1.0, 2.0]]))
    Traceback (most recent call last):
    ValueError: activations: nmf needs values of at least 0, as after a ReLU, got -1; choose another layer or method='pca'
    """
    least, most = float(a.min()), float(a.max())
    if least < -ROUNDING * max(most, 0.0):
        raise ValueError(
            f"activations: nmf needs values of at least 0, as after a ReLU, got {least:.3g}; choose another layer "
            "or method='pca'"
        )
    return np.clip(a, 0.0, None)


def non_negative_coefficients(a: np.ndarray, concepts: np.ndarray) -> np.ndarray:
    """Non-negative least squares of all rows at once: the U (n, k) of at least 0 with the least ||a - U V||."""
    from sklearn.decomposition import non_negative_factorization
    from sklearn.exceptions import ConvergenceWarning

    k, p = concepts.shape
    a = a.astype(np.float32)
    if not a.any():
        return np.zeros((len(a), k), np.float32)
    if len(a) < k:  # scikit-learn's check on the rank is about learning V, which is known here
        padded = np.concatenate([a, np.zeros((k - len(a), p), np.float32)])
        return non_negative_coefficients(padded, concepts)[: len(a)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a convex problem: the limit only cuts digits
        u, _, _ = non_negative_factorization(
            a,
            H=concepts.astype(np.float32),
            n_components=k,
            init="custom",
            update_H=False,
            solver="cd",
            tol=1e-6,
            max_iter=500,
        )
    coefficients: np.ndarray = u.astype(np.float32)
    return coefficients


def sparse_coefficients(a: np.ndarray, concepts: np.ndarray) -> np.ndarray:
    """Coefficients (n, k) of at least 0 with the least ||a - U V||^2 / 2 + penalty ||U||_1."""
    from sklearn.decomposition import sparse_encode
    from sklearn.exceptions import ConvergenceWarning

    rows, parts = a.astype(np.float64), concepts.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a convex problem: the limit only cuts digits
        found = sparse_encode(rows, parts, algorithm="lasso_cd", alpha=PENALTY, positive=True, max_iter=500)
    coefficients: np.ndarray = found.astype(np.float32)
    return coefficients


def _nmf(a: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits of the loss do not matter here
        model = NMF(k, init="nndsvda", solver="cd", max_iter=500, random_state=seed).fit(a.astype(np.float32))
    return unit(model.components_)


def _kmeans(a: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    different = len(np.unique(a, axis=0))
    if different < k:
        raise ValueError(f"n_concepts: {different} different rows of activations have no {k} centroids")
    centroids: np.ndarray = KMeans(k, n_init=4, random_state=seed).fit(a).cluster_centers_
    return centroids


def _sparse(a: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.decomposition import MiniBatchDictionaryLearning
    from sklearn.exceptions import ConvergenceWarning

    model = MiniBatchDictionaryLearning(
        k, alpha=PENALTY, fit_algorithm="cd", positive_code=True, batch_size=256, max_iter=20, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return unit(model.fit(a.astype(np.float64)).components_)


def _main_directions(a: np.ndarray, k: int) -> np.ndarray:
    """The k orthonormal directions of the largest squares, each turned so that its largest coefficients are above 0."""
    from scipy.linalg import eigh

    p = a.shape[1]
    _, vectors = eigh(a.T.astype(np.float64) @ a.astype(np.float64), subset_by_index=(p - k, p - 1))
    directions = vectors.T[::-1]
    skew = ((a @ directions.T) ** 3).sum(axis=0)
    turned: np.ndarray = directions * np.where(skew < 0, -1.0, 1.0)[:, None]
    return turned


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; those of 0 stay.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: np.ndarray = rows / np.where(length > 0, length, 1.0)
    return scaled
