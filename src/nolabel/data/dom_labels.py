"""Labels for the nodes of a page from values that are known to stand on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nolabel.data.dom import Page
from nolabel.data.dom_builder import seen


@dataclass(frozen=True)
class NodeLabels:
    """Which nodes hold which attribute's values.

    Attributes
    ----------
    labels : attribute by node
    ambiguous : nodes whose text is a value, but so is that of more nodes than expect it, or of another attribute: neither
        to be learned nor to be counted as nothing
    found : values that label nodes, by attribute
    unclear : values that only ambiguous nodes hold, by attribute
    missing : values that no node's text is equal to, by attribute
    """

    labels: dict[int, str]
    ambiguous: set[int] = field(default_factory=set)
    found: dict[str, int] = field(default_factory=dict)
    unclear: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)

    def xpaths(self, page: Page) -> dict[str, str | None]:
        """The labels as attribute by XPath; None for those that are ambiguous."""
        unknown = {page.xpath(node): None for node in sorted(self.ambiguous - set(self.labels))}
        return {page.xpath(node): attribute for node, attribute in self.labels.items()} | unknown


def match_nodes(page: Page, values: Mapping[str, str | Sequence[str]]) -> NodeLabels:
    """Label the nodes whose whole text equals a known value, white space apart.

    Of nested nodes with the same text the innermost is labelled. A value that more nodes hold than expect it, or that two
    attributes have, is ambiguous: that the same words are the title in the heading and a link in the menu, text cannot tell.

    Parameters
    ----------
    page : n nodes
    values : value or values by attribute; empty ones are passed over

    Examples
    --------
    >>> from nolabel.data.dom import parse_html
    >>> page = parse_html("<a>Soup</a><h1>Soup</h1><p>by <b>Ann</b></p><li>1 <i>onion</i></li>")
    >>> found = match_nodes(page, {"title": "Soup", "author": "Ann", "ingredient": ["1 onion", "salt"]})
    >>> {path.removeprefix("/html[1]/body[1]"): attribute for path, attribute in found.xpaths(page).items()}
    {'/p[1]/b[1]': 'author', '/li[1]': 'ingredient', '/a[1]': None, '/h1[1]': None}
    >>> found.unclear["title"], found.missing["ingredient"]
    (1, 1)
    """
    innermost = {(int(begin), int(end)): node for node, (begin, end) in enumerate(page.spans)}
    line = page.text.replace("\n", " ")
    expected = {attribute: _texts(attribute, given) for attribute, given in values.items()}
    owners = Counter(text for texts in expected.values() for text in texts)
    result = NodeLabels({})
    for attribute, texts in expected.items():
        tally = dict.fromkeys(("found", "unclear", "missing"), 0)
        for text, times in texts.items():
            nodes = _holding(text, line, innermost)
            clear = bool(nodes) and len(nodes) <= times and owners[text] == 1
            if clear:
                result.labels.update(dict.fromkeys(nodes, attribute))
            else:
                result.ambiguous.update(nodes)
            tally["found" if clear else "unclear" if nodes else "missing"] += times
        for name, number in tally.items():
            getattr(result, name)[attribute] = number
    return result


def standing(page: Page, values: Sequence[str]) -> set[str]:
    """Those of the values, white space collapsed, that are the whole text of some node.

    >>> from nolabel.data.dom import parse_html
    >>> standing(parse_html("<h1>Pea soup</h1>"), ["Pea  soup", "soup"])
    {'Pea soup'}
    """
    innermost = {(int(begin), int(end)): node for node, (begin, end) in enumerate(page.spans)}
    line = page.text.replace("\n", " ")
    return {text for text in _texts("", values) if _holding(text, line, innermost)}


def _texts(attribute: str, given: str | Sequence[str]) -> Counter[str]:
    """How often each value is expected."""
    items = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    wrong = [item for item in items if not isinstance(item, str)]
    if wrong:
        raise TypeError(f"values[{attribute!r}]: expected str, got {type(wrong[0]).__name__}")
    return Counter(text for item in items if (text := " ".join(seen(item).split())))


def _holding(text: str, line: str, innermost: Mapping[tuple[int, int], int]) -> list[int]:
    """The innermost nodes whose whole text this is; `line` is the page's text."""
    nodes, begin = [], line.find(text)
    while begin >= 0:
        node = innermost.get((begin, begin + len(text)))
        if node is not None:
            nodes.append(node)
        begin = line.find(text, begin + 1)
    return nodes
