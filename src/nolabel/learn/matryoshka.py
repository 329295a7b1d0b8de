"""Matryoshka representation learning: one embedding whose every prefix is an embedding, learned from labels.

A network turns a vector into an embedding z of D coordinates. For each size m of a rising list that ends at D, a linear
head reads the first m of them, and the cross-entropies of all heads are summed:

    sum_m c_m CE(W_m z[:m] + b_m, y).

MRL has a W_m of its own for each size; the efficient MRL-E reads the first m columns of one W, with one bias. The
embedding can afterwards be cut to any of the sizes: for a small index, for `Index.search(funnel=...)`, or to decide
easy rows early (`AdaptiveClassifier`).

Kusupati, Bhatt, Rege, Wallingford, Sinha, Ramanujan, Howard-Snyder, Chen, Kakade, Jain & Farhadi, "Matryoshka
representation learning", NeurIPS 2022, arXiv:2205.13147. Here the network is a small one on vectors, such as those of a
frozen encoder, and trained with AdamW. For the same without labels see ``SimCLR(nested=...)``; for any other objective,
`nolabel.objectives.Nested`.
"""

import copy
import os
import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from nolabel.assess.inputs import as_embeddings, as_labels
from nolabel.data.labels import class_codes, class_names
from nolabel.encoders import projection_head
from nolabel.objectives.nested import Nested, halved, rising_sizes
from nolabel.training import Learner, Training
from nolabel.training.estimator import Estimator

HIDDEN = 512
#: Where the confidence of a size is enough, is looked for among these.
THRESHOLDS = np.linspace(0.1, 1.0, 100)


class PrefixHeads(nn.Module):
    """Linear classifiers of prefixes (n, m), m one of the sizes: one a size, or one shared by all (MRL-E)."""

    def __init__(self, sizes: Sequence[int], classes: int, *, shared: bool) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.shared = nn.Linear(self.sizes[-1], classes) if shared else None
        self.own = nn.ModuleDict({} if shared else {str(size): nn.Linear(size, classes) for size in self.sizes})

    def forward(self, prefix: Tensor) -> Tensor:
        size = prefix.shape[1]
        if self.shared is not None:
            return linear(prefix, self.shared.weight[:, :size], self.shared.bias)
        logits: Tensor = self.own[str(size)](prefix)
        return logits  # (n, classes)


