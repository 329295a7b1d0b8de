"""What all recommenders share: the ids, what each user has seen, the best of the rest, and how good it is."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nolabel.assess.inputs import as_count
from nolabel.assess.retrieval import mean_average_precision, ndcg, recall_at_k
from nolabel.data.interactions import Identifiers, Interactions, as_ids, read_interactions
from nolabel.training.estimator import Estimator

#: Users whose scores are held at once.
TOGETHER = 1024


class Recommender(Estimator):
    """Base of recommenders. A subclass has a `fit` that calls `keep`, and `scores_of`.

    Attributes
    ----------
    user_ids_, item_ids_ : ids in the order of their numbers
    item_counts_ : int64 (items,), training interactions of each item
    seen_items_, seen_offsets_ : items of each user, and where they begin: they are not recommended again
    """

    user_ids_: Any
    item_ids_: Any
    item_counts_: np.ndarray
    seen_items_: np.ndarray
    seen_offsets_: np.ndarray

    def scores_of(self, users: np.ndarray) -> np.ndarray:
        """Scores (n, items) of all items for the users of these numbers; higher is better."""
        raise NotImplementedError(f"{type(self).__name__} must define scores_of(users)")

    def keep(self, log: Interactions) -> None:
        """Remember the ids of a log, how often items come in it, and what each user has seen."""
        self.user_ids_, self.item_ids_ = _storable(log.user_ids.values), _storable(log.item_ids.values)
        self.item_counts_ = log.item_counts
        self.seen_items_, self.seen_offsets_ = log.by_user()

    def add_seen(self, interactions: Any, *, columns: dict[str, str] | None = None) -> None:
        """Further interactions whose items are not recommended again; nothing is learned from them.

        Raises
        ------
        ValueError : ids that were not there in training
        """
        self.require_fitted()
        log = self.numbered(interactions, columns)
        users = np.repeat(np.arange(len(self.user_ids_)), np.diff(self.seen_offsets_))
        users, items = np.concatenate([users, log.users]), np.concatenate([self.seen_items_, log.items])
        pairs = np.unique(users * len(self.item_ids_) + items)
        users, self.seen_items_ = np.divmod(pairs, len(self.item_ids_))
        counts = np.bincount(users, minlength=len(self.user_ids_))
        self.seen_offsets_ = np.concatenate([[0], counts.cumsum()])

    def recommend(self, query_ids: Any, k: int = 10, *, exclude_seen: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """The k items with the highest scores for each user, best first.

        Parameters
        ----------
        query_ids : n ids of users; 17 and "17" are one id
        exclude_seen : leave out what the user took in training

        Returns
        -------
        ids of items (n, k), scores (n, k); fewer than k, with a warning, where a user has not so many left

        Raises
        ------
        KeyError : an unknown user
        """
        found, scores = self.ranked(self.numbers_of(query_ids), k, exclude_seen=exclude_seen)
        return self._cut(found, scores, k)

    def numbers_of(self, query_ids: Any) -> np.ndarray:
        """The number of each user."""
        self.require_fitted()
        ids = as_ids([query_ids] if isinstance(query_ids, str | int) else query_ids)
        codes = self._identifiers("user_ids_").codes(ids)
        unknown = [str(name) for name in ids[codes < 0]]
        if unknown:
            raise KeyError(
                f"query_ids: {len(unknown)} of {len(ids)} users were not there in training, such as {', '.join(unknown[:5])}"
            )
        return codes

    def ranked(self, users: np.ndarray, k: int, *, exclude_seen: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (n, k) of the best items for users of these numbers, and their scores; -1 and -inf where none is left."""
        self.require_fitted()
        as_count(k, "k")
        return best(self.scores_of, users, k, (self.seen_items_, self.seen_offsets_) if exclude_seen else None)

    def _cut(self, found: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids for numbers, as many as every user has."""
        left = int((found >= 0).sum(axis=1).min()) if len(found) else 0
        if left < k and len(found):
            warnings.warn(
                f"k={k}: a user has only {left} items left that are not seen yet; so many are given", stacklevel=3
            )
        return np.asarray(self.item_ids_, dtype=_kind(self.item_ids_))[found[:, :left]], scores[:, :left]

    def score(self, test_interactions: Any, k: int = 50, *, columns: dict[str, str] | None = None) -> float:
        """Recall@k: the share of a user's test items among the k recommended, as a mean over the users.

        Raises
        ------
        ValueError : users or items that were not there in training, or no test item that was not seen
        """
        return self.evaluate(test_interactions, [k], columns=columns)[f"recall@{k}"]

    def evaluate(
        self,
        test_interactions: Any,
        depths: Sequence[int] = (10,),
        *,
        items: np.ndarray | None = None,
        columns: dict[str, str] | None = None,
    ) -> dict[str, float]:
        """Recall, nDCG and mean average precision at some depths; test items seen in training do not count.

        Parameters
        ----------
        items : bool (items,); look only at test interactions with these, such as rare ones. All items are ranked all the same

        Returns
        -------
        ``{"recall@10": ..., "ndcg@10": ..., "map@10": ..., "users": how many were asked, "interactions": how many counted}``
        """
        self.require_fitted()
        log = self.numbered(test_interactions, columns)
        seen = np.repeat(np.arange(len(self.user_ids_)), np.diff(self.seen_offsets_)) * len(self.item_ids_)
        counts = ~np.isin(log.users * len(self.item_ids_) + log.items, seen + self.seen_items_)
        if items is not None:
            counts &= items[log.items]
        if not counts.any():
            raise ValueError("test_interactions: none is left that a recommendation could have hit")
        tested, offsets = log.take(np.flatnonzero(counts)).by_user()
        users = np.flatnonzero(np.diff(offsets))
        relevant = [set(tested[offsets[user] : offsets[user + 1]].tolist()) for user in users]
        found, _ = self.ranked(users, max(depths))
        lists = [[item for item in row if item >= 0] for row in found.tolist()]
        result: dict[str, float] = {}
        for k in depths:
            result |= {
                f"recall@{k}": recall_at_k(lists, relevant, k),
                f"ndcg@{k}": ndcg(lists, relevant, k),
                f"map@{k}": mean_average_precision(lists, relevant, k),
            }
        return result | {"users": len(users), "interactions": int(counts.sum())}

    def numbered(self, interactions: Any, columns: dict[str, str] | None = None) -> Interactions:
        """Interactions under the numbers of this recommender's users and items."""
        log = read_interactions(interactions, columns=columns)
        return log.numbered(self._identifiers("user_ids_"), self._identifiers("item_ids_"))

    def _identifiers(self, name: str) -> Identifiers:
        """The numbers of ids, made once."""
        values = getattr(self, name)
        made = self.__dict__.setdefault("_made", {})
        if made.get(name, (None, None))[0] is not values:
            made[name] = (values, Identifiers(values))
        found: Identifiers = made[name][1]
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_made"}


def best(
    scores_of: Any, users: np.ndarray, k: int, seen: tuple[np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """The k highest-scored items (n, k) of users, and their scores, what they have seen left out.

    Parameters
    ----------
    scores_of : from numbers of users (m,) to scores (m, items)
    seen : items of each user, and where a user's begin: (s,) and (users + 1,); None leaves nothing out

    >>> scores = np.array([[3.0, 1.0, 2.0]])
    >>> best(lambda users: scores[users], np.array([0]), 2, (np.array([0]), np.array([0, 1])))[0].tolist()
    [[2, 1]]
    """
    parts = []
    for start in range(0, len(users), TOGETHER):
        some = users[start : start + TOGETHER]
        scores = torch.from_numpy(np.array(scores_of(some), np.float32))  # a copy, to be written on
        if seen is not None:
            counts = seen[1][some + 1] - seen[1][some]
            inner = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
            hidden = seen[0][np.repeat(seen[1][some], counts) + inner]
            scores[np.repeat(np.arange(len(some)), counts), hidden] = -torch.inf
        high, found = scores.topk(min(k, scores.shape[1]), dim=1)
        parts.append((found.masked_fill(high == -torch.inf, -1).numpy(), high.numpy()))
    if not parts:
        return np.zeros((0, k), np.int64), np.zeros((0, k), np.float32)
    return np.concatenate([found for found, _ in parts]), np.concatenate([high for _, high in parts])


def _storable(values: np.ndarray) -> Any:
    """Ids in a form that can be saved: whole numbers as an array, texts as a list."""
    return values if values.dtype.kind == "i" else [str(value) for value in values]


def _kind(ids: Any) -> Any:
    return ids.dtype if isinstance(ids, np.ndarray) else object
