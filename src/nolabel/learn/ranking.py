"""What the retrievers of this package share: scores of rankings by name, and checks of what is searched for."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nolabel.assess.retrieval import hit_rate, mean_average_precision, mrr, ndcg, recall_at_k
from nolabel.data.text_pairs import list_of_texts

METRICS: dict[str, Callable[..., float]] = {
    "recall": recall_at_k,
    "hit_rate": hit_rate,
    "mrr": mrr,
    "map": mean_average_precision,
    "ndcg": ndcg,
}


def parsed_metric(metric: str) -> tuple[Callable[..., float], int]:
    """The measure and the depth that a name such as ``recall@10`` or ``ndcg@10`` means.

    >>> parsed_metric("mrr@3")[1]
    3
    """
    name, _, depth = str(metric).partition("@")
    if name not in METRICS or not depth.isdecimal() or int(depth) < 1:
        raise ValueError(f"metric must be one of {', '.join(METRICS)} and a depth, such as recall@10; got {metric!r}")
    return METRICS[name], int(depth)


def ranking_score(search: Callable[[int], np.ndarray], relevant: Sequence[Any], metric: str, documents: int) -> float:
    """A measure of `nolabel.assess.retrieval`, by name, of what ``search(k)`` ranks first: ids (queries, k).

    `relevant` has one entry a query: an id, a collection of ids, or a dict from id to grade.

    >>> ranking_score(lambda k: np.array([[2, 0, 1]])[:, :k], [0], "recall@2", 3)
    1.0
    """
    measure, depth = parsed_metric(metric)
    judged = [{int(found)} if isinstance(found, int | np.integer) else found for found in relevant]
    return measure(search(min(depth, documents)), judged, depth)


def depth_within(k: Any, documents: int) -> int:
    """`k`, checked against what there is to find."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= documents:
        raise ValueError(f"k must be a whole number from 1 to {documents}, the texts of the index, got {k!r}")
    return int(k)


def texts_to_find(name: str, texts: Any) -> list[str]:
    """A list of texts, none of which is empty: what a search returns are their positions.

    >>> texts_to_find("queries", ["a cat"])
    ['a cat']
    """
    given = list_of_texts(name, texts)
    empty = [row for row, text in enumerate(given) if not text.strip()]
    if empty or not given:
        raise ValueError(f"{name}: {f'the text at position {empty[0]} is empty' if given else 'there are none'}")
    return given