class MatryoshkaClassifier(ClassifierMixin, Learner):
    """Classify vectors by embeddings that still work when they are cut to their first coordinates; needs labels.

    Use it where there are many more classes than the smallest size. With about ten, a principal component analysis of
    the whole embedding is as good.

    Parameters
    ----------
    encoder : network from vectors (n, d) to embeddings (n, D), last layer linear (a ReLU kills early coordinates);
        ``None`` is one hidden layer of 512 with batch norm
    sizes : prefix sizes, rising, of which the last is D; ``halve``: the width of the vectors, halved down to 8. Sizes
        below 4 hurt the larger ones
    weights : of the sizes in the loss; ``None`` is 1 each, as in the paper
    efficient : one head whose first columns serve each size (MRL-E): smaller, and worse at the smallest sizes
    label_smoothing : of the cross-entropies
    training : how long and on what to train

    Attributes
    ----------
    classes_ : (L,) labels in the order of probabilities
    sizes_ : prefix sizes

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 20, 400)
    >>> X = rng.normal(size=(20, 32))[y] + 0.3 * rng.normal(size=(400, 32))
    >>> model = MatryoshkaClassifier(sizes=(4, 8, 32), training=Training(epochs=20)).fit(X, y)
    >>> model.transform(X, dim=8).shape, bool((model.predict(X, dim=8) == y).mean() > 0.8)
    ((400, 8), True)
    """

    columns = ("vector", "label")
    transform_columns = ("vector",)
    recipe = {"optimiser": "adamw", "lr": 3e-3, "weight_decay": 1e-2, "batch_size": 256, "epochs": 20}  # noqa: RUF012
    class_names_: list[Any]
    sizes_: tuple[int, ...]

    def __init__(
        self,
        encoder: nn.Module | None = None,
        *,
        sizes: str | Sequence[int] = "halve",
        weights: Sequence[float] | None = None,
        efficient: bool = False,
        label_smoothing: float = 0.1,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.sizes = sizes
        self.weights = weights
        self.efficient = efficient
        self.label_smoothing = label_smoothing
        self.training = training

    @property
    def classes_(self) -> np.ndarray:
        self.require_fitted()
        return np.asarray(self.class_names_)

    def fit(self, X: Any, y: Any = None, **options: Any) -> Self:
        """Learn from vectors (n, d) and their labels (n,), or from a table with the columns `vector` and `label`."""
        if y is not None:
            vectors = as_embeddings(X, "X")
            X = {"vector": vectors, "label": as_labels(y, len(vectors), "y")}
        return super().fit(X, **options)

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        source = super().open_table(data, columns, needed)
        vectors = source.batch(np.arange(len(source)))["vector"]
        if not isinstance(vectors, Tensor):
            raise ValueError("vector: rows of one width were expected")
        as_embeddings(vectors, "vector", at_least=1)
        seen = self.example_["batch"]["vector"]["shape"] if hasattr(self, "example_") else vectors.shape
        width = seen[1]
        if vectors.shape[1] != width:
            raise ValueError(f"vector: {width} columns were expected, as in training, got {vectors.shape[1]}")
        return source

    def prepare(self, source: Any, folder: os.PathLike[str] | None) -> None:
        labels = source.batch(np.arange(len(source)))["label"]
        self.class_names_ = class_names(as_labels(labels, len(source), "label"))

    def build(self, example: dict[str, Any]) -> nn.Module:
        width = example["vector"].shape[1]
        if isinstance(self.sizes, str) and self.sizes != "halve":
            raise ValueError(f"sizes must be 'halve' or prefix sizes that rise, got {self.sizes!r}")
        self.sizes_ = halved(width) if isinstance(self.sizes, str) else rising_sizes(self.sizes)
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")
        net: Any = nn.Module()
        net.encoder = self._encoder(width)
        net.heads = PrefixHeads(self.sizes_, len(self.class_names_), shared=self.efficient)
        Nested(net.heads, self.sizes_, self.weights, normalise=False)  # refuses bad weights before the first step
        return net

    def _encoder(self, width: int) -> nn.Module:
        if self.encoder is None:
            return projection_head(width, HIDDEN, self.sizes_[-1])
        if not isinstance(self.encoder, nn.Module):
            raise TypeError(
                f"encoder must be an nn.Module from vectors to embeddings, got {type(self.encoder).__name__}"
            )
        return copy.deepcopy(self.encoder)  # a fit leaves its arguments alone

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        vectors = batch["vector"].float()
        return vectors, class_codes(batch["label"], self.class_names_).to(vectors.device)

    def loss(self, net: Any, views: tuple[Tensor, Tensor]) -> Tensor:
        vectors, codes = views

        def entropy(prefix: Tensor) -> Tensor:
            return cross_entropy(net.heads(prefix), codes, label_smoothing=self.label_smoothing)

        return Nested(entropy, self.sizes_, self.weights, normalise=False)(net.encoder(vectors))

    def encode(self, net: Any, batch: dict[str, Any]) -> Tensor:
        embeddings: Tensor = net.encoder(batch["vector"].float())
        return embeddings  # (b, D)

    def transform(self, X: Any, *, columns: dict[str, str] | None = None, dim: int | None = None) -> np.ndarray:
        """Embeddings (n, D), float32, or their first `dim` coordinates; a warning if `dim` is none of the sizes."""
        embeddings = super().transform(X, columns=columns)
        if dim is None:
            return embeddings
        if not 1 <= dim <= embeddings.shape[1]:
            raise ValueError(f"dim must lie between 1 and {embeddings.shape[1]}, the width of the embedding, got {dim}")
        if dim not in self.sizes_:
            warnings.warn(f"dim={dim} was not trained for: the sizes are {_listed(self.sizes_)}", stacklevel=2)
        return embeddings[:, :dim]

    def predict_proba(self, X: Any, dim: int | None = None) -> np.ndarray:
        """Class probabilities (n, L) of vectors, by the head of the first `dim` coordinates; None is the whole width."""
        return self.classify(self.transform(X), dim)

    def predict(self, X: Any, dim: int | None = None) -> np.ndarray:
        """The most probable class (n,) of vectors, by the head of `dim`."""
        return self.classes_[self.predict_proba(X, dim).argmax(axis=1)]

    @torch.no_grad()
    def classify(self, embeddings: np.ndarray, dim: int | None = None) -> np.ndarray:
        """Class probabilities (n, L) of embeddings that `transform` returned, by the head of `dim`."""
        self.require_fitted()
        size = self.sizes_[-1] if dim is None else dim
        if size not in self.sizes_:
            raise ValueError(f"dim must be one of {_listed(self.sizes_)}, the sizes that have a head, got {dim}")
        if np.ndim(embeddings) != 2 or np.shape(embeddings)[1] < size:
            raise ValueError(f"embeddings must be (n, {size} or more), got shape {np.shape(embeddings)}")
        heads: Any = self.net_.heads
        device = next(heads.parameters()).device
        prefix = torch.as_tensor(embeddings[:, :size], dtype=torch.float32, device=device)
        probabilities: np.ndarray = heads(prefix).softmax(dim=1).cpu().numpy()
        return probabilities


def smallest_best_threshold(confidence: np.ndarray, narrow_right: np.ndarray, wide_right: np.ndarray) -> float:
    """The least confidence above which the narrow size should decide, for the most rows right; each argument is (n,).

    Below it the wide size decides. Candidates are 0.1 to 1 in a hundred steps; of equally good ones the smallest saves
    most.

    >>> smallest_best_threshold(np.array([0.9, 0.4]), np.array([True, False]), np.array([True, True])).__round__(2)
    0.4
    """
    sure = confidence > THRESHOLDS[:, None]  # (thresholds, n)
    right = np.where(sure, narrow_right, wide_right).sum(axis=1)
    return float(THRESHOLDS[right.argmax()])  # the first of the best


class AdaptiveClassifier(Estimator):
    """Decide each row by the smallest prefix that is sure of it.

    For consecutive sizes of a fitted `MatryoshkaClassifier`, held-out rows say above which confidence (largest
    probability) the smaller one should decide. A row walks up the sizes and stops at the first that is sure.

    Parameters
    ----------
    model : a fitted `MatryoshkaClassifier`
    sizes : those of the model's sizes to walk up; ``None`` is all of them

    Attributes
    ----------
    thresholds_ : (sizes - 1,) confidence above which a size decides
    expected_dim_ : mean dimension used on the held-out rows

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 20, 400)
    >>> X = rng.normal(size=(20, 32))[y] + 0.3 * rng.normal(size=(400, 32))
    >>> model = MatryoshkaClassifier(sizes=(4, 8, 32), training=Training(epochs=20)).fit(X[:200], y[:200])
    >>> labels, used = AdaptiveClassifier(model).fit(X[200:300], y[200:300]).predict(X[300:])
    >>> bool(used.mean() < 32)
    True
    """

    sizes_: tuple[int, ...]
    thresholds_: np.ndarray
    expected_dim_: float

    def __init__(self, model: MatryoshkaClassifier, sizes: Sequence[int] | None = None) -> None:
        self.model = model
        self.sizes = sizes

    def fit(self, X: Any, y: Any) -> Self:
        """Choose the thresholds on held-out vectors (n, d) and labels (n,): rows of neither training nor test."""
        if not isinstance(self.model, MatryoshkaClassifier):
            raise TypeError(f"model must be a fitted MatryoshkaClassifier, got {type(self.model).__name__}")
        self.model.require_fitted()
        sizes = self.model.sizes_ if self.sizes is None else rising_sizes(self.sizes)
        if unknown := [size for size in sizes if size not in self.model.sizes_]:
            raise ValueError(f"sizes must be among {_listed(self.model.sizes_)}, which have a head, got {unknown[0]}")
        vectors = as_embeddings(X, "X", at_least=1)
        truth = as_labels(y, len(vectors), "y")
        if not np.isin(truth, self.model.classes_).any():
            raise ValueError(f"y: none of its labels is known to the model, such as {truth[0]!r}")
        z = self.model.transform(vectors)
        found = [self.model.classify(z, size) for size in sizes]
        right = [self.model.classes_[p.argmax(axis=1)] == truth for p in found]
        pairs = zip(found, right, right[1:])
        thresholds = [smallest_best_threshold(p.max(axis=1), narrow, wide) for p, narrow, wide in pairs]
        self.sizes_, self.thresholds_ = sizes, np.array(thresholds)
        self.expected_dim_ = float(self._walk(z)[1].mean())
        return self

    def predict(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Labels (n,) of vectors, and the dimension (n,) at which each was decided."""
        self.require_fitted()
        return self._walk(self.model.transform(X))

    def _walk(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels and dimensions for embeddings (n, D)."""
        classes = self.model.classes_
        labels, used = np.empty(len(z), dtype=classes.dtype), np.empty(len(z), dtype=np.int64)
        rest = np.arange(len(z))
        for size, threshold in zip(self.sizes_, [*self.thresholds_, -np.inf]):  # the last size decides what is left
            probabilities = self.model.classify(z[rest], size)
            sure = probabilities.max(axis=1) > threshold
            labels[rest[sure]] = classes[probabilities[sure].argmax(axis=1)]
            used[rest[sure]] = size
            rest = rest[~sure]
        return labels, used


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
