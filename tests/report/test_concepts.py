"""The page of an explanation."""

import math
import re
from html.parser import HTMLParser

import numpy as np

from nolabel.explain.strategies import strategy_graph
from nolabel.report.concepts import ConceptsContents, ShownClass, ShownConcept, number, render, write_concepts

EVIL = "<script>alert('cat')</script>"


def contents(right=(1.0, 0.0, 1.0, 1.0)):
    phi = np.array([[3.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.1, 4.0]])
    right = np.array(right)
    graph = strategy_graph(phi, right, clusters=2, neighbours=2)
    picture = np.zeros((96, 196, 3), np.uint8)
    concepts = [
        ShownConcept("concept 1", 1.3, 0.5, 0.5, picture),
        ShownConcept(EVIL, -0.65, 0.5, math.nan, None),
    ]
    shown = ShownClass(
        EVIL, 1234, concepts, graph, right, ["concept 1", EVIL],
        {"nmf": {"relative error": 0.25, "zeros": 0.5}, "kmeans": {"relative error": 0.5, "zeros": 0.5}},
        {"gradient_input": {"deletion": 1.5, "fidelity": math.nan}},
    )  # fmt: skip
    return ConceptsContents(EVIL, "What it looks at", [shown], [(EVIL, "no image")], {"command": EVIL}, ["a remark"])


class Balanced(HTMLParser):
    """Counts the elements that are open."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], {}

    def handle_starttag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1


def test_nothing_from_outside_is_taken_for_html():
    page = render(contents())
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "script" not in parser.seen
    assert page.count("&lt;script&gt;") >= 6
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_bars_points_and_tables():
    page = render(contents())
    parser = Balanced()
    parser.feed(page)
    assert (parser.seen["circle"], parser.seen["img"], parser.seen["path"]) == (4, 1, 1)
    assert 'style="width:100.0%"' in page
    assert 'class="against" style="width:50.0%"' in page
    assert page.count('fill="var(--card)"') == 1  # the one image that is wrong
    assert "No image has any of it" in page
    assert "largest importance in 50 % of the images · 50 % of these are right" in page
    assert "gradient input" in page
    assert "<td>0.250</td><td>0.500</td>" in page
    assert "1,234" in page


def test_without_true_classes_nothing_is_said_of_them():
    page = render(contents([math.nan] * 4))
    assert "Hollow points" not in page
    assert "% right" not in page.split("<svg")[1]


def test_it_is_written_whole(tmp_path):
    path = write_concepts(tmp_path / "concepts.html", contents())
    assert path.read_text().endswith("</html>\n")
    assert [p.name for p in tmp_path.iterdir()] == ["concepts.html"]


def test_numbers():
    assert [number(v) for v in (0.0, 12.34567, 1234.5, -0.25)] == ["0.000", "12.346", "1,234", "\u22120.250"]
