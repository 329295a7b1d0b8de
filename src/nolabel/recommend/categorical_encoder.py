"""Unified embedding as an estimator: tables of categories as vectors, from labels or from the table alone.

The embeddings of all columns (`nolabel.encoders.categorical`: one hashed table for all of them) stand side by side,
x = [e_1(v_1) ... e_k(v_k)], optionally go through cross layers (DCN-V2), and then through a perceptron f.

    labels    binary cross-entropy of f(x) and y; the epoch with the best AUC on rows held out is kept
    masked    two views of each row hide complementary halves of the columns, drawn once a batch, behind learned defaults;
              f must match the views among all rows of the batch (softmax of cosines)

The columns are told apart by the blocks of f's first layer that read them, theta_t: where two of these are at right angles,
values of the two columns that share a row of the table do not disturb each other (`column_cosines`).

Coleman, Kang, Fahrbach, Wang, Hong, Chi & Cheng, "Unified embedding: battle-tested feature representations for web-scale ML
systems", NeurIPS 2023, arXiv:2305.12102. The label-free objective is that of arXiv:2007.12865, with rows for items.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from nolabel.data.categories import CATEGORY, FeatureTable, kinds_of
from nolabel.data.parts import Joined
from nolabel.data.sources import ColumnSource
from nolabel.encoders.categorical import ColumnCollisions, UnifiedEmbedding
from nolabel.encoders.feature_tower import CrossLayers, FeatureTower
from nolabel.objectives.in_batch import in_batch_softmax
from nolabel.ops.hashing import ColumnKeys, hashed_rows, salt64
from nolabel.training import Learner, Training
from nolabel.training.batches import Rows, shuffled, to_device
from nolabel.training.row_adam import row_adam
from nolabel.views.features import random_mask

OBJECTIVES = (None, "labels", "masked")


class CategoricalEncoder(Learner):
    """Vectors for the rows of a table of categories with very many values, such as logs, parts of URLs, ids.

    Use it where vocabularies are large or grow: one number of rows serves all columns, and no value is unknown. For a few
    short vocabularies one-hot codes or ``mode="full"`` are as good. Floats count as categories: bin them first.

    Parameters
    ----------
    features : columns of the table, or column to number of chunks (a column of c chunks gets c * dim coordinates); ``None``
        is all columns, with one chunk each
    rows, dim, tables, mode, pooling, missing, hash_seed : as in `UnifiedEmbedding` (there `seed`)
    hidden : widths of the perceptron's hidden layers
    cross_layers : DCN-V2 layers before it
    objective : ``labels`` or ``masked``; ``None`` is ``labels`` where `fit` gets any
    temperature : of the masked objective
    validation : share of the rows on which the best epoch is chosen, with labels; 0 keeps the last
    training : how long and on what to train

    Attributes
    ----------
    columns_ : column to chunks, in the order of `transform`
    validation_auc_ : AUC on the rows held out after each epoch

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = {"user": rng.integers(0, 50, 600), "site": rng.choice(["a.org", "b.org", "c.org"], 600)}
    >>> clicked = (table["user"] % 2 == 0).astype(int)
    >>> model = CategoricalEncoder(rows=200, dim=4, training=Training(epochs=15, batch_size=64)).fit(table, clicked)
    >>> model.transform(table).shape, bool(model.score(table, clicked) > 0.9)
    ((600, 8), True)
    """

    recipe = {"optimiser": "adam", "lr": 5e-3, "weight_decay": 0.0, "batch_size": 512, "epochs": 6}  # noqa: RUF012

    columns_: dict[str, int]
    objective_: str
    vocabulary_: dict[str, np.ndarray]
    validation_auc_: list[float]
    best_weights_: dict[str, Tensor]

    def __init__(
        self,
        features: Mapping[str, int] | Sequence[str] | None = None,
        *,
        rows: int = 100_000,
        dim: int = 16,
        tables: int = 1,
        mode: str = "shared",
        pooling: str = "mean",
        missing: str = "error",
        hash_seed: int = 0,
        hidden: Sequence[int] = (64, 64),
        cross_layers: int = 0,
        objective: str | None = None,
        temperature: float = 0.1,
        validation: float = 0.1,
        training: Training | None = None,
    ) -> None:
        self.features = features
        self.rows = rows
        self.dim = dim
        self.tables = tables
        self.mode = mode
        self.pooling = pooling
        self.missing = missing
        self.hash_seed = hash_seed
        self.hidden = hidden
        self.cross_layers = cross_layers
        self.objective = objective
        self.temperature = temperature
        self.validation = validation
        self.training = training

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        columns: dict[str, str] | None = None,
        run: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> Self:
        """Learn from a table, and from labels 0 and 1 if there are any.

        Parameters
        ----------
        X : anything that `nolabel.data.read` takes
        y : (n,) 0 or 1, or booleans
        columns, run, resume : as in `Learner.fit`
        """
        self._check()
        objective = self.objective or ("masked" if y is None else "labels")
        if (y is None) is (objective == "labels"):
            what = "needs labels y" if y is None else "learns without labels: leave y out"
            raise ValueError(f"objective={objective!r} {what}")
        table = self._table(X, self.features, columns)
        source = table if y is None else Joined(table, _labels(y, len(table)))
        if objective == "masked" and len(table.kinds) < 2:
            raise ValueError(
                f"objective='masked' hides half of the columns, at least 2 were expected, got {len(table.kinds)}"
            )
        self._forget()
        return self.fit_source(source, run=run, resume=resume)

    def _table(self, X: Any, features: Any, columns: dict[str, str] | None) -> FeatureTable:
        from nolabel.data import read

        table = read(X, columns=columns)
        names = kinds_of(table, None if features is None else list(features))
        return FeatureTable(table, dict.fromkeys(names, CATEGORY), missing=self.missing)

    def open_one(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> FeatureTable:
        return self._table(data, self.columns_, columns)

    def prepare(self, source: Any, folder: os.PathLike[str] | None) -> None:
        table = source.sources[0] if isinstance(source, Joined) else source
        self.objective_ = "labels" if isinstance(source, Joined) else "masked"
        given = dict(self.features) if isinstance(self.features, Mapping) else {}
        self.columns_ = {name: given.get(name, 1) for name in table.kinds}
        self.vocabulary_ = {} if self.mode == "shared" else table.vocabularies()
        self.validation_auc_ = []

    def build(self, example: dict[str, Any]) -> nn.Module:
        embedding = UnifiedEmbedding(
            self.columns_,
            self.rows,
            self.dim,
            tables=self.tables,
            mode=self.mode,
            pooling=self.pooling,
            values={name: ColumnKeys(keys) for name, keys in self.vocabulary_.items()} or None,
            missing=self.missing,
            seed=self.hash_seed,
        )
        hidden = list(self.hidden)
        widths = (hidden, 1) if self.objective_ == "labels" else (hidden[:-1], hidden[-1])
        net: Any = nn.Module()
        net.tower = FeatureTower(embedding, torch.zeros(0), torch.ones(0), hidden=widths[0], dim=widths[1])
        net.cross = CrossLayers(sum(embedding.widths.values()), self.cross_layers)
        return net

    def optimisers(self, net: nn.Module, settings: Training) -> dict[str, Any]:
        """Adam on the rows that a step sees: a shared table neither decays nor drifts where no column looks."""
        return row_adam(net, settings)

    # Learning ---------------------------------------------------------------------------------------------------------

    def _held_out(self, rows: int) -> np.ndarray:
        """Rows on which the epoch is chosen: fixed by the seed, none without labels."""
        share = self.validation if self.objective_ == "labels" else 0.0
        order = np.random.default_rng([self.training_.random_state % 2**32, 5]).permutation(rows)
        return np.sort(order[: round(share * rows)])

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        learned = np.setdiff1d(np.arange(len(source)), self._held_out(len(source)))
        return [learned[rows] for rows in shuffled(len(learned), batch_size, rng)]

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
        if self.objective_ == "labels":
            return batch
        return {**batch, "hidden": random_mask(len(self.columns_), generator)}

    def loss(self, net: Any, views: dict[str, Any]) -> Tensor:
        if self.objective_ == "labels":
            logits = self._read(net, views).float().squeeze(1)
            return binary_cross_entropy_with_logits(logits, views["label"].float())
        first, second = (
            normalize(self._read(net, views, hidden).float(), dim=1) for hidden in (views["hidden"], ~views["hidden"])
        )
        rows = _row_keys(views["categories"])
        same = rows.unsqueeze(1) == rows.unsqueeze(0)
        return in_batch_softmax(first, second, temperature=self.temperature, ignored=same)

    def _read(self, net: Any, batch: dict[str, Any], hidden: Tensor | None = None) -> Tensor:
        read: Tensor = net.tower.layers(net.cross(net.tower.features(batch, hidden)))
        return read

    def enough(self, net: nn.Module, source: Any, epoch: int) -> bool:
        """Remember the weights of the epoch with the best AUC on the rows held out; never the end."""
        self._judge_epoch(net, source)
        return False

    def _judge_epoch(self, net: nn.Module, source: Any) -> None:
        held = self._held_out(len(source))
        if not len(held):
            return
        labels = source.batch(held)["label"].numpy()
        if labels.min() == labels.max():
            raise ValueError(
                f"validation={self.validation}: the {len(held)} rows held out all have label {labels[0]:g}"
            )
        was_training = net.training
        net.eval()
        device = next(net.parameters()).device
        with torch.no_grad():
            logits = self._read(net, to_device(source.batch(held), device)).squeeze(1).float().cpu().numpy()
        net.train(was_training)
        auc = float(roc_auc_score(labels, logits))
        if not self.validation_auc_ or auc > max(self.validation_auc_):
            self.best_weights_ = {name: value.detach().clone().cpu() for name, value in net.state_dict().items()}
        self.validation_auc_.append(auc)

    def finish(self, source: Any) -> None:
        """Back to the weights of the best epoch; a budget of steps may end within one, which is judged here."""
        if self.objective_ != "labels" or not self.validation:
            return
        self._judge_epoch(self.net_, source)
        self.net_.load_state_dict(self.best_weights_)
        del self.best_weights_

    def partial_fit(self, X: Any, y: Any = None, *, columns: dict[str, str] | None = None) -> Self:
        """Go on with further rows of a stream: one pass over them at the full rate, new values included.

        The first call is `fit`. The moments of Adam last from call to call, but are not saved. With ``mode="full"`` values
        that `fit` did not see stay unknown.
        """
        if not self._learned():
            return self.fit(X, y, columns=columns)
        if (y is None) is (self.objective_ == "labels"):
            raise ValueError(
                f"this {type(self).__name__} was fitted {'with' if y is None else 'without'} labels: go on so"
            )
        table = self._table(X, self.columns_, columns)
        source = table if y is None else Joined(table, _labels(y, len(table), both=False))
        net, device = self.net_, next(self.net_.parameters()).device
        if not hasattr(self, "_stream"):
            self._stream = (
                row_adam(net, self.training_)["main"],
                np.random.default_rng([self.training_.random_state, 13]),
            )
        optimiser, rng = self._stream
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        pieces = -(-len(source) // (self.training_.batch_size or len(source)))
        net.train()
        for rows in np.array_split(rng.permutation(len(source)), pieces):
            optimiser.zero_grad()
            self.loss(net, self.views(to_device(source.batch(rows), device), generator)).backward()
            optimiser.step()
        net.eval()
        return self

    def _forget(self) -> None:
        super()._forget()
        self.__dict__.pop("_stream", None)

    # Using it ---------------------------------------------------------------------------------------------------------

    def encode(self, net: Any, batch: dict[str, Any], layer: str = "embedding") -> Tensor:
        if layer == "logit":
            return self._read(net, batch)
        vectors: Tensor = net.tower.features(batch)
        return vectors  # (b, sum of widths)

    def predict_proba(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """Probabilities (n, 2) of the labels 0 and 1."""
        self.require_fitted()
        if self.objective_ != "labels":
            raise ValueError("this CategoricalEncoder was fitted without labels: it has no probabilities to give")
        logits = self.transform_source(self.open_one(X, columns), layer="logit")[:, 0].astype(float)
        positive = 1 / (1 + np.exp(-logits))
        return np.stack([1 - positive, positive], axis=1)

    def score(self, X: Any, y: Any, *, columns: dict[str, str] | None = None) -> float:
        """AUC: how often a row of label 1 is ranked above one of label 0."""
        positive = self.predict_proba(X, columns=columns)[:, 1]
        labels = _labels(y, len(positive)).batch(np.arange(len(positive)))["label"].numpy()
        return float(roc_auc_score(labels, positive))

    def collisions(self, X: Any, *, columns: dict[str, str] | None = None) -> dict[str, ColumnCollisions]:
        """How the values of a table meet in the rows, by column; see `ColumnCollisions`."""
        self.require_fitted()
        net: Any = self.net_
        found: dict[str, ColumnCollisions] = net.tower.embedding.collisions(self.open_one(X, columns).keys)
        return found

    def column_cosines(self) -> np.ndarray:
        """Cosines (k, k) between the blocks of the first layer that read two columns of equal width, averaged over its units.

        Near 0 where the network tells values of two columns apart that share a row; NaN for columns of unequal widths.
        """
        self.require_fitted()
        net: Any = self.net_
        widths = list(net.tower.embedding.widths.values())
        blocks = [normalize(block, dim=1) for block in net.tower.layers[0].weight.detach().cpu().split(widths, dim=1)]
        cosines = [
            [float((a * b).sum(dim=1).abs().mean()) if a.shape == b.shape else np.nan for b in blocks] for a in blocks
        ]
        return np.array(cosines)

    def _check(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of labels, masked and None, got {self.objective!r}")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation must lie in [0, 1), got {self.validation!r}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature!r}")
        widths = list(self.hidden)
        if not widths or any(isinstance(width, bool) or not isinstance(width, int) or width < 1 for width in widths):
            raise ValueError(f"hidden must be one or more widths of at least 1, got {self.hidden!r}")
        if isinstance(self.cross_layers, bool) or not isinstance(self.cross_layers, int) or self.cross_layers < 0:
            raise ValueError(f"cross_layers must be a whole number of at least 0, got {self.cross_layers!r}")


def _labels(y: Any, rows: int, *, both: bool = True) -> ColumnSource:
    """Labels 0 and 1 as a source."""
    from nolabel.assess.inputs import as_array
    from nolabel.data import read

    labels = as_array(y, "y")
    if labels.shape != (rows,):
        raise ValueError(f"y: one label a row was expected, shape ({rows},), got shape {labels.shape}")
    if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        raise ValueError("y: labels must be 0 and 1, or booleans")
    if both and labels.min() == labels.max():
        raise ValueError(f"y: both labels were expected, got only {labels[0]:g}")
    return ColumnSource(read({"label": labels.astype(np.float32)}), ["label"])


def _row_keys(categories: dict[str, Any]) -> Tensor:
    """One number a row, the same for rows that hold the same."""
    total: Any = 0
    for name, keys in categories.items():
        several = isinstance(keys, dict)
        mixed = hashed_rows(keys["keys"] if several else keys, salt64(name, 0, 0), 2**61)
        if several:
            lengths = keys["lengths"]
            owner = torch.repeat_interleave(torch.arange(len(lengths), device=mixed.device), lengths)
            mixed = torch.zeros_like(lengths).index_add_(0, owner, mixed)
        total = total + mixed
    rows: Tensor = total
    return rows
