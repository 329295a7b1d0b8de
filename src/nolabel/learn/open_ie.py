"""Keys and values of pages, without a list of attributes: which node is the name of which other node's value.

Two nodes i and j of one window, seen by a `DomLM`, are key and value with the logit

    W [n_i ; n_j ; n_i * n_j] + b,

n being the mean state of a node's tokens. All ordered pairs of nodes with own text are asked at once. A pair in several windows
has the mean of its logits.

Deng, Shiralkar, Lockard, Huang & Sun, "DOM-LM: learning generalizable representations for HTML documents", 2022,
arXiv:2201.10608.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from nolabel.data.dom_tokens import TEXT
from nolabel.encoders.tree import node_vectors
from nolabel.learn.dom_heads import PageHead, require_as_many
from nolabel.learn.dom_lm import DomLM, outputs, page_states
from nolabel.training import Training

if TYPE_CHECKING:
    from nolabel.data.dom import Page
    from nolabel.data.dom_tokens import WindowSource


#: Pages whose pairs are held in memory at a time.
TOGETHER = 16


class KeyValue(NamedTuple):
    """A key, its value, where they stand, and how probable that is."""

    key: str
    value: str
    key_xpath: str
    value_xpath: str
    p: float


class PairClassifier(nn.Module):
    """Logits of all ordered pairs (i, j) of vectors: W [n_i ; n_j ; n_i * n_j] + b.

    >>> PairClassifier(8)(torch.rand(2, 5, 8)).shape
    torch.Size([2, 5, 5])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(dim, 1), nn.Linear(dim, 1, bias=False)
        self.both = nn.Linear(dim, 1, bias=False)

    def forward(self, vectors: Float[Tensor, "b k d"]) -> Float[Tensor, "b k k"]:
        together = (vectors * self.both.weight[0]) @ vectors.transpose(1, 2)
        found: Tensor = together + self.first(vectors) + self.second(vectors).transpose(1, 2)
        return found


class PairWindows:
    """Windows and the pairs of nodes in them that are key and value.

    Parameters
    ----------
    source : the windows
    pairs : for each page the (key, value) numbers of nodes

    Attributes
    ----------
    apart : pairs that no window holds both nodes of
    """

    def __init__(self, source: WindowSource, pairs: Sequence[set[tuple[int, int]]]) -> None:
        from nolabel.data import fingerprint

        self.source = source
        self.lengths, self.skipped = source.lengths, source.skipped
        self.places: list[list[tuple[int, int]]] = []  # of the pairs, in each window
        met: set[tuple[int, int, int]] = set()
        for number, subtree in source.windows:
            place = {int(node): at for at, node in enumerate(subtree.nodes)}
            here = [pair for pair in sorted(pairs[number]) if pair[0] in place and pair[1] in place]
            self.places.append([(place[key], place[value]) for key, value in here])
            met.update((number, *pair) for pair in here)
        self.apart = sum(map(len, pairs)) - len(met)
        self.labelled = np.array([bool(here) for here in self.places])
        self.fingerprint = fingerprint([source.fingerprint, [sorted(map(list, page)) for page in pairs]])

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        batch = self.source.batch(rows)
        number = int(batch["node"].max()) + 1
        target = torch.zeros(len(rows), number, number)
        for row, places in enumerate(self.places[row] for row in rows):
            for key, value in places:
                target[row, key, value] = 1.0
        return {**batch, "pair": target}


def asked(batch: dict[str, Any]) -> Tensor:
    """Which pairs of nodes are asked, bool (b, k, k): two different ones, both with own text."""
    nodes = batch["node"]
    number = max(int(nodes.max()) + 1, 1)
    told = torch.zeros(len(nodes), number + 1, dtype=torch.bool, device=nodes.device)
    told = told.scatter_(1, torch.where(batch["kind"] == TEXT, nodes, number), True)[:, :number]
    both = told.unsqueeze(1) & told.unsqueeze(2)
    return both & ~torch.eye(number, dtype=torch.bool, device=nodes.device)


