"""HTML pages as trees that an encoder can read: cleaned, in document order, with the place of every node.

Parsing is libxml2's through lxml, which mends what is broken; the events of the mended page fill flat arrays, so that nothing
here recurses and a page may nest as deep as it likes. What a person does not see is left out: head, scripts, styles,
comments, templates, drawings (SVG), what stands in for scripts that do not run, and control characters.

Text that stands directly inside an element belongs to that element, also after a child: in ``<p>a <b>c</b> d</p>`` the own
text of ``p`` is "a d" and that of ``b`` is "c".
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nolabel.data.dom_builder import events
from nolabel.data.encodings import decoded

#: Attributes whose values tell something about the content.
ATTRIBUTES = ("class", "id", "title", "aria-label", "alt")

_WORD_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_-]+")
_START_TAG = re.compile(r"<[A-Za-z]")
_STEP = re.compile(r"([^/\[\]]+)(?:\[(\d+)\])?\Z")


@dataclass(frozen=True, eq=False)
class Page:
    """The visible tree of a page, nodes in pre-order (document order), ``body`` first.

    Attributes
    ----------
    tags : n names in lower case
    parents : int32 (n,) number of the parent, -1 for the body
    siblings : int32 (n,) index among the parent's kept children, from 0
    depths : int32 (n,) steps below the body
    ends : int32 (n,) number after the node's last descendant: ``range(i, ends[i])`` is the subtree of i
    texts : n own texts, white space collapsed
    attributes : n dicts of the chosen attributes' values, white space collapsed, empty ones left out
    steps : n last steps of the XPaths, such as ``div[2]``; see `xpath`
    text : all visible text, blocks on lines of their own, white space collapsed within a line
    spans : int32 (n, 2) where in `text` that which is inside a node begins and ends
    encoding : that of the bytes, or ``unicode`` where a str came
    replaced : characters that could not be read and now are U+FFFD
    """

    tags: list[str]
    parents: np.ndarray
    siblings: np.ndarray
    depths: np.ndarray
    ends: np.ndarray
    texts: list[str]
    attributes: list[dict[str, str]]
    steps: list[str]
    text: str
    spans: np.ndarray
    encoding: str
    replaced: int

    def __len__(self) -> int:
        return len(self.tags)

    def full_text(self, node: int) -> str:
        """The text of a node and all its descendants, on one line."""
        begin, end = self.spans[node]
        return self.text[begin:end].replace("\n", " ")

    def name_text(self, node: int, attributes: Sequence[str] = ATTRIBUTES) -> str:
        """What an encoder reads of a node before its own text: its tag and the words of its attributes' values."""
        values = self.attributes[node]
        named = [_WORD_BORDER.sub(" ", values[name]) for name in attributes if name in values]
        return " ".join(" ".join([self.tags[node], *named]).split())

    def node_text(self, node: int, attributes: Sequence[str] = ATTRIBUTES) -> str:
        """What an encoder reads of a node: its tag, the words of its attributes' values, its own text.

        >>> parse_html('<h2 class="recipeTitle main_head">Pea soup</h2>').node_text(1)
        'h2 recipe Title main head Pea soup'
        """
        return f"{self.name_text(node, attributes)} {self.texts[node]}".rstrip()

    def xpath(self, node: int) -> str:
        """The absolute XPath of a node, with a position in every step; lxml's tree of the same page understands it."""
        steps = []
        while node >= 0:
            steps.append(self.steps[node])
            node = int(self.parents[node])
        return "/".join(["", "html[1]", *reversed(steps)])

    def nodes_at(self, xpaths: Iterable[str]) -> list[int]:
        """The nodes that absolute XPaths lead to; a step without a position means the first.

        Raises
        ------
        ValueError
            For an XPath that is not absolute, or that leads to no node of the visible tree.
        """
        below = {(int(parent), step): node for node, (parent, step) in enumerate(zip(self.parents, self.steps))}
        return [_followed(xpath, below) for xpath in xpaths]

    def post_order(self) -> np.ndarray:
        """Nodes in post-order, int64 (n,): each after all its descendants."""
        return np.lexsort((-np.arange(len(self)), self.ends))


