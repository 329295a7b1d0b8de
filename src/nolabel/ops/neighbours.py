"""Nearest neighbours among vectors, exact or approximate, through faiss."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal, TypeAlias, Union

import faiss
import numpy as np
from jaxtyping import Float32, Int64

if TYPE_CHECKING:
    import torch

Matrix: TypeAlias = Union[np.ndarray, "torch.Tensor"]
Metric = Literal["cosine", "euclidean", "dot"]
_TRAINING_POINTS = 39  # per inverted list; faiss asks for at least as many


def _float32(name: str, vectors: Matrix) -> np.ndarray:
    torch = sys.modules.get("torch")  # not imported, which takes seconds: where nobody has, nothing is a tensor
    if torch is not None and isinstance(vectors, torch.Tensor):
        vectors = vectors.detach().to("cpu", torch.float32).numpy()
    if not isinstance(vectors, np.ndarray):
        raise TypeError(f"{name} must be an array or a tensor, got {type(vectors).__name__}")
    if vectors.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got dtype {vectors.dtype}")
    if vectors.ndim != 2 or vectors.size == 0:
        raise ValueError(f"{name} must be a non-empty (n, d) matrix, got shape {vectors.shape}")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise ValueError(f"row {int(finite.argmin())} of {name} has non-finite values")
    return vectors


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def _without_self(scores: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop each row's own index, or its last neighbour where duplicates have pushed its own out."""
    own = indices == np.arange(len(indices))[:, None]
    own[~own.any(axis=1), -1] = True
    shape = (len(indices), indices.shape[1] - 1)
    return scores[~own].reshape(shape), indices[~own].reshape(shape)


def _search(queries: np.ndarray, keys: np.ndarray, k: int, metric: int, exact: bool) -> tuple[np.ndarray, np.ndarray]:
    flat = faiss.IndexFlat(keys.shape[1], metric)
    lists = min(int(4 * len(keys) ** 0.5), len(keys) // _TRAINING_POINTS)
    if exact or lists < 2:
        flat.add(keys)
        return flat.search(queries, k)
    index = faiss.IndexIVFFlat(flat, keys.shape[1], lists, metric)
    index.train(keys)
    index.add(keys)
    index.nprobe = max(16, lists // 16)
    scores, indices = index.search(queries, k)
    while (indices < 0).any():  # the visited lists held fewer than k keys
        short = (indices < 0).any(axis=1)
        index.nprobe = min(2 * index.nprobe, lists)
        scores[short], indices[short] = index.search(queries[short], k)
    return scores, indices


def nearest(
    queries: Matrix,
    keys: Matrix,
    k: int,
    *,
    metric: Metric = "cosine",
    exclude_self: bool = False,
    exact: bool = True,
) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
    """Return the k nearest keys of each query, best first.

    Parameters
    ----------
    queries, keys : (q, d) and (n, d) arrays or tensors, compared in float32.
    k : from 1 to n, or n - 1 with `exclude_self`.
    metric : "cosine" and "dot" give similarities, largest first; "euclidean" gives distances, smallest first. A row of
        zeros has cosine 0 with everything.
    exclude_self : row i of `queries` is row i of `keys`, and not its own neighbour.
    exact : compare every pair; otherwise look only into the inverted lists near a query, which is worth it from some
        hundred thousand keys and misses a few neighbours. Too few keys to form lists are compared exactly.

    Returns
    -------
    (q, k) float32 scores and (q, k) int64 row numbers of `keys`.

    Raises
    ------
    ValueError
        k out of range, widths that differ, an empty matrix, a row with NaN or infinity, an unknown metric.
    TypeError
        Something other than real-valued arrays or tensors.

    References
    ----------
    Johnson et al. 2017, arXiv:1702.08734.

    Examples
    --------
    >>> import numpy as np
    >>> keys = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> scores, indices = nearest(np.array([[2.0, 0.1]]), keys, 2)
    >>> indices.tolist()
    [[0, 2]]
    """
    if metric not in ("cosine", "euclidean", "dot"):
        raise ValueError(f"metric must be 'cosine', 'euclidean' or 'dot', got {metric!r}")
    q, x = _float32("queries", queries), _float32("keys", keys)
    if q.shape[1] != x.shape[1]:
        raise ValueError(f"queries and keys must have one width, got {q.shape[1]} and {x.shape[1]}")
    if exclude_self and len(q) != len(x):
        raise ValueError(f"exclude_self needs queries and keys to be the same rows, got {len(q)} and {len(x)}")
    if not 1 <= k <= len(x) - exclude_self:
        raise ValueError(f"k must be from 1 to {len(x) - exclude_self}, the keys to choose from, got {k}")
    if metric == "cosine":
        q, x = _unit(q), _unit(x)
    elif metric == "euclidean":
        # faiss expands the square: taking off the mean keeps digits when all vectors lie far from the origin.
        mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
        q, x = q - mean, x - mean
    kind = faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
    scores, indices = _search(q, x, k + exclude_self, kind, exact)
    if metric == "euclidean":
        scores = np.sqrt(scores.clip(min=0))
    return _without_self(scores, indices) if exclude_self else (scores, indices)