class OpenIE(PageHead):
    """Find pairs of a key and its value ("Publisher" and "Penguin") on pages of sites and kinds never seen.

    Parameters
    ----------
    domlm : a `DomLM`; one that is not fitted learns from the pages of `fit` first
    negatives : windows without a pair for each one with, in training
    training : how long and on what to train

    Attributes
    ----------
    apart_ : pairs of the training pages whose nodes no window held together, from which nothing was learned

    Raises
    ------
    ValueError : pages without tags or body; ``labels[i]: ...`` for a node that is not there or has no text of its own

    Examples
    --------
    >>> pages = [f"<table><tr><th>Size<td>{i} kg<tr><th>Colour<td>red {i}</table>" for i in range(20)]
    >>> row = "/html/body/table/tr[{}]/{}"
    >>> labels = [[(row.format(i, "th"), row.format(i, "td")) for i in (1, 2)]] * 20
    >>> model = DomLM("bert-1x32", vocabulary_size=120, training=Training(steps=2, batch_size=4)).fit(pages)
    >>> pairs = OpenIE(model, training=Training(steps=30, lr=0.01)).fit(pages, labels).predict(pages[:1])
    >>> [(found.key, found.value) for found in pairs[0]]
    [('Size', '0 kg'), ('Colour', 'red 0')]
    """

    apart_: int

    def __init__(self, domlm: DomLM, *, negatives: float = 1.0, training: Training | None = None) -> None:
        self.domlm = domlm
        self.negatives = negatives
        self.training = training

    def fit(self, X: Any, y: Any = None, *, columns: dict[str, str] | None = None, **options: Any) -> Self:
        """Learn from pages and their pairs.

        Parameters
        ----------
        X : list of HTML, or a table with the column ``html``
        y : for each page a list of (XPath of the key, XPath of the value)
        columns, options : as in `Learner.fit`
        """
        pages = self.begin(X, columns)
        require_as_many(pages, y)
        pairs = [_numbered(page, given, index) for index, (page, given) in enumerate(zip(pages, y))]
        if not any(pairs):
            raise ValueError("labels: no page has a pair")
        self.learn_language(pages)
        source = PairWindows(self.language_model.windows(pages), pairs)
        if not source.labelled.any():
            raise ValueError("labels: no window holds both nodes of a pair: raise max_tokens of the DomLM")
        if source.apart:
            total = sum(map(len, pairs))
            warnings.warn(f"{source.apart} of {total} pairs lie too far apart for a window: left out", stacklevel=2)
        return self.fit_source(source, **options)

    def prepare(self, source: Any, folder: Any) -> None:
        super().prepare(source, folder)
        self.apart_ = source.apart

    def build(self, example: dict[str, Any]) -> nn.Module:
        net = self.make_net()
        net.pairs = PairClassifier(net.encoder.dim)
        return net

    def loss(self, net: Any, views: dict[str, Any]) -> Tensor:
        """Summed over pairs, for each node that is asked: a window has many pairs but few that are true."""
        scores = net.pairs(net.dropout(node_vectors(page_states(net, views), views["node"])))
        known = asked(views)
        each = binary_cross_entropy_with_logits(scores[known], views["pair"][known], reduction="sum")
        return each / known.any(dim=2).sum().clamp_min(1)

    def predict(self, X: Any, *, columns: dict[str, str] | None = None, threshold: float = 0.5) -> list[list[KeyValue]]:
        """For each page the pairs whose probability is at least `threshold`, by the place of the value."""
        self.require_fitted()
        pages = self.language_model.pages(X, columns)
        found: list[list[KeyValue]] = []
        for start in range(0, len(pages), TOGETHER):  # the pairs of a page are many more than its nodes
            found += self._pairs(pages[start : start + TOGETHER], threshold)
        return found

    def _pairs(self, pages: list[Page], threshold: float) -> list[list[KeyValue]]:
        source = self.language_model.windows(pages)
        logits: list[dict[tuple[int, int], list[float]]] = [defaultdict(list) for _ in pages]
        for rows, found in outputs(self, source, self._scores):
            for row, scores in zip(rows, found):
                number, subtree = source.windows[row]
                for key, value in np.argwhere(~np.isnan(scores)):
                    pair = int(subtree.nodes[key]), int(subtree.nodes[value])
                    logits[number][pair].append(float(scores[key, value]))
        return [_found(page, scores, threshold) for page, scores in zip(pages, logits)]

    @staticmethod
    def _scores(net: Any, batch: dict[str, Any]) -> Tensor:
        scores: Tensor = net.pairs(node_vectors(page_states(net, batch), batch["node"]))
        return scores.masked_fill(~asked(batch), torch.nan)


def _found(page: Page, logits: dict[tuple[int, int], list[float]], threshold: float) -> list[KeyValue]:
    pairs = []
    for (key, value), scores in sorted(logits.items(), key=lambda item: item[0][::-1]):
        p = 1.0 / (1.0 + float(np.exp(-np.mean(scores))))
        if p >= threshold:
            texts = page.full_text(key), page.full_text(value)
            pairs.append(KeyValue(*texts, page.xpath(key), page.xpath(value), p))
    return pairs


def _numbered(page: Page, pairs: Any, index: int) -> set[tuple[int, int]]:
    """The pairs by the numbers of their nodes."""
    if not all(isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2 for pair in pairs):
        raise ValueError(f"labels[{index}]: expected a list of (XPath of the key, XPath of the value)")
    flat = [xpath for pair in pairs for xpath in pair]
    try:
        nodes = page.nodes_at(flat)
    except ValueError as error:
        raise ValueError(f"labels[{index}]: {error}") from None
    for node, xpath in zip(nodes, flat):
        if not page.texts[node]:
            raise ValueError(f"labels[{index}]: {xpath} has no text of its own, so it is neither key nor value")
    return set(zip(nodes[::2], nodes[1::2]))
