"""How much two categorical columns tell of one another.

    MI(V, W) = sum over a, b of P(a, b) log( P(a, b) / (P(a) P(b)) )      nats, from counts

grows with the number of distinct values even where the columns have nothing to do with one another, and most for columns
in which nearly every value is its own. `adjusted_information` therefore takes away what shuffled columns still share, and
divides by what there is to share.
"""

from typing import Any

import numpy as np


def _codes(columns: Any) -> np.ndarray:
    columns = np.asarray(columns)
    if columns.ndim != 2 or columns.shape[0] < 1 or columns.shape[1] < 1:
        raise ValueError(f"columns must be (n, k) with at least one row and column, got shape {columns.shape}")
    return np.stack([np.unique(column, return_inverse=True)[1].reshape(-1) for column in columns.T])  # (k, n)


def _entropy(codes: np.ndarray) -> float:
    shares = np.unique(codes, return_counts=True)[1] / len(codes)
    return float(-(shares * np.log(shares)).sum())


def _information(first: np.ndarray, second: np.ndarray) -> float:
    joint = first.astype(np.int64) * (int(second.max()) + 1) + second
    return max(_entropy(first) + _entropy(second) - _entropy(joint), 0.0)


def mutual_information(columns: Any) -> np.ndarray:
    """Mutual information (k, k), in nats, of each pair of k columns; the diagonal holds their entropies.

    Parameters
    ----------
    columns : (n, k) values that can be compared, such as codes

    >>> mutual_information(np.array([[0, 0], [0, 0], [1, 1], [1, 1]])).round(4).tolist()  # log 2
    [[0.6931, 0.6931], [0.6931, 0.6931]]
    """
    codes = _codes(columns)
    k = len(codes)
    found = np.empty((k, k))
    for i in range(k):
        for j in range(i, k):
            found[i, j] = found[j, i] = _information(codes[i], codes[j])
    return found


def adjusted_information(columns: Any, rng: np.random.Generator, *, shuffles: int = 5) -> np.ndarray:
    """Mutual information (k, k) beyond chance, as a share of what there is to share: near 0 for unrelated columns, at most 1.

    ``(MI - chance) / (sqrt(H_i H_j) - chance)`` and not below 0, where `chance` is the mean information of the pair when one
    of the two is shuffled. A column that is constant, or in which every value is its own, shares nothing beyond chance.

    Parameters
    ----------
    columns : (n, k) values that can be compared
    rng : for the shuffles
    shuffles : of each pair, at least 1

    >>> rows = np.array([[0, 0, 0], [0, 0, 1], [1, 1, 2], [1, 1, 3]])  # the last: every value its own
    >>> adjusted_information(rows, np.random.default_rng(0))[0].round(2).tolist()
    [1.0, 1.0, 0.0]
    """
    if shuffles < 1:
        raise ValueError(f"shuffles must be at least 1, got {shuffles}")
    codes = _codes(columns)
    raw = mutual_information(columns)
    k, entropies = len(codes), np.diag(raw)
    found = np.eye(k)
    for i in range(k):
        for j in range(i + 1, k):
            chance = float(np.mean([_information(codes[i], rng.permutation(codes[j])) for _ in range(shuffles)]))
            room = float(np.sqrt(entropies[i] * entropies[j])) - chance
            shared = (raw[i, j] - chance) / room if room > 1e-9 else 0.0
            found[i, j] = found[j, i] = min(max(shared, 0.0), 1.0)
    return found
