"""Nearest neighbours among vectors, exact or approximate, through faiss."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias, Union

import faiss
import numpy as np
from jaxtyping import Float32, Int64

from nolabel.ops.finite import finite_rows

if TYPE_CHECKING:
    import torch

Matrix: TypeAlias = Union[np.ndarray, "torch.Tensor"]
Metric = Literal["cosine", "euclidean", "dot"]
_TRAINING_POINTS = 39  # per inverted list; faiss asks for at least as many
_BLOCK_ROWS = 65_536  # of keys that are prepared and compared at once


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
    finite = finite_rows(vectors)
    if not finite.all():
        raise ValueError(f"row {int(finite.argmin())} of {name} has non-finite values")
    return vectors


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    if np.allclose(length, 1, rtol=0, atol=1e-6):  # as embeddings often come
        return vectors
    return vectors / np.where(length > 0, length, 1)[:, None]


def _without_self(scores: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop each row's own index, or its last neighbour where duplicates have pushed its own out."""
    own = indices == np.arange(len(indices))[:, None]
    own[~own.any(axis=1), -1] = True
    shape = (len(indices), indices.shape[1] - 1)
    return scores[~own].reshape(shape), indices[~own].reshape(shape)


def _compare(
    queries: np.ndarray, keys: np.ndarray, k: int, metric: int, prepare: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Every pair, one block of keys after the other, so that prepared keys are never all in memory."""
    scores = np.empty((len(queries), 0), np.float32)
    indices = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(keys), _BLOCK_ROWS):
        block = prepare(keys[start : start + _BLOCK_ROWS])
        near, rows = faiss.knn(queries, block, min(k, len(block)), metric=metric)
        scores, indices = np.concatenate([scores, near], axis=1), np.concatenate([indices, start + rows], axis=1)
        order = np.argsort(scores if metric == faiss.METRIC_L2 else -scores, axis=1, kind="stable")[:, :k]
        scores, indices = np.take_along_axis(scores, order, axis=1), np.take_along_axis(indices, order, axis=1)
    return scores, indices


def _probe(queries: np.ndarray, keys: np.ndarray, k: int, metric: int, lists: int) -> tuple[np.ndarray, np.ndarray]:
    """Only the pairs that share an inverted list near the query."""
    flat = faiss.IndexFlat(keys.shape[1], metric)
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
    prepare: Callable[[np.ndarray], np.ndarray] = np.asarray
    if metric == "cosine":
        prepare = _unit
    elif metric == "euclidean":
        # faiss expands the square: taking off the mean keeps digits when all vectors lie far from the origin.
        mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
        prepare = partial(np.subtract, mean)  # of both sides, so that the sign does not matter
    kind = faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
    lists = min(int(4 * len(x) ** 0.5), len(x) // _TRAINING_POINTS)
    if exact or lists < 2:
        scores, indices = _compare(prepare(q), x, k + exclude_self, kind, prepare)
    else:
        scores, indices = _probe(prepare(q), prepare(x), k + exclude_self, kind, lists)
    if metric == "euclidean":
        scores = np.sqrt(scores.clip(min=0))
    return _without_self(scores, indices) if exclude_self else (scores, indices)
