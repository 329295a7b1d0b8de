"""Attributes of pages: which node is the title, the price, the author, learned from a few labelled pages.

On top of a `DomLM` stands a linear layer that names the attribute of a node from the mean state of its tokens, or of
each token. All weights go on learning from the labelled pages. A node in several windows has the mean of its logits.

Of a page's nodes few hold anything, and of some attributes there are twenty times as many as of others. The loss is the cross
entropy weighted by class,

    w_c = (max_k n_k / n_c) ^ balance,

n_c being the nodes with that label in the windows that hold some; ours, with balance 0 all nodes weigh the same.

Deng, Shiralkar, Lockard, Huang & Sun, "DOM-LM: learning generalizable representations for HTML documents", 2022,
arXiv:2201.10608.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nolabel.data.dom_tokens import node_means
from nolabel.encoders.tree import node_vectors
from nolabel.learn.dom_heads import PageHead, require_as_many
from nolabel.learn.dom_lm import DomLM, outputs, page_states
from nolabel.training import Training

if TYPE_CHECKING:
    from nolabel.data.dom import Page
    from nolabel.data.dom_tokens import WindowSource

#: The label of a node that counts neither way.
UNKNOWN = -100


class LabelledWindows:
    """Windows and the label of each of their nodes, `UNKNOWN` for those that count neither way.

    Parameters
    ----------
    source : the windows
    labels : int64 (n,) of the nodes of each page; 0 for nothing
    """

    def __init__(self, source: WindowSource, labels: Sequence[np.ndarray]) -> None:
        from nolabel.data import fingerprint

        self.source, self.labels = source, labels
        self.lengths, self.skipped = source.lengths, source.skipped
        self.labelled = np.array([(labels[number][subtree.nodes] > 0).any() for number, subtree in source.windows])
        self.fingerprint = fingerprint([source.fingerprint, list(labels)])

    def __len__(self) -> int:
        return len(self.source)

    def counts(self, classes: int) -> np.ndarray:
        """How many nodes of the windows that hold some label have each of them, int64 (classes,)."""
        total = np.zeros(classes, np.int64)
        for row in np.flatnonzero(self.labelled):
            number, subtree = self.source.windows[row]
            found = self.labels[number][subtree.nodes]
            total += np.bincount(found[found != UNKNOWN], minlength=classes)
        return total

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        batch = self.source.batch(rows)
        found = [self.labels[number][subtree.nodes] for number, subtree in (self.source.windows[row] for row in rows)]
        padded = np.full((len(rows), int(batch["node"].max()) + 1), UNKNOWN, np.int64)
        for row, values in enumerate(found):
            padded[row, : len(values)] = values
        return {**batch, "label": torch.from_numpy(padded)}


def labelled_nodes(page: Page, labels: Mapping[str, Any], index: int) -> dict[int, Any]:
    """What is said of nodes by XPath, by their numbers; `index` of the page is for the error."""
    try:
        return dict(zip(page.nodes_at(labels), labels.values()))
    except ValueError as error:
        raise ValueError(f"labels[{index}]: {error}") from None


class AttributeExtractor(PageHead):
    """Find the nodes that hold attributes, on pages of sites never seen, from labelled pages of others.

    Use it with pages of twenty sites or more. Where every page comes from one site, an XPath does the same.

    Parameters
    ----------
    domlm : a `DomLM`; one that is not fitted learns from the pages of `fit` first
    level : what the loss looks at: the mean state of each ``node``, or each ``token``
    negatives : windows without a labelled node for each one with, in training
    balance : how much more rare attributes weigh in the loss, from 0 (not at all) to 1; probabilities are raised with it
    training : how long and on what to train

    Attributes
    ----------
    classes_ : attributes, sorted
    class_weights_ : weight in the loss of nothing and of each attribute
    single_ : attributes that no labelled page has at more than one node

    Raises
    ------
    ValueError : pages without tags or body; ``labels[i]: xpath: ...`` for a label whose XPath leads to no visible node

    Examples
    --------
    >>> pages = [f"<h1>Soup {i}</h1><ul><li>{i} peas<li>salt</ul><p>Boil.</p>" for i in range(20)]
    >>> labels = [{"/html/body/h1": "title", "/html/body/ul/li[2]": "ingredient"}] * 20
    >>> model = DomLM("bert-1x32", vocabulary_size=120, training=Training(steps=2, batch_size=4)).fit(pages)
    >>> extractor = AttributeExtractor(model, training=Training(steps=30, lr=0.01)).fit(pages, labels)
    >>> [text for xpath, text, p in extractor.predict(["<h1>Stew</h1><p>Eat.</p>"])[0]["title"]]
    ['Stew']
    """

    class_names_: list[str]
    single_: list[str]
    class_weights_: list[float]

    def __init__(
        self,
        domlm: DomLM,
        *,
        level: str = "node",
        negatives: float = 1.0,
        balance: float = 0.5,
        training: Training | None = None,
    ) -> None:
        self.domlm = domlm
        self.level = level
        self.negatives = negatives
        self.balance = balance
        self.training = training

    @property
    def classes_(self) -> np.ndarray:
        self.require_fitted()
        return np.asarray(self.class_names_)

    def fit(self, X: Any, y: Any = None, *, columns: dict[str, str] | None = None, **options: Any) -> Self:
        """Learn from pages and labels.

        Parameters
        ----------
        X : list of HTML, or a table with the column ``html``
        y : for each page a dict from XPath to attribute; None as attribute: neither that nor nothing. All other nodes
            are nothing. `nolabel.data.dom_labels.match_nodes` makes such dicts from known values
        columns, options : as in `Learner.fit`
        """
        if self.level not in ("node", "token"):
            raise ValueError(f"level must be node or token, got {self.level!r}")
        if not 0.0 <= self.balance <= 1.0:
            raise ValueError(f"balance must lie in [0, 1], got {self.balance!r}")
        pages = self.begin(X, columns)
        require_as_many(pages, y)
        found = [labelled_nodes(page, labels, index) for index, (page, labels) in enumerate(zip(pages, y))]
        self._names = sorted({name for labels in found for name in labels.values() if name is not None})
        if not self._names:
            raise ValueError("labels: no node of any page has an attribute")
        several = {name for labels in found for name, times in Counter(labels.values()).items() if times > 1}
        self._single = [name for name in self._names if name not in several]
        codes = {name: number for number, name in enumerate(self._names, 1)} | {None: UNKNOWN}
        arrays = []
        for page, labels in zip(pages, found):
            array = np.zeros(len(page), np.int64)
            array[list(labels)] = [codes[name] for name in labels.values()]
            arrays.append(array)
        self.learn_language(pages)
        return self.fit_source(LabelledWindows(self.language_model.windows(pages), arrays), **options)

    def prepare(self, source: Any, folder: Any) -> None:
        super().prepare(source, folder)
        self.class_names_, self.single_ = self._names, self._single
        counts = np.maximum(source.counts(1 + len(self._names)), 1)
        self.class_weights_ = ((counts.max() / counts) ** self.balance).tolist()

    def build(self, example: dict[str, Any]) -> nn.Module:
        net = self.make_net()
        net.classes = nn.Linear(net.encoder.dim, len(self.class_names_) + 1)
        net.register_buffer("weights", torch.tensor(self.class_weights_))
        return net

    def loss(self, net: Any, views: dict[str, Any]) -> Tensor:
        states, nodes, labels = page_states(net, views), views["node"], views["label"]
        if self.level == "token":
            labels = labels.gather(1, nodes.clamp_min(0)).masked_fill(nodes < 0, UNKNOWN)  # (b, l)
        else:
            states = node_vectors(states, nodes)  # (b, k, dim)
        known = labels != UNKNOWN
        return cross_entropy(net.classes(net.dropout(states[known])).float(), labels[known], weight=net.weights)

    def predict_proba(self, X: Any, *, columns: dict[str, str] | None = None) -> list[np.ndarray]:
        """For each page float32 (nodes, 1 + attributes): the probability that a node is nothing, then of each attribute."""
        self.require_fitted()
        return self._probabilities(self.language_model.pages(X, columns))

    def predict(
        self, X: Any, *, columns: dict[str, str] | None = None
    ) -> list[dict[str, list[tuple[str, str, float]]]]:
        """For each page and attribute the nodes that hold it, in document order, as (XPath, text, probability)."""
        self.require_fitted()
        pages = self.language_model.pages(X, columns)
        found: list[dict[str, list[tuple[str, str, float]]]] = []
        for page, p in zip(pages, self._probabilities(pages)):
            best = p.argmax(axis=1)
            found.append(
                {
                    name: [
                        (page.xpath(i), page.full_text(i), float(p[i, c])) for i in np.flatnonzero(best == c).tolist()
                    ]
                    for c, name in enumerate(self.class_names_, 1)
                }
            )
        return found

    def _probabilities(self, pages: Sequence[Page]) -> list[np.ndarray]:
        def logits(net: Any, batch: dict[str, Any]) -> Tensor:
            # the mean of the tokens' logits is the logit of their mean
            scores: Tensor = net.classes(node_vectors(page_states(net, batch), batch["node"]))
            return scores

        source = self.language_model.windows(pages)
        found = node_means(source, outputs(self, source, logits))
        return [torch.from_numpy(values).softmax(dim=1).numpy() for values in found]
