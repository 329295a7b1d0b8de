"""Counts over more data than is at hand at a time: sorted arrays that batches are merged into."""

from typing import Any, Self

import numpy as np


class Tally:
    """How often each key came, and which pairs of keys came at all, batch after batch.

    Batches wait until they are as large as what is merged already, so that the whole costs a few sorts.

    Examples
    --------
    >>> tally = Tally().add(np.array([3, 1, 3])).add(np.array([3]))
    >>> [part.tolist() for part in tally.merged()]
    [[1, 3], [1, 3]]
    """

    def __init__(self, keys: Any = None, counts: Any = None) -> None:
        self.keys = np.empty(0, np.int64) if keys is None else keys
        self.counts = np.empty(0, np.int64) if counts is None else counts
        self.waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, keys: np.ndarray, counts: np.ndarray | None = None) -> Self:
        """Count keys, int64 (n,), once each, or as often as `counts` says."""
        self.waiting.append((keys, np.ones(len(keys), np.int64) if counts is None else counts))
        if sum(len(batch) for batch, _ in self.waiting) > len(self.keys):
            self.merged()
        return self

    def merged(self) -> tuple[np.ndarray, np.ndarray]:
        """The keys, sorted, and how often each came."""
        if self.waiting:
            every = np.concatenate([self.keys, *(keys for keys, _ in self.waiting)])
            weights = np.concatenate([self.counts, *(counts for _, counts in self.waiting)])
            self.keys, place = np.unique(every, return_inverse=True)
            self.counts = np.zeros(len(self.keys), np.int64)
            np.add.at(self.counts, place.reshape(-1), weights)
            self.waiting = []
        return self.keys, self.counts


class Pairs:
    """Which pairs of a text and an image came, each once.

    >>> pairs = Pairs().add(np.array([[7, 1], [7, 1], [7, 2]]))
    >>> pairs.merged().tolist()
    [[7, 1], [7, 2]]
    """

    def __init__(self, rows: Any = None) -> None:
        self.rows = np.empty((0, 2), np.int64) if rows is None else rows
        self.waiting: list[np.ndarray] = []

    def add(self, rows: np.ndarray) -> Self:
        """Note pairs of keys, int64 (n, 2)."""
        self.waiting.append(rows)
        if sum(map(len, self.waiting)) > len(self.rows):
            self.merged()
        return self

    def merged(self) -> np.ndarray:
        """The distinct pairs, int64 (n, 2), sorted."""
        if self.waiting:
            self.rows = np.unique(np.concatenate([self.rows, *self.waiting]), axis=0)
            self.waiting = []
        return self.rows


def found(keys: np.ndarray, counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The count of each wanted key among sorted ones, 0 where it is missing: int64 like `wanted`.

    >>> found(np.array([2, 5]), np.array([10, 20]), np.array([5, 3])).tolist()
    [20, 0]
    """
    if not len(keys):
        return np.zeros(len(wanted), np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, counts[place], 0)


def most_frequent(
    keys: np.ndarray, counts: np.ndarray, *, min_count: int = 1, size: int | None = None, coverage: float | None = None
) -> np.ndarray:
    """The keys that come often, sorted: at least `min_count` times, among the `size` most frequent, and among the fewest that
    make up the share `coverage` of all occurrences. Equal counts are ordered by key.

    >>> most_frequent(np.array([1, 2, 3]), np.array([1, 8, 3]), coverage=0.9).tolist()
    [2, 3]
    """
    order = np.lexsort((keys, -counts))
    last = len(order) if size is None else min(size, len(order))
    if coverage is not None and len(order):
        last = min(last, int(np.searchsorted(np.cumsum(counts[order]), coverage * counts.sum() - 1e-9)) + 1)
    kept = order[:last]
    return np.sort(keys[kept[counts[kept] >= min_count]])
