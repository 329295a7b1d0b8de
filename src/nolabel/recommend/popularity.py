"""Recommend to everybody what most took: what a recommender has to beat."""

from typing import Any, Self

import numpy as np

from nolabel.data.interactions import Identifiers, read_interactions
from nolabel.recommend.features import side_table
from nolabel.recommend.recommender import Recommender


class Popularity(Recommender):
    """Items by how many users took them, without those that the user has; nothing is personal about it.

    Use it as the baseline of every other recommender.

    Examples
    --------
    >>> log = {"user": [1, 1, 2, 2, 3], "item": ["a", "b", "a", "c", "a"]}
    >>> Popularity().fit(log).recommend([3], k=1)[1].tolist()
    [[1.0]]
    """

    columns = ("user", "item")

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        queries: Any = None,
        items: Any = None,
        columns: dict[str, str] | None = None,
    ) -> Self:
        """Count.

        Parameters
        ----------
        X : interactions, a row each, with the columns ``user`` and ``item``
        y : ignored
        queries, items : tables of all users and items, with the column ``user`` or ``item``; only their ids count
        columns : ``{"user": "user_id"}`` where a column has another name
        """
        log = read_interactions(X, columns=columns)
        users = (
            log.user_ids if queries is None else Identifiers(side_table(queries, "user", columns)["user"][:], "user")
        )
        known = log.item_ids if items is None else Identifiers(side_table(items, "item", columns)["item"][:], "item")
        self.keep(log.numbered(users, known))
        return self

    def scores_of(self, users: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self.item_counts_.astype(np.float32), (len(users), len(self.item_counts_)))
