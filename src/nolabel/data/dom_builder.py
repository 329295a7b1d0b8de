"""From the events of an HTML parser to flat arrays: which elements are kept, who is whose parent, which text is whose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

_LEFT_OUT = """applet base basefont bgsound datalist embed frameset head iframe link meta noframes noscript object param
script source style svg template title track"""
_BLOCKS = """address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset figcaption
figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr legend li listing main menu nav ol optgroup option p plaintext pre
search section summary table tbody textarea tfoot thead tr ul xmp"""
_APART = "audio button canvas img input meter picture progress select td th video"

#: Elements that are left out with everything in them.
UNSEEN = frozenset(_LEFT_OUT.split())
TOGETHER, SPACE, LINE = 0, 1, 2  # what stands between two stretches of text
#: Elements that begin and end a line of the visible text, and those that only stand apart within one.
_BORDERS = dict.fromkeys(_APART.split(), SPACE) | dict.fromkeys(_BLOCKS.split(), LINE)
# control characters that are not white space; soft hyphen, zero-width space, word joiner, byte-order mark; surrogates
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff\ud800-\udfff]+")
_NO_VALUES: dict[str, str] = {}  # of the many nodes without attributes; nobody writes into it
_SPELLED = re.compile(r"[A-Za-z_][\w.-]*\Z", re.ASCII)


def seen(text: str) -> str:
    """Text without control and invisible characters.

    >>> seen("1\\x00 sug\\u00adar")
    '1 sugar'
    """
    return text if text.isascii() and text.isprintable() else _INVISIBLE.sub("", text)


class Builder:
    """Takes the parser's events, which come balanced, and grows the arrays of a page; the parser calls methods by name."""

    def __init__(self, attributes: Sequence[str]) -> None:
        self.chosen = tuple(attributes)
        self.tags: list[str] = []
        self.parents: list[int] = []
        self.siblings: list[int] = []
        self.ends: list[int] = []
        self.attributes: list[dict[str, str]] = []
        self.steps: list[str] = []
        self.depths: list[int] = []
        self.first: list[int] = []  # number of a node's first stretch of text, and after its last
        self.after: list[int] = []
        self.run_texts: list[str] = []  # stretches of text from tag to tag, their nodes, what stands before each
        self.run_nodes: list[int] = []
        self.run_borders: list[int] = []
        self.pieces: list[str] = []  # of the present stretch: entities, and what is left out, cut text in pieces
        self.node, self.depth = -1, -1  # the innermost that is open
        self.kept: list[int] = []  # of each open node: children kept, and all by name, and together as "*"
        self.named: list[dict[str, int] | None] = []
        self.unseen = 0  # open elements that are left out
        self.separator = TOGETHER

    def start(self, tag: str, attributes: Any) -> None:
        if self.unseen:
            self.unseen += 1
        elif tag == "body" and not self.tags:
            self._open(tag, attributes, 0, "body[1]")
        elif tag in ("html", "body"):
            return  # again after its end: what follows belongs to the body, as in browsers
        elif self.node < 0:
            self.unseen = 1
        elif tag in UNSEEN:
            self.unseen = 1
            self._step(tag)
        else:
            self._border(tag)
            self.kept[-1] += 1
            self._open(tag, attributes, self.kept[-1] - 1, self._step(tag))

    def _open(self, tag: str, attributes: Any, sibling: int, step: str) -> None:
        self.parents.append(self.node)
        self.node = len(self.tags)
        self.depth += 1
        self.tags.append(tag)
        self.siblings.append(sibling)
        self.depths.append(self.depth)
        self.steps.append(step)
        self.attributes.append(self._values(attributes) if attributes else _NO_VALUES)
        self.ends.append(0)
        self.first.append(len(self.run_texts))
        self.after.append(0)
        self.kept.append(0)
        self.named.append(None)

    def _values(self, attributes: Any) -> dict[str, str]:
        given = ((name, attributes.get(name)) for name in self.chosen)
        values = {name: " ".join(seen(value).split()) for name, value in given if value}
        return {name: value for name, value in values.items() if value} or _NO_VALUES

    def _step(self, tag: str) -> str:
        """The last step of the XPath of the next child; one whose name XPath cannot spell is counted among all."""
        named = self.named[-1]
        if named is None:
            named = self.named[-1] = {}
        named["*"] = named.get("*", 0) + 1
        named[tag] = named.get(tag, 0) + 1
        name = tag if _SPELLED.match(tag) else "*"
        return f"{name}[{named[name]}]"

    def _border(self, tag: str) -> None:
        """A kept element begins or ends, and with it the present stretch of text."""
        if self.pieces:
            self.run_texts.append(seen("".join(self.pieces)))
            self.run_nodes.append(self.node)
            self.run_borders.append(self.separator)
            self.pieces = []
            self.separator = TOGETHER
        border = _BORDERS.get(tag, TOGETHER)
        if border > self.separator:
            self.separator = border

    def end(self, tag: str) -> None:
        if self.unseen:
            self.unseen -= 1
        elif self.node > 0 and tag not in ("html", "body"):
            self._border(tag)
            self._close()

    def _close(self) -> None:
        self.ends[self.node] = len(self.tags)
        self.after[self.node] = len(self.run_texts)
        self.kept.pop()
        self.named.pop()
        self.node = self.parents[self.node]
        self.depth -= 1

    def data(self, text: str) -> None:
        if not self.unseen and self.node >= 0:
            self.pieces.append(text)

    def comment(self, text: str) -> None:
        """Nobody sees comments."""

    def pi(self, target: str, data: str | None = None) -> None:
        """Nor processing instructions."""

    def close(self) -> None:
        self._border("")
        while self.node >= 0:
            self._close()

    def fields(self) -> dict[str, Any]:
        """What a `nolabel.data.dom.Page` holds of the tree, once the parser is through."""
        own = [""] * len(self.tags)
        pieces: list[str] = []
        begins: list[int] = []  # of the stretches in the page's text; one without words has no length there
        ends: list[int] = []
        length, separator = 0, TOGETHER
        for raw, node, before in zip(self.run_texts, self.run_nodes, self.run_borders):
            words = " ".join(raw.split())
            separator = max(separator, before, SPACE if raw[:1].isspace() else TOGETHER)
            if words:
                own[node] = f"{own[node]} {words}" if own[node] else words
                if pieces and separator:
                    pieces.append("\n" if separator == LINE else " ")
                    length += 1
                pieces.append(words)
                separator = SPACE if raw[-1].isspace() else TOGETHER
            begins.append(length)
            length += len(words)
            ends.append(length)
        return {
            "tags": self.tags,
            "parents": np.array(self.parents, np.int32),
            "siblings": np.array(self.siblings, np.int32),
            "depths": np.array(self.depths, np.int32),
            "ends": np.array(self.ends, np.int32),
            "texts": own,
            "attributes": self.attributes,
            "steps": self.steps,
            "text": "".join(pieces),
            "spans": spans(
                np.array(begins, np.int32), np.array(ends, np.int32), np.array(self.first), np.array(self.after)
            ),
        }


