"""Pages as windows of token ids: every window one subtree, every token with its node and the node's place in the subtree."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nolabel.data.dom import ATTRIBUTES, Page
from nolabel.data.dom_subtrees import TREE, Subtree, dom_subtrees, tree_ids
from nolabel.data.sources import Skipped, checked_rows
from nolabel.data.tokenisers import SpecialIds, special_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BLOCK = 4096  # nodes encoded at a time
#: A page may have so many times as many windows as the median page, and at least so many, to learn from.
_TIMES, _AT_LEAST = 16, 64
TAG, NAME, TEXT = 0, 1, 2  # what a token is of: the tag, an attribute's value, the node's own text


@dataclass(frozen=True, eq=False)
class PageTokens:
    """The tokens of a page's nodes on end.

    Attributes
    ----------
    ids : int32 (t,)
    kinds : int8 (t,) `TAG`, `NAME` or `TEXT`
    spans : int32 (t, 2) characters of the node's own text, where the kind is `TEXT`; else -1
    counts : int64 (n,) tokens of each node, at least 1
    starts : int64 (n,) number of each node's first token
    """

    ids: np.ndarray
    kinds: np.ndarray
    spans: np.ndarray
    counts: np.ndarray
    starts: np.ndarray


def page_tokens(page: Page, tokeniser: Tokenizer, attributes: Sequence[str]) -> PageTokens:
    """The tokens of tag, attribute values and own text of every node.

    >>> from nolabel.data.dom import parse_html
    >>> from nolabel.data.tokenisers import train_wordpiece
    >>> page = parse_html("<p id=first>a cat")
    >>> tokens = page_tokens(page, train_wordpiece(["body p a cat first"] * 9, 60), ("id",))
    >>> tokens.counts.tolist(), tokens.kinds.tolist(), tokens.spans[3:].tolist()
    ([1, 4], [0, 0, 1, 2, 2], [[0, 1], [2, 5]])
    """
    special = special_ids(tokeniser)
    ids: list[int] = []
    kinds: list[int] = []
    spans: list[tuple[int, int]] = []
    counts = np.empty(len(page), np.int64)
    for first in range(0, len(page), _BLOCK):
        nodes = range(first, min(first + _BLOCK, len(page)))
        names = [page.name_text(node, attributes) for node in nodes]
        whole = [f"{name} {page.texts[node]}".rstrip() for name, node in zip(names, nodes)]
        for node, name, encoding in zip(nodes, names, tokeniser.encode_batch(whole, add_special_tokens=False)):
            tag, own = len(page.tags[node]), len(name) + 1
            found = encoding.ids or [special.unknown]
            offsets = encoding.offsets or [(0, tag)]
            ids += found
            counts[node] = len(found)
            # where a piece takes in the space before it, its end says what it is of
            kinds += [TAG if end <= tag else NAME if end < own else TEXT for _, end in offsets]
            spans += [(max(begin - own, 0), end - own) if end > own else (-1, -1) for begin, end in offsets]
    return PageTokens(
        np.array(ids, np.int32), np.array(kinds, np.int8), np.array(spans, np.int32), counts, np.cumsum(counts) - counts
    )


@dataclass(frozen=True, eq=False)
class Window:
    """The tokens of one subtree: all arrays (l, ...).

    Attributes
    ----------
    tokens : ids
    nodes : the token's node, as its index in ``subtree.nodes``
    kinds : see `PageTokens`
    tree : int64 (l, 5) see `nolabel.data.dom_subtrees.tree_ids`
    places : number of the token among those of the page
    """

    tokens: np.ndarray
    nodes: np.ndarray
    kinds: np.ndarray
    tree: np.ndarray
    places: np.ndarray


class WindowSource:
    """The subtrees of pages in padded batches of token ids.

    A batch holds

    * ``html``: ``{"tokens": int64 (b, l), "mask": bool (b, l)}``: start token, the nodes' tokens, end token, padding;
    * ``tree``: int64 (b, l, 5), the place of the token's node in the subtree, 0 for tokens of no node;
    * ``node``: int64 (b, l), the node's index in the subtree, -1 for tokens of no node;
    * ``kind``: int64 (b, l), 0 for the tag, 1 for an attribute's value, 2 for own text, -1 for tokens of no node;
    * ``row``: int64 (b,), the positions asked for.

    Parameters
    ----------
    pages : parsed pages
    tokeniser : of the `tokenizers` library
    max_tokens : tokens of a window, start and end among them
    stride : new tokens of each window but the first of a page
    attributes : whose values are read
    reserved : tokens of a window that are kept free, such as for a question

    Attributes
    ----------
    windows : ``(page, subtree)`` of each row
    lengths : tokens of each row, as ``{"html": int64 (n,)}``
    room : tokens of a window without start, end and `reserved`
    cut : nodes that alone are longer than a window, and were cut
    fingerprint : hash of the content

    Examples
    --------
    >>> from nolabel.data.dom import parse_html
    >>> from nolabel.data.tokenisers import train_wordpiece
    >>> page = parse_html("<p>a cat</p><p>a dog</p>")
    >>> source = WindowSource([page], train_wordpiece(["body p a cat dog"] * 9, 60), max_tokens=8, stride=3)
    >>> source.batch([0, 1])["node"].tolist()
    [[-1, 0, 1, 1, 1, -1], [-1, 0, 1, 1, 1, -1]]
    """

    def __init__(
        self,
        pages: Sequence[Page],
        tokeniser: Tokenizer,
        *,
        max_tokens: int,
        stride: int,
        attributes: Sequence[str] = ATTRIBUTES,
        reserved: int = 0,
    ) -> None:
        from nolabel.data.fingerprints import fingerprint

        self.pages = list(pages)
        self.tokeniser = tokeniser.to_str()
        self.special = special_ids(tokeniser)
        self.tokens = [page_tokens(page, tokeniser, attributes) for page in self.pages]
        self.room = room = max_tokens - 2 - reserved
        self.windows: list[tuple[int, Subtree]] = []
        for number, (page, tokens) in enumerate(zip(self.pages, self.tokens)):
            found = dom_subtrees(page, room, min(stride, room), tokens.counts)
            self.windows += [(number, subtree) for subtree in found]
        sizes = [
            self.tokens[number].counts[subtree.nodes].sum() - subtree.cut + reserved for number, subtree in self.windows
        ]
        self.lengths = {"html": np.array(sizes, np.int64) + 2}
        self.cut = sum(subtree.cut > 0 for _, subtree in self.windows)
        self.skipped: list[Skipped] = []
        content = [[tokens.ids, tokens.counts, page.parents] for page, tokens in zip(self.pages, self.tokens)]
        self.fingerprint = fingerprint([content, self.tokeniser, max_tokens, stride, reserved])

    def __len__(self) -> int:
        return len(self.windows)

    def even_out(self) -> None:
        """Leave windows of pages out that have far more than others, so that one endless page does not make up the rest.

        What stays of such a page lies at even distances; one warning counts what goes.
        """
        counts = np.bincount([number for number, _ in self.windows], minlength=len(self.pages))
        most = max(_AT_LEAST, int(_TIMES * np.median(counts)))
        kept = [
            end - count + (np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64))
            for count, end in zip(counts, np.cumsum(counts))  # the windows of a page lie together
        ]
        long = int((counts > most).sum())
        rows = np.concatenate(kept)
        if long:
            gone = f"{len(self) - len(rows)} of {len(self)} windows are not learned from"
            warnings.warn(f"{gone}: {long} pages have more than {most}", stacklevel=2)
            self.windows = [self.windows[row] for row in rows]
            self.lengths = {"html": self.lengths["html"][rows]}

    def window(self, row: int) -> Window:
        """The tokens of one row."""
        number, subtree = self.windows[row]
        tokens = self.tokens[number]
        counts = tokens.counts[subtree.nodes]
        counts[-1] -= subtree.cut  # only a single node is ever cut
        nodes = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(nodes)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = np.repeat(tokens.starts[subtree.nodes], counts) + within
        tree = tree_ids(self.pages[number], subtree)[nodes]
        return Window(tokens.ids[places], nodes, tokens.kinds[places], tree, places)

    def batch(self, rows: np.ndarray | Sequence[int]) -> dict[str, Any]:
        """The windows at positions `rows`, padded."""
        index = checked_rows(rows, len(self))
        return framed_windows([self.window(int(row)) for row in index], index, self.special)


def framed_windows(
    windows: Sequence[Window], rows: np.ndarray, special: SpecialIds, before: Sequence[Sequence[int]] | None = None
) -> dict[str, Any]:
    """Windows between a start and an end token, padded; with `before`, some tokens and another end token go ahead of each.

    See `WindowSource` for what the batch holds.
    """
    import torch

    ahead = [
        [special.start] if before is None else [special.start, *before[k], special.end] for k in range(len(windows))
    ]
    shape = (len(windows), max(len(a) + len(w.tokens) for a, w in zip(ahead, windows)) + 1)
    tokens = np.full(shape, special.pad, np.int64)
    mask = np.zeros(shape, bool)
    nodes = np.full(shape, -1, np.int64)
    kinds = np.full(shape, -1, np.int64)
    tree = np.zeros((*shape, len(TREE)), np.int64)
    for row, (first, window) in enumerate(zip(ahead, windows)):
        begin, end = len(first), len(first) + len(window.tokens)
        tokens[row, :begin], tokens[row, begin:end], tokens[row, end] = first, window.tokens, special.end
        mask[row, : end + 1] = True
        nodes[row, begin:end], kinds[row, begin:end], tree[row, begin:end] = window.nodes, window.kinds, window.tree
    arrays = {"tree": tree, "node": nodes, "kind": kinds, "row": rows}
    text = {"tokens": torch.from_numpy(tokens), "mask": torch.from_numpy(mask)}
    return {"html": text, **{name: torch.from_numpy(array) for name, array in arrays.items()}}


def node_means(source: WindowSource, outputs: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """One row a node of each page, float32 (n, d): the mean over the windows that hold it.

    Parameters
    ----------
    source : the windows
    outputs : row numbers (b,) and what came out for the nodes of these rows, (b, k, d); each row once
    """
    sums: list[np.ndarray] = []
    times = [np.zeros(len(page), np.int64) for page in source.pages]
    for rows, found in outputs:
        if not sums:
            sums = [np.zeros((len(page), found.shape[2])) for page in source.pages]
        for row, values in zip(rows, found):
            number, subtree = source.windows[row]
            sums[number][subtree.nodes] += values[: len(subtree.nodes)]
            times[number][subtree.nodes] += 1
    return [(total / count[:, None]).astype(np.float32) for total, count in zip(sums, times)]


def page_means(source: WindowSource, outputs: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """One row a page, float32 (n, d): the mean over its tokens, a node in several windows having the mean of these.

    Parameters are those of `node_means`. No more than a row a page is held.
    """
    # times[i]: windows of node i; weights[i]: its tokens, of which a window holds no more than it has room for
    times = [np.zeros(len(page), np.int64) for page in source.pages]
    for number, subtree in source.windows:
        times[number][subtree.nodes] += 1
    weights = [np.minimum(tokens.counts, source.room) for tokens in source.tokens]
    total = np.array([weight.sum() for weight in weights], np.float64)
    sums: np.ndarray | None = None
    for rows, found in outputs:
        if sums is None:
            sums = np.zeros((len(source.pages), found.shape[2]))
        for row, values in zip(rows, found):
            number, subtree = source.windows[row]
            nodes = subtree.nodes
            sums[number] += (weights[number][nodes] / times[number][nodes]) @ values[: len(nodes)]
    assert sums is not None
    return (sums / total[:, None]).astype(np.float32)
