"""Labels of URLs on top of a `UrlEncoder`: one task, or several that share the encoder.

The mean state goes through dropout and a linear layer for each task; cross-entropy trains all weights. Every
batch holds URLs of one task. Tasks follow each other in random order, and of those with more than three times as many URLs
as the smallest an epoch draws that many. Some registered domains are kept out of the training; the weights of the epoch that
does best on them, by the mean over tasks of the macro F1, are the result.

Li, Wang, Xu, Guo, Cao & Zhang, "URLBERT: a contrastive and adversarial pre-trained model for URL classification", 2024,
arXiv:2402.11495. Differences: the paper picks the epoch on its test part, and takes the start token (see `urlbert`); a higher
rate for encoders from random weights.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nolabel.data.urls import split_by_domain
from nolabel.learn.heads import Head
from nolabel.learn.url_labels import LabelledUrls, classes_of, labels_of
from nolabel.learn.urlbert import UrlEncoder, set_dropout, urls_of
from nolabel.training import Training
from nolabel.training.batches import Rows, bucketed, to_device, within_budget
from nolabel.training.text import BUDGET

#: How many times more URLs of a task an epoch draws than there are of the smallest.
MOST = 3
DROPOUT = 0.1
#: Steps that a fine-tuning from random weights takes about, within 5 and 50 epochs.
STEPS = 1000
#: The name of the only task of a `UrlClassifier`.
ONLY = "label"


class UrlHead(Head):
    """The base of both: a copy of the encoder, a linear layer a task, the best epoch on held-out domains.

    A subclass has among its constructor arguments ``encoder``, ``freeze``, ``validation`` and ``training``.
    """

    columns = ("url", "label")
    transform_columns = ("url",)
    encoder: UrlEncoder
    freeze: bool
    validation: float
    encoder_: UrlEncoder
    class_names_: dict[str, list[Any]]
    validation_: list[dict[str, float]]
    #: Of the fit that goes on: labelled URLs to learn from, and tasks.
    _rows, _tasks = STEPS, 1

    @property
    def recipe(self) -> dict[str, Any]:
        """The paper's for a model that exists; from random weights a higher rate, and as many epochs as make some 1,000 steps."""
        base = {"optimiser": "adamw", "weight_decay": 1e-4, "warmup": 0.1, "clip": 1.0}
        if getattr(self.encoder, "_brings_tokeniser", False):
            return base | {"lr": 2e-5, "batch_size": 64, "epochs": 5 if self._tasks == 1 else 20}
        return base | {"lr": 5e-4, "batch_size": 32, "epochs": min(max(STEPS * 32 // self._rows, 5), 50)}

    @property
    def language_model(self) -> UrlEncoder:
        """The fitted encoder."""
        if self.encoder._learned():
            return self.encoder
        fitted: UrlEncoder = getattr(self, "encoder_", None) or self._stage
        return fitted

    # Reading --------------------------------------------------------------------------------------------------------

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        return self.language_model.open_table(data, columns, ("url",))

    def fit_tasks(self, tasks: Mapping[str, tuple[list[str], list[Any]]]) -> Self:
        """Learn from checked URLs and labels by task."""
        if not isinstance(self.encoder, UrlEncoder):
            raise TypeError(f"encoder must be a UrlEncoder, got {type(self.encoder).__name__}")
        if not 0.0 <= self.validation < 1.0:
            raise ValueError(f"validation must be a share in [0, 1), got {self.validation!r}")
        self._forget()
        self._names = {name: classes_of(y, name) for name, (_, y) in tasks.items()}
        urls = [url for some, _ in tasks.values() for url in some]
        task = np.repeat(np.arange(len(tasks)), [len(some) for some, _ in tasks.values()])
        label = np.concatenate([np.searchsorted(self._names[name], y) for name, (_, y) in tasks.items()])
        if self.validation:
            learned, held = split_by_domain(urls, self.validation, list(zip(task.tolist(), label.tolist())))
        else:
            learned, held = np.arange(len(urls)), np.arange(0)
        if not self.encoder._learned():
            self._stage = clone(self.encoder).fit(urls)
        tokens = self.open_table(urls, None)
        self._rows, self._tasks = len(learned), len(tasks)
        self._held = LabelledUrls(tokens, held, task, label)
        self._epochs: list[dict[str, float]] = []
        self._best: tuple[tuple[float, float], dict[str, Tensor]] | None = None
        try:
            return self.fit_source(LabelledUrls(tokens, learned, task, label))
        finally:
            del self._held, self._best

    def prepare(self, source: Any, folder: Any) -> None:
        if not self.encoder._learned():
            self.encoder_ = self._stage
        self.class_names_ = self._names

    # Learning -------------------------------------------------------------------------------------------------------

    def build(self, example: dict[str, Any]) -> nn.Module:
        learned: Any = self.language_model.net_
        net: Any = nn.Module()
        net.encoder = copy.deepcopy(learned.encoder).requires_grad_(not self.freeze)
        set_dropout(net.encoder, DROPOUT)
        net.dropout = nn.Dropout(DROPOUT)
        net.heads = nn.ModuleList(nn.Linear(net.encoder.dim, len(names)) for names in self.class_names_.values())
        return net

    def plan(self, source: LabelledUrls, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        """Batches of one task each, of the larger tasks not all."""
        parts = [np.flatnonzero(source.task == task) for task in np.unique(source.task)]
        most = MOST * min(map(len, parts))
        batches: list[Rows] = []
        for part in parts:
            drawn = rng.permutation(part)[:most]
            batches += [drawn[b] for b in bucketed(source.lengths["url"][drawn], min(batch_size, len(drawn)), rng)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def encode_plan(self, source: Any) -> list[np.ndarray]:
        return within_budget(source.lengths["url"], BUDGET)

    def loss(self, net: Any, views: dict[str, Any]) -> Tensor:
        if self.freeze:
            net.encoder.eval()
        states = net.dropout(self.encode(net, views))
        own = net.heads[int(views["task"][0])]
        others = sum(weight.sum() for head in net.heads if head is not own for weight in head.parameters())
        # the other heads take part with no weight: data-parallel training waits for a gradient of each
        return cross_entropy(own(states).float(), views["label"]) + 0.0 * others

    def enough(self, net: nn.Module, source: Any, epoch: int) -> bool:
        """Keep the weights if they are the best so far; never ends the training early."""
        if len(self._held):
            scores, cost = self._judged(net)
            self._epochs.append({"epoch": epoch, **scores, "loss": cost})
            key = (float(np.mean(list(scores.values()))), -cost)
            if self._best is None or key > self._best[0]:
                self._best = key, {name: value.detach().clone() for name, value in net.state_dict().items()}
        return False

    @torch.no_grad()
    def _judged(self, net: Any) -> tuple[dict[str, float], float]:
        """Macro F1 of each task on the held-out domains, and the mean cross-entropy."""
        from sklearn.metrics import f1_score

        net.eval()
        device = next(net.parameters()).device
        found, costs = np.zeros(len(self._held), np.int64), []
        for rows in self.encode_plan(self._held):
            batch = to_device(self._held.batch(rows), device)
            states = self.encode(net, batch)
            for task, head in enumerate(net.heads):
                mine = batch["task"] == task
                if mine.any():
                    logits = head(states[mine]).float()
                    costs.append(cross_entropy(logits, batch["label"][mine], reduction="none").cpu())
                    found[rows[mine.cpu().numpy()]] = logits.argmax(dim=1).cpu().numpy()
        scores = {}
        for task, name in enumerate(self.class_names_):
            mine = self._held.task == task
            if mine.any():
                scores[name] = float(f1_score(self._held.label[mine], found[mine], average="macro"))
        return scores, float(torch.cat(costs).mean())

    def finish(self, source: Any) -> None:
        if len(self._held) and self._best is None:  # ended within the first epoch
            self.enough(self.net_, source, 0)
        if self._best is not None:
            self.net_.load_state_dict(self._best[1])
        self.validation_ = self._epochs

    # Reading off ----------------------------------------------------------------------------------------------------

    def encode(self, net: nn.Module, batch: dict[str, Any], task: int | None = None) -> Tensor:
        """Mean states (b, dim), or the probabilities (b, classes) of a task."""
        parts: Any = net
        states: Tensor = parts.encoder(batch["url"]["tokens"], batch["url"]["mask"])
        return states if task is None else parts.heads[task](states).float().softmax(dim=1)

    def probabilities(self, X: Any, task: str, columns: dict[str, str] | None = None) -> np.ndarray:
        self.require_fitted()
        if task not in self.class_names_:
            raise ValueError(f"task: expected one of {', '.join(self.class_names_)}, got {task!r}")
        return self.transform_source(self.open_one(X, columns), task=list(self.class_names_).index(task))


class UrlClassifier(UrlHead):
    """Tell the label of a URL: phishing or not, its topic, whether it serves advertising.

    Use it with some hundred labelled URLs and many unlabelled ones; compare with `url_labels.character_baseline`. Scores on URLs
    of domains seen in training say little: test on other domains (`nolabel.data.urls.split_by_domain`).

    Parameters
    ----------
    encoder : a `UrlEncoder`; one that is not fitted learns from the URLs of `fit` first
    freeze : train the linear layer alone
    validation : share of the URLs, by registered domains, that choose the best epoch; 0: the last one is taken
    training : how long and on what to train

    Attributes
    ----------
    classes_ : labels, sorted
    validation_ : macro F1 and cross-entropy on the held-out domains after each epoch

    Raises
    ------
    ValueError : ``url[i]: ...`` for an empty URL, labels of one kind only, as many labels as there are not URLs
    ImportError : with `validation`, if the library `tldextract` is missing

    Examples
    --------
    >>> urls = [f"shop{i}.com/{'cart' if i % 2 else 'help'}/{i}" for i in range(40)]
    >>> model = UrlEncoder("bert-1x32", vocabulary_size=120, training=Training(steps=2, batch_size=8, stop_on_collapse=False))
    >>> classifier = UrlClassifier(model, training=Training(epochs=8, lr=0.01)).fit(urls, ["sale", "info"] * 20)
    >>> classifier.predict(["http://www.other.com/cart/3"]).tolist()
    ['info']
    """

    def __init__(
        self,
        encoder: UrlEncoder,
        *,
        freeze: bool = False,
        validation: float = 0.1,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.freeze = freeze
        self.validation = validation
        self.training = training

    @property
    def classes_(self) -> np.ndarray:
        self.require_fitted()
        return np.asarray(self.class_names_[ONLY])

    def fit(self, X: Any, y: Any = None, *, columns: dict[str, str] | None = None) -> Self:
        """Learn from labelled URLs.

        Parameters
        ----------
        X : list of URLs, or a table with the column ``url``
        y : a label for each: texts or numbers
        columns : ``{"url": "link"}`` if it has another name
        """
        urls = urls_of(X, columns)
        return self.fit_tasks({ONLY: (urls, labels_of(y, len(urls), "y"))})

    def predict_proba(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """Probabilities (n, classes) in the order of `classes_`, float32."""
        return self.probabilities(X, ONLY, columns)

    def predict(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """The most probable label of each URL (n,)."""
        return self.classes_[self.predict_proba(X, columns=columns).argmax(axis=1)]

    def score(self, X: Any, y: Any, *, columns: dict[str, str] | None = None) -> float:
        """Share of the URLs whose label is told."""
        found = self.predict(X, columns=columns)
        return float(np.mean(found == np.asarray(labels_of(y, len(found), "y"))))


class MultiTaskUrlClassifier(UrlHead):
    """Tell several labels of URLs with one encoder: each task has URLs and labels of its own.

    Use it to serve several questions with one pass over the URLs. Where tasks have little in common, single ones may be better.

    Parameters
    ----------
    encoder, freeze, validation, training : as in `UrlClassifier`; a domain that is held out is held out in all tasks

    Attributes
    ----------
    classes_ : by task the labels, sorted
    validation_ : macro F1 of each task and cross-entropy on the held-out domains after each epoch

    Raises
    ------
    ValueError : as in `UrlClassifier`, and for a task that is not known

    Examples
    --------
    >>> urls = [f"shop{i}.com/{'cart' if i % 2 else 'help'}/{i}" for i in range(40)]
    >>> model = UrlEncoder("bert-1x32", vocabulary_size=120, training=Training(steps=2, batch_size=8, stop_on_collapse=False))
    >>> tasks = {"page": (urls, ["info", "sale"] * 20), "odd": (urls[:20], [0, 1] * 10)}
    >>> both = MultiTaskUrlClassifier(model, training=Training(steps=2, batch_size=8)).fit(tasks)
    >>> both.predict(urls, task="odd").shape, both.classes_["page"].tolist()
    ((40,), ['info', 'sale'])
    """

    def __init__(
        self,
        encoder: UrlEncoder,
        *,
        freeze: bool = False,
        validation: float = 0.1,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.freeze = freeze
        self.validation = validation
        self.training = training

    @property
    def classes_(self) -> dict[str, np.ndarray]:
        self.require_fitted()
        return {name: np.asarray(names) for name, names in self.class_names_.items()}

    def fit(self, X: Any, y: Any = None, *, columns: dict[str, str] | None = None) -> Self:
        """Learn from labelled URLs of several tasks.

        Parameters
        ----------
        X : ``{"phish": (urls, labels), ...}``
        y : ignored; there for scikit-learn's sake
        columns : ``{"url": "link"}`` if the column of URLs has another name
        """
        if not isinstance(X, Mapping) or not X or not all(isinstance(p, Sequence) and len(p) == 2 for p in X.values()):
            raise TypeError(f"X: expected a dict from task to (urls, labels), got {type(X).__name__}")
        tasks = {}
        for name, (some, labels) in X.items():
            urls = urls_of(some, columns)
            tasks[str(name)] = urls, labels_of(labels, len(urls), str(name))
        return self.fit_tasks(tasks)

    def predict_proba(self, X: Any, *, task: str, columns: dict[str, str] | None = None) -> np.ndarray:
        """Probabilities (n, classes) in the order of ``classes_[task]``, float32."""
        return self.probabilities(X, task, columns)

    def predict(self, X: Any, *, task: str, columns: dict[str, str] | None = None) -> np.ndarray:
        """The most probable label of each URL in a task (n,)."""
        probabilities = self.predict_proba(X, task=task, columns=columns)
        return self.classes_[task][probabilities.argmax(axis=1)]

    def score(self, X: Any, y: Any, *, task: str, columns: dict[str, str] | None = None) -> float:
        """Share of the URLs whose label is told."""
        found = self.predict(X, task=task, columns=columns)
        return float(np.mean(found == np.asarray(labels_of(y, len(found), task))))
