"""A page cut into overlapping subtrees that fit an encoder, and where each token stands in its subtree.

Every subtree holds some new nodes, in document order, and as much of what came before as fits: first the ancestors of the new
nodes, so that it is connected, then the branches finished last. Every node is new exactly once.

Deng, Shiralkar, Lockard, Huang & Sun, "DOM-LM: learning generalizable representations for HTML documents", 2022,
arXiv:2201.10608 (appendix).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nolabel.data.dom import Page, parse_html

#: Elements of HTML; the tag id of ``TAGS[k]`` is k + 2, that of any other element 1.
_TAGS = """a abbr acronym address area article aside audio b bdi bdo big blockquote body br button canvas caption center cite code
col colgroup data dd del details dfn dialog dir div dl dt em fieldset figcaption figure font footer form h1 h2 h3 h4 h5 h6 header
hgroup hr i img input ins kbd label legend li main map mark marquee math menu meter nav nobr ol optgroup option output p picture
pre progress q rp rt ruby s samp search section select slot small span strike strong sub summary sup table tbody td textarea
tfoot th thead time tr tt u ul var video wbr"""
TAGS = tuple(_TAGS.split())
_TAG_IDS = {tag: number for number, tag in enumerate(TAGS, 2)}
#: Rows that a table of tag ids needs.
TAG_TABLE = 128

#: Names of the columns of `tree_ids`.
TREE = ("node", "parent", "sibling", "depth", "tag")


@dataclass(frozen=True, eq=False)
class Subtree:
    """Some nodes of a page in pre-order, connected, the context first and then those that are new.

    Attributes
    ----------
    nodes : int64 (k,) numbers of the nodes in the page
    first_new : ``nodes[first_new:]`` are new here
    cut : tokens that were cut off the only new node, because it alone is longer than a subtree may be; else 0
    """

    nodes: np.ndarray
    first_new: int
    cut: int = 0

    @property
    def new(self) -> np.ndarray:
        return self.nodes[self.first_new :]


def dom_subtrees(
    page: Page | str | bytes, max_tokens: int, stride: int, counts: Sequence[int] | np.ndarray | None = None
) -> list[Subtree]:
    """Cut a page into subtrees.

    The first takes nodes in document order until they have `max_tokens`, each further one until they have `stride`. To fit,
    a subtree forgets the branches finished first, then raises its root, and where the root has two children in it,
    leaves its last new nodes to the next one. A single new node that does not fit is cut.

    Parameters
    ----------
    page : n nodes; HTML is parsed with `nolabel.data.parse_html`
    max_tokens : tokens a subtree may have
    stride : tokens of new nodes, at most `max_tokens`
    counts : (n,) tokens of each node, at least 1; default: the words of ``page.node_text``

    Raises
    ------
    ValueError
        For a `max_tokens` or `stride` below 1, a `stride` above `max_tokens`, or counts that do not fit the page.

    Examples
    --------
    >>> from nolabel.data.dom import parse_html
    >>> page = parse_html("<div><p>a</p><p>b</p></div><div><p>c</p><p>d</p></div>")  # body, div, p, p, div, p, p
    >>> for subtree in dom_subtrees(page, max_tokens=6, stride=3):
    ...     print(subtree.nodes.tolist(), subtree.new.tolist())
    [0, 1, 2, 3] [0, 1, 2, 3]
    [0, 1, 4, 5] [4, 5]
    [0, 4, 5, 6] [6]
    """
    page = page if isinstance(page, Page) else parse_html(page)
    lengths = _checked(page, max_tokens, stride, counts)
    cutter = _Cutter(page, lengths, max_tokens)
    subtrees: list[Subtree] = []
    begin, wanted = 0, max_tokens
    while begin < len(page):
        subtrees.append(cutter.cut(begin, cutter.reaching(begin, wanted)))
        begin, wanted = int(subtrees[-1].nodes[-1]) + 1, stride
    return subtrees


def _checked(page: Page, max_tokens: int, stride: int, counts: Sequence[int] | np.ndarray | None) -> np.ndarray:
    """The tokens of each node, int64 (n,)."""
    for name, value in (("max_tokens", max_tokens), ("stride", stride)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    if stride > max_tokens:
        raise ValueError(f"stride must be at most max_tokens, {max_tokens}, got {stride}")
    if counts is None:
        counts = [len(page.node_text(node).split()) for node in range(len(page))]
    lengths = np.asarray(counts)
    if lengths.shape != (len(page),) or lengths.dtype.kind not in "iu":
        raise ValueError(f"counts must be {len(page)} whole numbers, one a node, got {lengths.dtype} {lengths.shape}")
    if lengths.min() < 1:
        raise ValueError(f"counts must be at least 1, got {lengths.min()} for node {lengths.argmin()}")
    return lengths.astype(np.int64)


class _Cutter:
    """Finds the context of new nodes by sums over the whole page, so that a subtree costs no more than its own nodes."""

    def __init__(self, page: Page, lengths: np.ndarray, max_tokens: int) -> None:
        self.page, self.max_tokens = page, max_tokens
        self.before = np.concatenate([[0], np.cumsum(lengths)])  # tokens before each node, in document order
        self.post = page.post_order()
        self.finished = np.concatenate(
            [[0], np.cumsum(lengths[self.post])]
        )  # tokens of the first k nodes in post-order
        above = [0] * len(page)  # tokens of all ancestors
        for node, parent in enumerate(page.parents.tolist()[1:], 1):
            above[node] = above[parent] + int(lengths[parent])
        self.above = above

    def reaching(self, begin: int, wanted: int) -> int:
        """The number after that node with which those from `begin` have at least `wanted` tokens."""
        return min(int(np.searchsorted(self.before, self.before[begin] + wanted)), len(self.page))

    def cut(self, begin: int, end: int) -> Subtree:
        """The subtree whose new nodes are `begin` to `end` - 1, or fewer."""
        room = self.max_tokens - self.above[begin] - int(self.before[end] - self.before[begin])
        if room < 0:
            return self._raised(begin, end)
        # nodes end in post-order, so those that have ended are the first in it: all before `begin` but its ancestors
        count = begin - int(self.page.depths[begin])
        oldest = int(np.searchsorted(self.finished, self.finished[count] - room))
        context = np.sort(np.concatenate([self._ancestors(begin, self.above[begin]), self.post[oldest:count]]))
        return Subtree(np.concatenate([context, np.arange(begin, end)]), len(context))

    def _raised(self, begin: int, end: int) -> Subtree:
        """Where ancestors and new nodes alone are too many tokens: raise the root, and give up new nodes where it forks."""
        # An ancestor forks if a new node other than the first hangs on it, for it has the first one below it too.
        # forks[k]: the topmost that does while `begin` + k is new; `begin` itself if none does.
        hang = self.page.parents[begin:end]
        forks = np.minimum.accumulate(np.where(hang < begin, hang, begin)[1:], dtype=np.int64)
        forks = np.concatenate([[begin], forks])
        ancestors, dropped = self.above[begin], 0
        while True:
            new = int(self.before[end] - self.before[begin])
            if ancestors - dropped + new <= self.max_tokens:
                break
            highest = self.above[int(forks[end - begin - 1])]  # tokens that can be dropped: all above the topmost fork
            if ancestors - highest + new <= self.max_tokens:
                break
            dropped = highest
            if end - begin == 1:
                return Subtree(np.array([begin]), 0, cut=new - self.max_tokens)
            end -= 1
        context = self._ancestors(begin, min(ancestors - dropped, self.max_tokens - new))
        return Subtree(np.concatenate([context, np.arange(begin, end)]), len(context))

    def _ancestors(self, node: int, tokens: int) -> np.ndarray:
        """The nearest ancestors of a node that have at most so many tokens together, the topmost first."""
        found, least = [], self.above[node] - tokens
        node = int(self.page.parents[node])
        while node >= 0 and self.above[node] >= least:
            found.append(node)
            node = int(self.page.parents[node])
        return np.array(found[::-1], np.int64)


def tree_ids(page: Page, subtree: Subtree) -> np.ndarray:
    """Where each node of a subtree stands in it: int64 (k, 5), with the columns `TREE`, all from 1.

    Columns: number of the node in the subtree in pre-order; that of its parent; index among the siblings that are in the
    subtree; depth, the root's being 1; tag. In all of them 0 stands for nothing: the root's parent, and tokens of no node,
    such as a question's. Repeat each row once for each token of its node.

    >>> from nolabel.data.dom import parse_html
    >>> page = parse_html("<p>a</p><p>b<i>c</i></p>")
    >>> tree_ids(page, dom_subtrees(page, 20, 20)[0])[:, :4].tolist()
    [[1, 0, 1, 1], [2, 1, 1, 2], [3, 1, 2, 2], [4, 3, 1, 3]]
    """
    nodes = subtree.nodes
    parents = np.searchsorted(nodes, page.parents[nodes]) + 1
    parents[0] = 0  # of the root, whose parent may be anywhere
    siblings = np.empty(len(nodes), np.int64)
    grouped = np.argsort(parents, kind="stable")
    starts = np.flatnonzero(np.diff(parents[grouped], prepend=-1))  # of the children of each parent
    siblings[grouped] = np.arange(len(nodes)) - np.repeat(starts, np.diff(starts, append=len(nodes))) + 1
    depths = page.depths[nodes] - page.depths[nodes[0]] + 1
    tags = [_TAG_IDS.get(page.tags[node], 1) for node in nodes]
    return np.stack([np.arange(1, len(nodes) + 1), parents, siblings, depths, tags], axis=1).astype(np.int64)