def spans(begins: np.ndarray, ends: np.ndarray, first: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where the text inside each node begins and ends: int32 (n, 2), (0, 0) for a node without any.

    Parameters
    ----------
    begins, ends : int32 (r,) of each stretch of text, equal for one without words
    first, after : int64 (n,) number of a node's first stretch, and the number after its last

    >>> begins, ends = np.array([0, 2, 3]), np.array([2, 2, 5])
    >>> spans(begins, ends, first=np.array([0, 1, 1]), after=np.array([3, 2, 3])).tolist()
    [[0, 5], [0, 0], [3, 5]]
    """
    worded = np.flatnonzero(begins < ends)
    low, high = np.searchsorted(worded, [first, after])  # the node's stretches with words are low to high - 1
    found = np.zeros((len(first), 2), np.int32)
    full = low < high
    found[full, 0] = begins[worded[low[full]]]
    found[full, 1] = ends[worded[high[full] - 1]]
    return found


def events(text: str, attributes: Sequence[str]) -> Builder:
    """Run the parser over the text of a page."""
    try:
        from lxml import etree
    except ImportError as error:
        raise ImportError("lxml is needed to read HTML: pip install nolabel[html]") from error

    builder = Builder(attributes)
    # a null character would come back as U+FFFD; lone surrogates cannot be written at all
    data = text.replace("\0", "").encode("utf-8", "replace")
    parser = etree.HTMLParser(target=builder, huge_tree=True, encoding="utf-8")
    parser.feed(data)
    parser.close()
    return builder
