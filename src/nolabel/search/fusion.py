"""One ranking out of several, each made in its own way: by ranks or by standardised scores.

`rrf`, reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009): the sum over lists of 1 / (60 + rank), rank
from 1. A row that a list lacks gets nothing from it. Scores of the lists need not be comparable and do not count.

`zscore`: the sum over lists of (score - mean) / standard deviation, both of that list. A row that a list lacks scored at
most what its last row did, so it gets that row's value; in a list whose scores are all the same, which says only who is
in it, rows get 0 and the others -1. A list without rows says nothing and counts for nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int64

from nolabel.search.funnel import whole

METHODS = ("rrf", "zscore")
RANK_OFFSET = 60  # Cormack et al.: found in a pilot, and not critical


def fuse(
    lists: Mapping[str, tuple[Int64[np.ndarray, " m"], Float64[np.ndarray, " m"]]], k: int, method: str = "zscore"
) -> tuple[Int64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """Ids and fused scores of the k best rows of all lists together, best first, ties by id.

    Parameters
    ----------
    lists
        For each name ids and scores (larger is better), best first, of any length.
    method
        `rrf` or `zscore`, as above.

    Examples
    --------
    >>> dense = np.array([7, 3, 5]), np.array([0.9, 0.8, 0.1])
    >>> words = np.array([3, 9]), np.array([12.0, 4.0])
    >>> ids, scores = fuse({"dense": dense, "bm25": words}, k=3, method="rrf")
    >>> ids.tolist(), (scores * 1000).round(2).tolist()  # 1/62 + 1/61, then 1/61, 1/62
    ([3, 7, 9], [32.52, 16.39, 16.13])
    """
    if method not in METHODS:
        raise ValueError(f"fusion: expected one of {', '.join(METHODS)}, got {method!r}")
    whole("k", k, 1)
    for name, (ids, scores) in lists.items():
        if len(ids) != len(scores) or len(np.unique(ids)) < len(ids):
            raise ValueError(f"lists: {name!r}: expected a score for each id and no id twice")
        if np.isnan(scores).any():
            raise ValueError(f"lists: {name!r} holds NaN")
        if len(scores) and (np.diff(scores) > 0).any():
            raise ValueError(f"lists: {name!r}: expected the largest score first")
    every = np.unique(np.concatenate([ids for ids, _ in lists.values()])) if lists else np.empty(0, np.int64)
    total = np.zeros(len(every))
    for ids, scores in lists.values():
        if len(ids):
            own, lacking = _ranks(scores) if method == "rrf" else _standardised(scores)
            worth = np.full(len(every), lacking)
            worth[np.searchsorted(every, ids)] = own
            total += worth
    best = np.lexsort((every, -total))[:k]
    return every[best], total[best]


def _ranks(scores: np.ndarray) -> tuple[Float64[np.ndarray, " m"], float]:
    """What each rank is worth, and what a row that is not in the list gets."""
    return 1 / (RANK_OFFSET + np.arange(1.0, len(scores) + 1)), 0.0


def _standardised(scores: np.ndarray) -> tuple[Float64[np.ndarray, " m"], float]:
    scores = scores.astype(np.float64)
    spread = scores.std()
    if spread <= 1e-12 * np.abs(scores).max():
        return np.zeros(len(scores)), -1.0
    own = (scores - scores.mean()) / spread
    return own, float(own[-1])
