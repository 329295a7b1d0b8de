"""Scores of ranked lists: recall, hit rate, mean reciprocal rank, mean average precision and nDCG.

Every function takes `ranked`, one list of ids a query, best first, and `relevant`, one collection a query: a set or
list of ids, or a dict from id to grade (graded relevance; only nDCG uses the grade, an id of grade 0 is not relevant).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from nolabel.assess.inputs import as_count

Ranked = Sequence[Sequence[Hashable]]
Relevant = Sequence[Collection[Hashable] | Mapping[Hashable, float]]


def recall_at_k(ranked: Ranked, relevant: Relevant, k: int) -> float:
    """Mean share of a query's relevant ids that are in its first k.

    Raises
    ------
    ValueError
        Different numbers of queries, none, an id ranked twice, a query without relevant ids, negative grades, k below
        1.

    >>> recall_at_k([[3, 1, 2]], [{1, 9}], k=2)
    0.5
    """
    as_count(k, "k")
    return _mean(ranked, relevant, lambda gains, ideal: np.count_nonzero(gains[:k]) / len(ideal))


def hit_rate(ranked: Ranked, relevant: Relevant, k: int) -> float:
    """Share of queries with at least one relevant id in the first k: R@k of cross-modal retrieval, top-k of passages.

    Errors are those of `recall_at_k`.

    >>> hit_rate([[3, 1, 2], [1, 2, 3]], [{1, 9}, {7}], k=2)
    0.5
    """
    as_count(k, "k")
    return _mean(ranked, relevant, lambda gains, ideal: float(gains[:k].any()))


def mrr(ranked: Ranked, relevant: Relevant, k: int | None = None) -> float:
    """Mean of 1 / rank of the first relevant id within the first k (all by default); 0 where there is none.

    Errors are those of `recall_at_k`.

    >>> mrr([[3, 1, 2], [1, 2, 3]], [{1}, {1}])
    0.75
    """
    depth = None if k is None else as_count(k, "k")

    def reciprocal(gains: np.ndarray, ideal: np.ndarray) -> float:
        hits = np.flatnonzero(gains[:depth])
        return float(1 / (hits[0] + 1)) if len(hits) else 0.0

    return _mean(ranked, relevant, reciprocal)


def mean_average_precision(ranked: Ranked, relevant: Relevant, k: int | None = None) -> float:
    """Mean over queries of the precision at the rank of each relevant id; relevant ids that are not ranked count 0.

    With `k` only the first k ranks count, out of as many relevant ids as fit there (mAP@k).
    Errors are those of `recall_at_k`.

    >>> mean_average_precision([[1, 5, 2]], [{1, 2}])  # (1/1 + 2/3) / 2
    0.8333333333333333
    >>> mean_average_precision([[1, 5, 2]], [{1, 2}], k=1)
    1.0
    """
    depth = None if k is None else as_count(k, "k")

    def precision(gains: np.ndarray, ideal: np.ndarray) -> float:
        ranks = np.flatnonzero(gains[:depth]) + 1
        return float((np.arange(1, len(ranks) + 1) / ranks).sum() / len(ideal[:depth]))

    return _mean(ranked, relevant, precision)


def ndcg(ranked: Ranked, relevant: Relevant, k: int | None = 10) -> float:
    """Mean discounted cumulative gain of the first k, over the best that the query's relevant ids allow.

    Gain is the grade (linear), discount is log2(rank + 1), as in trec_eval; `k=None` scores the whole list.
    Errors are those of `recall_at_k`.

    References
    ----------
    Järvelin and Kekäläinen 2002.

    >>> ndcg([["x", "a"]], [{"a": 2.0}])  # (2 / log2 3) / (2 / log2 2)
    0.6309297535714575
    """
    depth = None if k is None else as_count(k, "k")
    return _mean(ranked, relevant, lambda gains, ideal: float(_dcg(gains[:depth]) / _dcg(ideal[:depth])))


def _dcg(gains: np.ndarray) -> float:
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())


def _mean(ranked: Ranked, relevant: Relevant, score: Callable[[np.ndarray, np.ndarray], float]) -> float:
    """Mean over queries of `score(grades in ranked order, grades of the relevant ids from high to low)`."""
    if len(ranked) != len(relevant) or len(ranked) == 0:
        text = f"one list a query was expected in both, got {len(ranked)} and {len(relevant)}"
        raise ValueError(f"ranked and relevant: {text}")
    scores = []
    for query, (ids, judged) in enumerate(zip(map(_plain, ranked), relevant, strict=True)):
        grades = dict(judged) if isinstance(judged, Mapping) else dict.fromkeys(_plain(judged), 1.0)
        if any(not grade >= 0 for grade in grades.values()):
            raise ValueError(f"relevant: query {query} has a grade that is not 0 or more")
        ideal = np.sort([grade for grade in grades.values() if grade > 0])[::-1]
        if len(ideal) == 0:
            raise ValueError(f"relevant: query {query} has no relevant id, so no score is defined for it")
        if len(set(ids)) < len(ids):
            raise ValueError(f"ranked: query {query} has an id more than once")
        scores.append(score(np.array([grades.get(name, 0.0) for name in ids]), ideal))
    return float(np.mean(scores))


def _plain(ids: Any) -> list[Hashable]:
    """Python values, so that ids in an array or tensor compare with those in a set."""
    return ids.tolist() if hasattr(ids, "tolist") else list(ids)