def _followed(xpath: str, below: dict[tuple[int, str], int]) -> int:
    """Walk down from the body; `below` holds the child at each (node, step)."""
    parts = [_STEP.match(step) for step in xpath.split("/")[1:]] if xpath.startswith("/") else []
    steps = [f"{part[1]}[{part[2] or 1}]" for part in parts if part is not None]
    if len(steps) < 2 or len(steps) < len(parts) or steps[0] != "html[1]":
        raise ValueError(f"xpath: expected one such as /html/body/div[2]/p[1], got {xpath!r}")
    node = -1
    for depth, step in enumerate(steps[1:], 2):
        found = below.get((node, step))
        if found is None:
            raise ValueError(f"xpath: {xpath} leads to no visible node: there is no {'/'.join(['', *steps[:depth]])}")
        node = found
    return node


def parse_html(html: str | bytes, *, encoding: str | None = None, attributes: Sequence[str] = ATTRIBUTES) -> Page:
    """Parse and clean a page.

    Parameters
    ----------
    html : the page as text, or as bytes in any encoding; see `decoded` for how it is found
    encoding : of the bytes, where it is known from outside, such as from an HTTP header
    attributes : those whose values are kept

    Raises
    ------
    ValueError
        If there is no tag in it, nothing in its body, or no such encoding.
    TypeError
        For anything but str and bytes.
    ImportError
        Without lxml: ``pip install nolabel[html]``.

    Examples
    --------
    >>> page = parse_html("<body><ul id=list><li>one<li>two <b>2</b> too</ul>")
    >>> page.tags, page.parents.tolist(), page.texts
    (['body', 'ul', 'li', 'li', 'b'], [-1, 0, 1, 1, 3], ['', '', 'one', 'two too', '2'])
    >>> page.xpath(4), page.full_text(3), page.attributes[1]
    ('/html[1]/body[1]/ul[1]/li[2]/b[1]', 'two 2 too', {'id': 'list'})
    """
    if not isinstance(html, str | bytes):
        raise TypeError(f"html: expected str or bytes, got {type(html).__name__}")
    if isinstance(html, str):
        text, found, replaced = html, "unicode", 0
    else:
        text, found = decoded(html, encoding)
        replaced = text.count("\ufffd")
    if not _START_TAG.search(text):
        raise ValueError(f"html: expected a page, found no tag in {text[:40]!r}")
    fields = events(text, attributes).fields()
    if len(fields["tags"]) < 2 and not fields["text"]:
        raise ValueError(f"html: the body is empty in {text[:40]!r}")
    return Page(**fields, encoding=found, replaced=replaced)


def parse_pages(htmls: Iterable[str | bytes | Page], *, attributes: Sequence[str] = ATTRIBUTES) -> list[Page]:
    """`parse_html` of many pages; an error names the index of the page, and equal pages become one object.

    Pages that are parsed stay as they are. One warning counts those with bytes that are no text.

    >>> parse_pages(["<p>fine", "<p></p>", "no page"])
    Traceback (most recent call last):
    ValueError: html[2]: expected a page, found no tag in 'no page'
    """
    if isinstance(htmls, str | bytes):
        raise TypeError("html: expected a list of pages, got a single one")
    pages: list[Page] = []
    known: dict[str | bytes, Page] = {}
    for index, html in enumerate(htmls):
        if isinstance(html, Page):
            pages.append(html)
            continue
        try:
            if not isinstance(html, str | bytes) or html not in known:
                known[html] = parse_html(html, attributes=attributes)
        except (ValueError, TypeError) as error:
            raise type(error)(f"html[{index}]: {str(error).removeprefix('html: ')}") from None
        pages.append(known[html])
    warn_of_replaced(pages)
    return pages


def warn_of_replaced(pages: Sequence[Page]) -> None:
    """Say how many pages came as bytes of which some are no text."""
    damaged = [index for index, page in enumerate(pages) if page.replaced]
    if damaged:
        text = f"{len(damaged)} of {len(pages)} pages hold bytes that are no text in their encoding, read as U+FFFD"
        warnings.warn(f"{text}; first html[{damaged[0]}]", stacklevel=3)


def visible_text(html: str | bytes) -> str:
    """The text of a page that a person sees: blocks on lines of their own, cells of a row separated by a space.

    Parameters and errors are those of `parse_html`.

    >>> visible_text("<h1>Soup</h1><script>x=1</script><p>1&nbsp;l <b>wa</b>ter<br>salt<table><tr><td>a<td>b</table>")
    'Soup\\n1 l water\\nsalt\\na b'
    """
    return parse_html(html).text
