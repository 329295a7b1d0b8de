"""Two towers with self-supervised items: recommend from logs in which most items are rare.

A query tower and an item tower turn features into unit vectors q and x; s is their cosine, p(x) the share of an item in the
log. For a batch of N interactions and M items from the catalogue,

    main = -1/N sum_i log( exp(s(q_i, x_i) / tau - log p(x_i)) / sum_j exp(s(q_i, x_j) / tau - log p(x_j)) )
    ssl  = -1/M sum_i log( exp(s(z_i, z'_i) / tau)             / sum_j exp(s(z_i, z'_j) / tau) )
    loss = main + w ssl,

where z and z' are two views of an item, through the same item tower: complementary sets of features hidden behind learned
defaults, and values of features with several dropped. The sets are drawn once a batch: at random (RFM), or a feature together
with those that share most information with it (CFM). Items for `ssl` come evenly from the catalogue, not from the log, so
that rare ones have their share. An item that comes twice is no negative of itself.

Yao, Yi, Cheng, Yu, Chen, Menon, Hong, Chi, Tjoa, Kang & Ettinger, "Self-supervised learning for large-scale item
recommendations", CIKM 2021, arXiv:2007.12865. Differences: the correction by log p (Yi et al., RecSys 2019), without which a
small catalogue loses its head; other items of the same user in the batch are no negatives; information is taken beyond
chance and relative to the entropies, and features in which most values are unique belong to no group, since they determine
all others.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from nolabel.data.categories import FeatureTable, kinds_of
from nolabel.data.interactions import ITEM, USER, Identifiers, InteractionSource, read_interactions
from nolabel.data.parts import Parts
from nolabel.objectives.in_batch import false_negatives, in_batch_softmax
from nolabel.ops.mutual_information import adjusted_information, mutual_information
from nolabel.recommend.features import moments, side_table, tower
from nolabel.recommend.recommender import Recommender
from nolabel.training import Learner, Training
from nolabel.training.batches import Rows, cycled, shuffled
from nolabel.training.row_adam import row_adam
from nolabel.views.features import correlated_mask, drop_values, random_mask

SSL = (None, "cfm", "rfm", "spread")
#: Share of unique values from which a feature says which item it is.
UNIQUE = 0.5
#: Of Adam, in gradients of one interaction.
EPSILON = 0.5
#: Rows on which the information of features is measured.
MEASURED = 20_000


class TwoTowerRecommender(Recommender, Learner):
    """Recommend items to users from a log of who took what and tables that describe both; also items that nobody took yet.

    Use it where items come with features and most are rare, or where new ones come in all the time. With ids alone, or where
    every item has many interactions, factorisation (ALS) is as good or better. Compare with `Popularity`.

    Parameters
    ----------
    query_features, item_features : columns of the tables of users and items: names, or a dict from name to ``category`` or
        ``number``; ``None`` is all columns. Lists are features of several values
    dim : width of the vectors; 128 in the paper
    hidden : widths of the hidden layers of both towers; (1024,) in the paper
    embedding_dim : width of the embedding of each category
    rows : rows of one hashed table for the categories of each tower (see `UnifiedEmbedding`); ``None``: one for each value
    temperature : tau
    ssl : ``cfm``, ``rfm``, ``spread`` (both views whole) or ``None``
    ssl_weight : w; of 0.1, 0.3 and 1 the smallest did best on MovieLens-100k
    value_dropout : probability of dropping each value of features with several
    ssl_sampling : ``uniform``: from the catalogue; ``log``: as often as in the log
    companions : features that ``cfm`` hides with the one it draws; ``None`` is half of them
    log_q : whether scores are corrected by log p
    training : how long and on what to train; ``batch_size`` counts interactions, and as many items for `ssl`

    Attributes
    ----------
    query_vectors_, item_vectors_ : unit vectors of all users and items (n, dim)
    feature_mi_ : (k, k) mutual information of the item features, in nats
    feature_information_ : (k, k) the same beyond chance, relative to the entropies; NaN for features that are nearly unique
    user_ids_, item_ids_, item_counts_ : ids in the order of the vectors, training interactions of each item

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> taste, kind = np.arange(60) % 2, np.arange(40) % 2
    >>> log = [(u, i) for u in range(60) for i in rng.choice(np.flatnonzero(kind == taste[u]), 8, replace=False)]
    >>> items = {"item": np.arange(40), "kind": kind, "odd": kind * 3, "shelf": np.arange(40) % 5}
    >>> model = TwoTowerRecommender(training=Training(epochs=10, batch_size=64))
    >>> ids, scores = model.fit({"user": [u for u, _ in log], "item": [i for _, i in log]}, items=items).recommend([0, 1], k=5)
    >>> ids.shape, model.transform_items({"item": [99], "kind": [1], "odd": [3], "shelf": [2]}).shape  # a new item
    ((2, 5), (1, 32))
    """

    columns = (USER, ITEM)
    parts = ("catalogue", "log")  # the health report looks at the first: the items
    recipe = {"optimiser": "adam", "lr": 1e-2, "weight_decay": 0.0, "batch_size": 512, "epochs": 12}  # noqa: RUF012

    query_columns_: dict[str, str]
    item_columns_: dict[str, str]
    query_vocabulary_: dict[str, np.ndarray]
    item_vocabulary_: dict[str, np.ndarray]
    query_moments_: np.ndarray
    item_moments_: np.ndarray
    feature_mi_: np.ndarray
    feature_information_: np.ndarray
    query_vectors_: np.ndarray
    item_vectors_: np.ndarray

    def __init__(
        self,
        query_features: Sequence[str] | Mapping[str, str] | None = None,
        item_features: Sequence[str] | Mapping[str, str] | None = None,
        *,
        dim: int = 32,
        hidden: Sequence[int] = (64,),
        embedding_dim: int = 16,
        rows: int | None = None,
        temperature: float = 0.1,
        ssl: str | None = "cfm",
        ssl_weight: float = 0.1,
        value_dropout: float = 0.3,
        ssl_sampling: str = "uniform",
        companions: int | None = None,
        log_q: bool = True,
        training: Training | None = None,
    ) -> None:
        self.query_features = query_features
        self.item_features = item_features
        self.dim = dim
        self.hidden = hidden
        self.embedding_dim = embedding_dim
        self.rows = rows
        self.temperature = temperature
        self.ssl = ssl
        self.ssl_weight = ssl_weight
        self.value_dropout = value_dropout
        self.ssl_sampling = ssl_sampling
        self.companions = companions
        self.log_q = log_q
        self.training = training

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        queries: Any = None,
        items: Any = None,
        columns: dict[str, str] | None = None,
        run: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> Self:
        """Learn from interactions.

        Parameters
        ----------
        X : interactions, a row each, with the columns ``user`` and ``item``: all of them count, whatever their rating
        y : ignored
        queries, items : tables of all users and items, with the column ``user`` or ``item`` and features; without them the
            ids are the only features
        columns : ``{"user": "user_id"}`` where a column has another name, in any of the three
        run, resume : as in `Learner.fit`

        Raises
        ------
        ValueError : ids that a table lacks or has twice, no interactions, all of one item, too few item features for `ssl`,
            parameters out of range
        """
        source = self.opened(X, queries, items, columns)
        self._forget()
        return self.fit_source(source, run=run, resume=resume)

    def opened(self, X: Any, queries: Any, items: Any, columns: dict[str, str] | None = None) -> Parts:
        """What `fit` learns from: the interactions with the features of both sides, and the catalogue."""
        self._check()
        log = read_interactions(X, columns=columns)
        if len(np.unique(log.items)) < 2:
            raise ValueError(f"interactions: all {len(log)} are with one item, at least 2 were expected")
        users, user_ids = self._side(queries, log.user_ids, USER, self.query_features, columns)
        known, item_ids = self._side(items, log.item_ids, ITEM, self.item_features, columns)
        least = {"cfm": 3, "rfm": 2}.get(self.ssl or "", 1)
        if len(known.kinds) < least:
            names = ", ".join(known.kinds)
            raise ValueError(
                f"ssl={self.ssl!r} hides some item features and shows others, for which it needs at least {least}, got "
                f"{len(known.kinds)} ({names}): give items=... with features, or ssl=None"
            )
        pairs = InteractionSource(log.numbered(user_ids, item_ids), users, known)
        return Parts({"log": pairs, "catalogue": known})

    def _side(
        self, data: Any, ids: Identifiers, name: str, features: Any, columns: dict[str, str] | None
    ) -> tuple[FeatureTable, Identifiers]:
        """Features and ids of users or items."""
        table = side_table({name: ids.values.tolist()} if data is None else data, name, columns)
        if data is not None:
            ids = Identifiers(table[name][:], name)
        return FeatureTable(table, kinds_of(table, features)), ids

    def prepare(self, source: Parts, folder: os.PathLike[str] | None) -> None:
        log = source.parts["log"]
        self.query_columns_, self.item_columns_ = log.queries.kinds, log.items.kinds
        self.query_vocabulary_, self.item_vocabulary_ = log.queries.vocabularies(), log.items.vocabularies()
        self.query_moments_, self.item_moments_ = (np.stack(moments(side)) for side in (log.queries, log.items))
        self.keep(log.log)
        rng = np.random.default_rng([self.training_.random_state % 2**32, 11])
        codes = log.items.codes()
        codes = codes[rng.permutation(len(codes))[:MEASURED]]
        self.feature_mi_ = mutual_information(codes)
        self.feature_information_ = adjusted_information(codes, rng)
        unique = np.array([len(np.unique(column)) > UNIQUE * len(codes) for column in codes.T])
        self.feature_information_[unique], self.feature_information_[:, unique] = np.nan, np.nan

    def plan(self, source: Parts, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        """Interactions in random order, and beside each batch of them as many items, each once before any comes again."""
        log, catalogue = source.parts["log"], source.parts["catalogue"]
        batches = shuffled(len(log), batch_size, rng)
        if self.ssl is None:
            return [{"log": rows, "catalogue": rows[:0]} for rows in batches]
        size = min(batch_size, len(catalogue))
        whole = log.log.items if self.ssl_sampling == "log" else np.arange(len(catalogue))
        drawn = whole[cycled(len(whole), max(len(batches), 1) * size, rng)]
        return [{"log": rows, "catalogue": drawn[i * size : (i + 1) * size]} for i, rows in enumerate(batches)]

    def build(self, example: dict[str, Any]) -> nn.Module:
        net: Any = nn.Module()
        made: dict[str, Any] = {"rows": self.rows, "embedding_dim": self.embedding_dim}
        made |= {"hidden": tuple(self.hidden), "dim": self.dim}
        net.query = tower(self.query_vocabulary_, *self.query_moments_, **made)
        net.item = tower(self.item_vocabulary_, *self.item_moments_, **made)
        shares = self.item_counts_ / self.item_counts_.sum()
        net.register_buffer("log_q", torch.from_numpy(np.log(np.maximum(shares, 1e-12))).float())
        return net

    def optimisers(self, net: nn.Module, settings: Training) -> dict[str, Any]:
        """Adam on the rows that a step sees: a table of embeddings neither decays nor drifts where nobody looks.

        Adam divides by the size of past gradients. A rare item has nearly all of its own from `ssl`, and would move as far for
        it whatever its weight: an epsilon as large as the gradient of one interaction lets the weight count.
        """
        made = row_adam(net, settings)
        made["main"].param_groups[0]["epsilon"] = EPSILON / (settings.batch_size or 1)
        return made

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
        """The interactions as they are; two views of the items from the catalogue, and which features each hides."""
        items = batch["catalogue"]
        if self.ssl is None:
            return {"log": batch["log"], "items": []}
        hidden = None
        if self.ssl == "rfm":
            hidden = random_mask(len(self.item_columns_), generator)
        elif self.ssl == "cfm":
            information = torch.from_numpy(self.feature_information_).float()
            hidden = correlated_mask(information, generator, companions=self.companions)
        if hidden is None:
            return {"log": batch["log"], "items": [(items, None), (items, None)]}
        hidden = hidden[self._categories_first(hidden.device)]
        first, second = (self._dropped(items, generator) for _ in range(2))
        return {"log": batch["log"], "items": [(first, hidden), (second, ~hidden)]}

    def _categories_first(self, device: torch.device) -> Tensor:
        """Places of the item features in the order in which the tower has them."""
        kinds = list(self.item_columns_.values())
        order = sorted(range(len(kinds)), key=lambda place: kinds[place] != "category")
        return torch.tensor(order, device=device)

    def _dropped(self, items: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
        """Items without some values of their features of several."""
        categories = {
            name: drop_values(keys["keys"], keys["lengths"], self.value_dropout, generator)
            if isinstance(keys, dict)
            else keys
            for name, keys in items["categories"].items()
        }
        return {**items, "categories": categories}

    def loss(self, net: Any, views: dict[str, Any]) -> dict[str, Tensor]:
        query, item = views["log"]["query"], views["log"]["item"]
        q, x = (normalize(side(batch).float(), dim=1) for side, batch in ((net.query, query), (net.item, item)))
        terms = {
            "main": in_batch_softmax(
                q,
                x,
                temperature=self.temperature,
                ignored=false_negatives(query["row"], item["row"]),
                log_q=net.log_q[item["row"]] if self.log_q else None,
            )
        }
        if views["items"]:
            (first, hidden), (second, others) = views["items"]
            z = normalize(net.item(first, hidden).float(), dim=1)
            other = z if self.ssl == "spread" else normalize(net.item(second, others).float(), dim=1)
            same = first["row"].unsqueeze(1) == second["row"].unsqueeze(0)
            ssl = in_batch_softmax(z, other, temperature=self.temperature, ignored=same)
            terms["ssl"] = self.ssl_weight * ssl
        return terms

    def finish(self, source: Parts) -> None:
        """Vectors of all users and items."""
        log = source.parts["log"]
        self.query_vectors_ = self.transform_source(log.queries, side="query")
        self.item_vectors_ = self.transform_source(log.items)

    def encode(self, net: Any, batch: dict[str, Any], side: str = "item") -> Tensor:
        return normalize(getattr(net, side)(batch).float(), dim=1)

    # Using it ---------------------------------------------------------------------------------------------------------

    def transform(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """`transform_items`."""
        return self.transform_items(X, columns=columns)

    def transform_items(self, items: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """Unit vectors (n, dim) of items, from a table with the item features; they need not have been there in training."""
        self.require_fitted()
        return self.transform_source(self._features(items, ITEM, self.item_columns_, columns))

    def transform_queries(self, queries: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """Unit vectors (n, dim) of users, from a table with the query features; new ones are known by their features."""
        self.require_fitted()
        return self.transform_source(self._features(queries, USER, self.query_columns_, columns), side="query")

    def _features(self, data: Any, name: str, kinds: dict[str, str], columns: dict[str, str] | None) -> FeatureTable:
        from nolabel.data import read

        table = side_table(data, name, columns) if name in kinds else read(data, columns=columns)
        return FeatureTable(table, kinds_of(table, kinds))

    def scores_of(self, users: np.ndarray) -> np.ndarray:
        scores: np.ndarray = self.query_vectors_[users] @ self.item_vectors_.T
        return scores

    def recommend(
        self,
        query_ids: Any = None,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        queries: Any = None,
        columns: dict[str, str] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Recommender.recommend`; for users who were not there in training give their features, `queries`, instead."""
        if queries is None:
            return super().recommend(query_ids, k, exclude_seen=exclude_seen)
        if query_ids is not None:
            raise ValueError("give either query_ids, of users of the training, or queries, a table of others")
        from nolabel.assess.inputs import as_count
        from nolabel.recommend.recommender import best

        as_count(k, "k")
        vectors = self.transform_queries(queries, columns=columns)
        found, scores = best(lambda rows: vectors[rows] @ self.item_vectors_.T, np.arange(len(vectors)), k, None)
        return self._cut(found, scores, k)

    def _check(self) -> None:
        for name, least in (("dim", 1), ("embedding_dim", 1), ("rows", 1), ("companions", 1)):
            value = getattr(self, name)
            if value is None and name in ("rows", "companions"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if any(isinstance(width, bool) or not isinstance(width, int) or width < 1 for width in self.hidden):
            raise ValueError(f"hidden must be widths of at least 1, got {self.hidden!r}")
        if self.ssl not in SSL:
            raise ValueError(f"ssl must be one of cfm, rfm, spread and None, got {self.ssl!r}")
        if self.ssl_sampling not in ("uniform", "log"):
            raise ValueError(f"ssl_sampling must be 'uniform' or 'log', got {self.ssl_sampling!r}")
        if not self.ssl_weight >= 0:
            raise ValueError(f"ssl_weight must be at least 0, got {self.ssl_weight!r}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature!r}")
        if not 0 <= self.value_dropout < 1:
            raise ValueError(f"value_dropout must lie in [0, 1), got {self.value_dropout!r}")
