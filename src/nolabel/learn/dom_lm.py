"""DOM-LM: read web pages as text and tree at once.

A page is cleaned and cut into overlapping subtrees of m tokens (`nolabel.data.dom_subtrees`). The vector of a token is

    e = word + position + node + parent + sibling + depth + tag,

where the last five are learned vectors of its node's number in the subtree, its parent's number, its place among the siblings,
its depth and its tag. A plain transformer follows. It learns to tell hidden tokens: in half of the windows 15 % of the tokens,
as in BERT; in the other half whole nodes, until 15 % of the tokens are hidden, so that a node has to be told from the
nodes around it.

Deng, Shiralkar, Lockard, Huang & Sun, "DOM-LM: learning generalizable representations for HTML documents", 2022,
arXiv:2201.10608. Differences: small and from random weights by default, the paper begins with RoBERTa
(``encoder="hf:roberta-base", max_tokens=512, stride=128``); a hidden node keeps its tag, which its tag id tells anyway.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nolabel.data.dom import ATTRIBUTES
from nolabel.data.dom_subtrees import TAG_TABLE
from nolabel.data.dom_tokens import TAG, node_means, page_means
from nolabel.encoders.tree import TreeEmbedding, node_vectors
from nolabel.training import Learner, Training
from nolabel.training.batches import prefetched, to_device
from nolabel.training.devices import launched
from nolabel.training.text import TextLearner
from nolabel.views.tokens import hide, hide_groups

if TYPE_CHECKING:
    from nolabel.data.dom import Page
    from nolabel.data.dom_pages import Pages, PageSource
    from nolabel.data.dom_tokens import WindowSource

#: Rows of the tables of places among siblings and of depths; the numbers of nodes and parents need one a token.
SIBLINGS = DEPTHS = 128
LEVELS = ("page", "node", "token")
#: The health report looks at every so many windows.
JUDGED = 4


class DomLM(TextLearner):
    """Learn vectors of web pages, of their nodes and of their tokens from unlabelled HTML.

    Use it where layout says what text means: attributes of products, recipes, contacts on sites never seen before, with few
    labels (`AttributeExtractor`, `OpenIE`, `HtmlQA`). For the running text of articles, a text encoder on
    `nolabel.data.dom.visible_text` is simpler.

    Parameters
    ----------
    encoder : ``bert-tiny``, ``bert-2x64``, ... from random weights, or ``hf:`` and a name or folder (the paper: RoBERTa-base)
    max_tokens : m, tokens of a window, start and end among them (paper: 512)
    stride : new tokens of each further window (paper: 128)
    attributes : whose values are read with a node; ``class`` and ``id`` may give away what they are called after
    mask_token : share of hidden tokens in the windows that hide tokens; 0: none do
    mask_node : share of tokens in hidden nodes in the windows that hide nodes; 0: none do
    tree : whether tokens know their node's place in the tree; without, pages are read as plain text
    vocabulary_size : word pieces learned from the pages; of no effect where the encoder brings a tokeniser
    lowercase : whether capitals are dropped
    training : how long and on what to train

    Attributes
    ----------
    tokeniser_ : the tokeniser, as the JSON text of the `tokenizers` library
    cut_ : nodes of the training pages that alone were longer than a window, and were cut

    Raises
    ------
    ValueError : ``html[i]: ...`` for a page without tags or with an empty body in a list; in a table such pages are left out
        and counted. Arguments that do not fit

    Examples
    --------
    >>> pages = [f"<h1>Soup {i}</h1><ul><li>{i} peas<li>salt</ul><p>Boil.</p>" for i in range(20)]
    >>> model = DomLM("bert-1x32", vocabulary_size=120, training=Training(steps=2, batch_size=4)).fit(pages)
    >>> model.transform(pages).shape
    (20, 32)
    >>> xpath, vector = model.transform(pages, level="node")[0][1]
    >>> xpath, vector.shape
    ('/html[1]/body[1]/h1[1]', (32,))
    """

    columns = ("html",)
    recipe = {**TextLearner.recipe, "batch_size": 32, "epochs": 5}  # noqa: RUF012
    exportable = False  # the places in the tree are added outside the encoder
    cut_: int

    def __init__(
        self,
        encoder: str = "bert-tiny",
        *,
        max_tokens: int = 128,
        stride: int = 48,
        attributes: Sequence[str] = ATTRIBUTES,
        mask_token: float = 0.15,
        mask_node: float = 0.15,
        tree: bool = True,
        vocabulary_size: int = 4000,
        lowercase: bool = True,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.max_tokens = max_tokens
        self.stride = stride
        self.attributes = attributes
        self.mask_token = mask_token
        self.mask_node = mask_node
        self.tree = tree
        self.vocabulary_size = vocabulary_size
        self.lowercase = lowercase
        self.training = training

    @property
    def max_length(self) -> int:  # type: ignore[override]
        return self.max_tokens

    def _check(self) -> None:
        for name, least in (("max_tokens", 3), ("stride", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        super()._check()
        if self.stride > self.max_tokens:
            raise ValueError(f"stride must be at most max_tokens, {self.max_tokens}, got {self.stride}")
        for name in ("mask_token", "mask_node"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be a share in [0, 1), got {getattr(self, name)!r}")
        if self.mask_token == self.mask_node == 0.0:
            raise ValueError("mask_token and mask_node are both 0: nothing would be learned")
        if isinstance(self.attributes, str):
            raise TypeError(f"attributes must be a list of names, got {self.attributes!r}")

    # Reading --------------------------------------------------------------------------------------------------------

    def pages(self, html: Any, columns: dict[str, str] | None = None) -> list[Page]:
        """Parsed pages of a list of HTML or of the column ``html`` of a table, all of them."""
        from nolabel.data.dom_pages import open_pages

        return open_pages(html, columns, self.attributes).require_all()

    def windows(self, pages: Sequence[Page] | Pages, *, reserved: int = 0) -> WindowSource:
        """The windows of parsed pages; `reserved` tokens of each are kept free."""
        from nolabel.data.dom_tokens import WindowSource
        from nolabel.data.tokenisers import read_tokeniser, train_wordpiece

        if hasattr(self, "tokeniser_"):
            tokeniser = read_tokeniser(self.tokeniser_)
        elif self._brings_tokeniser:
            tokeniser = self._pretrained()[1]
        else:
            texts = (page.node_text(node, self.attributes) for page in pages for node in range(len(page)))
            tokeniser = train_wordpiece(texts, self.vocabulary_size, lowercase=self.lowercase)
        source = WindowSource(
            pages,
            tokeniser,
            max_tokens=self.limits(self.columns)[0],
            stride=self.stride,
            attributes=self.attributes,
            reserved=reserved,
        )
        if source.cut:
            warnings.warn(f"{source.cut} nodes are longer than a window and were cut: raise max_tokens", stacklevel=3)
        return source

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> WindowSource:
        """The windows of the pages: what `fit` draws from."""
        from nolabel.data.dom_pages import open_pages

        self._check()
        found = open_pages(data, columns, self.attributes)
        source = self.windows(found)
        source.skipped = found.skipped
        return source

    def open(self, data: Any, columns: dict[str, str] | None) -> WindowSource:
        source = self.open_table(data, columns)
        source.even_out()
        return source

    def open_one(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> PageSource:
        """The pages as rows, with their windows: what `transform` gives a row each for."""
        from nolabel.data.dom_pages import PageSource, open_pages

        self._check()
        found = open_pages(data, columns, self.attributes)
        return PageSource(self.windows(found), found)

    def prepare(self, source: Any, folder: Any) -> None:
        super().prepare(source, folder)
        self.cut_ = source.cut

    # Learning -------------------------------------------------------------------------------------------------------

    def build(self, example: dict[str, Any]) -> nn.Module:
        from nolabel.encoders.text import MaskedTokenHead

        net: Any = nn.Module()
        net.encoder = self.make_encoder()
        if self.tree:
            longest = self.limits(self.columns)[0]
            net.tree = TreeEmbedding(net.encoder.dim, (longest, longest, SIBLINGS, DEPTHS, TAG_TABLE))
        net.head = MaskedTokenHead(net.encoder.dim, net.encoder.words.num_embeddings)
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
        """Tokens of which some are hidden: in one half of the windows single ones, in the other whole nodes."""
        tokens, mask = batch["html"]["tokens"], batch["html"]["mask"]
        mask_id, words = self._vocabulary()
        single = hide(tokens, mask, generator, mask_id=mask_id, vocabulary_size=words, p=self.mask_token)
        nodes = batch["node"].masked_fill(batch["kind"] == TAG, -1)
        whole = hide_groups(tokens, mask, nodes, generator, mask_id=mask_id, p=self.mask_node)
        share = 0.5 if self.mask_token and self.mask_node else float(self.mask_node > 0)
        order = torch.randperm(len(tokens), generator=generator, device=tokens.device)
        by_node = (order < round(share * len(tokens))).unsqueeze(1)
        return {
            "html": {"tokens": torch.where(by_node, whole.tokens, single.tokens), "mask": mask},
            "tree": batch["tree"],
            "targets": torch.where(by_node, whole.targets, single.targets),
            "by_node": by_node,
        }

    def loss(self, net: Any, views: dict[str, Any]) -> dict[str, Tensor]:
        chosen = views["targets"] >= 0  # (b, l)
        logits = net.head(page_states(net, views)[chosen], net.encoder.words.weight)
        each = cross_entropy(logits.float(), views["targets"][chosen], reduction="none")
        by_node = views["by_node"].expand_as(chosen)[chosen]
        parts = {"token": ~by_node, "node": by_node}
        weights = {"token": self.mask_token, "node": self.mask_node}
        return {
            name: (each * part).sum() / part.sum().clamp_min(1) for name, part in parts.items() if weights[name] > 0
        }

    def judge(
        self, net: nn.Module, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Windows, and the same windows with a tenth of their tokens hidden."""
        some = {name: value[::JUDGED] for name, value in batch.items() if name != "html"}
        some["html"] = {name: value[::JUDGED] for name, value in batch["html"].items()}
        hidden = hide_groups(
            some["html"]["tokens"], some["html"]["mask"], some["node"], generator, mask_id=self._vocabulary()[0], p=0.1
        )
        other = {**some, "html": {**some["html"], "tokens": hidden.tokens}}
        return {"representation": (self.encode(net, some), self.encode(net, other))}

    def _vocabulary(self) -> tuple[int, int]:
        """Id of the mask token, and number of word pieces."""
        from nolabel.data.tokenisers import read_tokeniser, special_ids

        if getattr(self, "_known", (None,))[0] != self.tokeniser_:
            tokeniser = read_tokeniser(self.tokeniser_)
            mask = special_ids(tokeniser).mask
            if mask < 0:
                raise ValueError(f"encoder: the tokeniser of {self.encoder!r} has no mask token")
            self._known = self.tokeniser_, mask, tokeniser.get_vocab_size()
        return self._known[1:]

    # Reading off ----------------------------------------------------------------------------------------------------

    def encode(self, net: nn.Module, batch: dict[str, Any]) -> Tensor:
        """Mean state (b, dim) of each window."""
        encoder: Any = net.encoder
        vectors: Tensor = encoder.pool(page_states(net, batch), batch["html"]["mask"])
        return vectors

    def transform(self, X: Any, *, columns: dict[str, str] | None = None, level: str = "page") -> Any:
        """Vectors of pages, or of what is in them.

        Parameters
        ----------
        X : list of HTML (str, bytes, or parsed with `nolabel.data.parse_html`), or a table with the column ``html``
        columns : ``{"html": "body"}`` if it has another name
        level : ``page``, ``node`` or ``token``

        Returns
        -------
        ``page``: float32 (n, dim), the mean over a page's tokens. ``node``: for each page a list of (XPath, float32 (dim,)) in
        document order; a node in several windows has the mean of these. ``token``: for each page a list of (XPath, float32
        (t, dim)), the states of the node's tokens (tag, attributes, text) in the window where the node is new.
        """
        self.require_fitted()
        if level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
        opened = self.open_one(X, columns)
        if level == "page":
            return self.transform_source(opened)
        source = opened.windows
        if level == "token":
            return self._token_vectors(source)
        means = node_means(source, outputs(self, source, states_of_nodes))
        return [list(zip(map(page.xpath, range(len(page))), found)) for page, found in zip(source.pages, means)]

    def transform_source(self, source: PageSource, **encode: Any) -> np.ndarray:
        return page_vectors(self, source)

    def _token_vectors(self, source: WindowSource) -> list[list[tuple[str, np.ndarray]]]:
        found: list[list[tuple[str, np.ndarray]]] = [[] for _ in source.pages]
        states: dict[int, np.ndarray] = {}
        for rows, values in outputs(self, source, page_states):
            states.update(zip(rows.tolist(), values))
        for row, (number, subtree) in enumerate(source.windows):
            nodes = source.window(row).nodes
            own = states[row][1 : len(nodes) + 1]
            for place in range(subtree.first_new, len(subtree.nodes)):
                xpath = source.pages[number].xpath(int(subtree.nodes[place]))
                found[number].append((xpath, own[nodes == place]))
        return found


def page_states(net: Any, batch: dict[str, Any]) -> Tensor:
    """Last states (b, l, dim) of a batch of windows, their words joined with their places in the tree."""
    tokens, mask = batch["html"]["tokens"], batch["html"]["mask"]
    if not hasattr(net, "tree"):
        plain: Tensor = net.encoder.states(tokens, mask)
        return plain
    joined: Tensor = net.encoder.states(None, mask, net.encoder.words(tokens) + net.tree(batch["tree"]))
    return joined


def states_of_nodes(net: Any, batch: dict[str, Any]) -> Tensor:
    """The mean state of each node of a window: (b, k, dim)."""
    return node_vectors(page_states(net, batch), batch["node"])


def page_vectors(learner: Learner, source: PageSource) -> np.ndarray:
    """The mean state over the tokens of each page, (n, dim) float32; a node in several windows has the mean of these."""
    return page_means(source.windows, outputs(learner, source.windows, states_of_nodes))


def outputs(
    learner: Learner, source: Any, of: Callable[[Any, dict[str, Any]], Tensor]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers (b,) and what `of` makes of the network and their batch, (b, ...), for all windows of a source."""
    fabric = launched(learner.training_, single=True)
    net = learner.net_.to(fabric.device).eval()
    plan = learner.encode_plan(source)
    for rows, batch in zip(plan, prefetched(source, iter(plan)), strict=True):
        with torch.no_grad(), fabric.autocast():
            found = of(net, to_device(batch, fabric.device)).float().cpu().numpy()
        yield rows, found
