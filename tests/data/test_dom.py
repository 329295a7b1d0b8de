import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from nolabel.data.dom import Page, parse_html, parse_pages, visible_text

etree = pytest.importorskip("lxml.etree")

SHOP = """<!DOCTYPE html><html><head><title>Hidden</title><style>p {}</style></head>
<body class="shop main"><div id=top><h1 title="The name">Pea <em>green</em> soup</h1><img alt="A bowl" src=x>
<p>For <b>two</b> people</p><p></p></div><ul><li>peas<li>salt</ul></body></html>"""


def check_tree(page: Page) -> None:
    """What holds of every tree in pre-order."""
    n = len(page)
    assert [len(column) for column in (page.texts, page.attributes, page.steps)] == [n] * 3
    assert page.parents[0] == -1
    assert page.depths[0] == page.siblings[0] == 0
    assert page.ends[0] == n
    children = [[] for _ in range(n)]
    for node in range(1, n):
        parent = page.parents[node]
        assert parent < node < page.ends[node] <= page.ends[parent]
        assert page.depths[node] == page.depths[parent] + 1
        assert page.siblings[node] == len(children[parent])
        children[parent].append(node)
    for text in [*page.texts, page.text]:
        assert "\0" not in text
        assert text == text.strip()
    for node in range(n):
        begin, end = page.spans[node]
        assert 0 <= begin <= end <= len(page.text)
        if page.texts[node]:
            first, last = page.texts[node].split()[0], page.texts[node].split()[-1]
            assert first in page.full_text(node)
            assert last in page.full_text(node)


def test_a_page_by_hand():
    page = parse_html(SHOP)
    assert page.tags == ["body", "div", "h1", "em", "img", "p", "b", "p", "ul", "li", "li"]
    assert page.parents.tolist() == [-1, 0, 1, 2, 1, 1, 5, 1, 0, 8, 8]
    assert page.siblings.tolist() == [0, 0, 0, 0, 1, 2, 0, 3, 1, 0, 1]
    assert page.depths.tolist() == [0, 1, 2, 3, 2, 2, 3, 2, 1, 2, 2]
    assert page.ends.tolist() == [11, 8, 4, 4, 5, 7, 7, 8, 11, 10, 11]
    assert page.texts == ["", "", "Pea soup", "green", "", "For people", "two", "", "", "peas", "salt"]
    assert page.attributes[:5] == [{"class": "shop main"}, {"id": "top"}, {"title": "The name"}, {}, {"alt": "A bowl"}]
    assert page.text == "Pea green soup\nFor two people\npeas\nsalt"
    assert page.full_text(2) == "Pea green soup"
    assert page.full_text(0) == "Pea green soup For two people peas salt"
    assert page.full_text(7) == ""
    assert page.post_order().tolist() == [3, 2, 4, 6, 5, 7, 1, 9, 10, 8, 0]
    assert (page.encoding, page.replaced) == ("unicode", 0)
    check_tree(page)


def test_text_after_a_child_belongs_to_the_parent():
    page = parse_html("<p>one<b>two</b>three<i>four</i></p>five")
    own = dict(zip(page.tags, page.texts))
    assert own == {"body": "five", "p": "one three", "b": "two", "i": "four"}


def test_text_cut_by_entities_and_comments_stays_whole():
    assert parse_html("<p>fish &amp; ch<!-- x -->ips<script>1</script>!</p>").texts[1] == "fish & chips!"


def test_node_text():
    page = parse_html('<h1 id="mainTitle" class="a-b c_d">Pea</h1><img alt="big bowl">')
    assert page.node_text(1) == "h1 a b c d main Title Pea"
    assert page.node_text(1, attributes=()) == "h1 Pea"
    assert page.node_text(2) == "img big bowl"
    assert parse_html('<p data-x="y">z', attributes=("data-x",)).node_text(1, ("data-x",)) == "p y z"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a</p><p>b</p>", "a\nb"),
        ("a<b>b</b>c", "abc"),
        ("a <b> b</b> c", "a b c"),
        ("<table><tr><td>1<td>2<tr><td>3</table>", "1 2\n3"),
        ("a<br>b<hr>c", "a\nb\nc"),
        ("<div><div><div>deep</div></div></div>", "deep"),
        ("<p>a<img alt=picture>b", "a b"),
        ("<select><option>x<option>y</select>", "x\ny"),
        ("<pre>a\n  b</pre>", "a b"),
        ("<p>a</p>\n\n\n<p>\t</p>b", "a\nb"),
        ("<img alt=only>", ""),
    ],
)
def test_visible_text(html, text):
    assert visible_text(html) == text


@pytest.mark.parametrize(
    "unseen",
    [
        "<script>var x = '<p>no</p>';</script>",
        "<style>no {}</style>",
        "<!-- no <p>no</p> -->",
        "<svg><title>no</title><text>no<tspan>no</tspan></text></svg>",
        "<template><div>no</div></template>",
        "<noscript><img alt=no><p>no</p></noscript>",
        "<iframe>no</iframe>",
        "<object><p>no</p></object>",
        "<?php no ?>",
        "<![CDATA[no]]>",
        "<title>no</title>",
        "<script>no <!-- <script> no </script> no --></script>",
    ],
)
def test_what_nobody_sees_is_left_out(unseen):
    page = parse_html(f"<p>yes</p>{unseen}<p>also</p>")
    assert page.tags == ["body", "p", "p"]
    assert page.text == "yes\nalso"


def test_control_and_invisible_characters():
    page = parse_html('<p title="a\x01\u200bb">x\x00y\x07\u00ad \ufeffz\x85w\u00a0 \u2003v</p>\x00')
    assert page.texts[1] == "xy z w v"
    assert page.attributes[1] == {"title": "ab"}
    assert parse_html("<p>a&#0;b&#7;&shy;c").texts[1].replace("\ufffd", "") == "abc"


BROKEN = [
    "<p>one<p>two",
    "<div><p>x<div>y</p>z",
    "<b><i>x</b>y</i>",
    "<table><tr><td>1<table><td>2</table>",
    "<ul><li>a<ul><li>b</ul><li>c",
    "</p></div>x<br/></br>y",
    '<p a=1 a=2 =3 "4>x<p',
    "<a href=x>1<a href=y>2",
    "<form><div></form>x</div>",
    "<html><body><html><body>x<body id=b>y",
    '<o:p>w</o:p><foo-bar>x</foo-bar><a"b>y<1>z',
    "<div/><p/>x",
    "<textarea><p>raw</textarea>x",
    "<plaintext><b>x",
    "<p>a&bogus;&#x110000;&#55555;b",
    "<p>" + "<font>" * 300 + "x",
]


@pytest.mark.parametrize("html", BROKEN)
def test_broken_pages_and_their_xpaths(html):
    """XPaths hold in lxml's own tree of the page."""
    page = parse_html(html)
    check_tree(page)
    root = etree.fromstring(html, etree.HTMLParser(remove_comments=True, remove_pis=True, huge_tree=True))
    for node in range(len(page)):
        (found,) = root.xpath(page.xpath(node))
        assert found.tag == page.tags[node]
        assert "".join("".join(found.xpath("text()")).split()) == page.texts[node].replace(" ", "")
    assert page.nodes_at(page.xpath(node) for node in range(len(page))) == list(range(len(page)))


def test_positions_in_xpaths_count_what_is_left_out():
    page = parse_html('<body><script></script><p>a</p><svg></svg><p>b</p><x"y>c</x"y>')
    assert [page.xpath(node) for node in (1, 2, 3)] == [f"/html[1]/body[1]/{step}" for step in ("p[1]", "p[2]", "*[5]")]


def test_what_follows_the_end_belongs_to_the_body():
    page = parse_html("<p>a</body></html>after<div>x</div><html><p>y")
    assert page.tags == ["body", "p", "div", "p"]
    assert page.texts == ["after", "a", "x", "y"]
    assert page.xpath(3) == "/html[1]/body[1]/p[2]"


def test_xpaths_without_positions_and_wrong_ones():
    page = parse_html(SHOP)
    assert page.nodes_at(["/html/body/ul/li[2]", "/html[1]/body/div/h1"]) == [10, 2]
    with pytest.raises(ValueError, match=r"ul/li\[3\]/b leads to no visible node: there is no .*/ul\[1\]/li\[3\]$"):
        page.nodes_at(["/html/body/ul/li[3]/b"])
    for wrong in ("", "/", "//p", "html/body", "/html", "/body/p", "/html/body/p[last()]", "/html/body/p/"):
        with pytest.raises(ValueError, match="xpath: expected one such as /html/body"):
            page.nodes_at([wrong])


def test_depth_of_a_hundred_thousand():
    depth = 100_000
    assert depth > 50 * sys.getrecursionlimit()
    page = parse_html("<body>" + "<div>" * depth + "x" + "</div>" * depth + "<p>after</p>")
    assert len(page) == depth + 2
    assert page.depths[depth] == depth
    assert page.texts[depth] == "x"
    assert page.text == "x\nafter"
    assert page.parents[depth + 1] == 0
    assert page.full_text(1) == "x"
    assert page.post_order()[:2].tolist() == [depth, depth - 1]
    assert page.xpath(depth).count("/") == depth + 2
    assert page.nodes_at([page.xpath(depth)]) == [depth]


@pytest.mark.parametrize("tag", ["b", "font", "ul><li", "table><tr><td", "a", "p"])
def test_depth_without_end_tags(tag):
    page = parse_html(f"<{tag}>" * 20_000 + "x")
    assert page.text == "x"


def test_ten_megabytes():
    row = "<tr><td class=name>Potato &amp; leek</td><td>1 <b>kg</b>" + " and more" * 20 + "</td></tr>\n"
    page = parse_html("<table>" + row * (10_000_000 // len(row)) + "</table><p>" + "word " * 10_000)
    assert len(page) > 150_000
    assert page.texts[3] == "Potato & leek"
    assert len(page.texts[-1]) == 49_999


def test_bytes_in_any_encoding():
    html = "<meta charset=windows-1251><p>Привет"
    assert parse_html(html.encode("cp1251")).texts[1] == "Привет"
    assert parse_html(html.encode("utf-16")).texts[1] == "Привет"
    assert parse_html("<p>Привет".encode("koi8-r"), encoding="koi8-r").texts[1] == "Привет"
    invalid = parse_html(b"<meta charset=utf-8><p>caf\xe9 \xff\xfe")
    assert (invalid.texts[1], invalid.encoding, invalid.replaced) == ("caf\ufffd \ufffd\ufffd", "utf-8", 3)
    assert parse_html(html).texts[1] == "Привет"  # text is text, whatever it declares
    assert parse_html("<?xml version='1.0' encoding='koi8-r'?><p>д").texts[1] == "д"
    assert parse_html("<p>a\ud800b").texts[1] == "a?b"


@pytest.mark.parametrize(
    ("html", "error", "message"),
    [
        ("", ValueError, "found no tag in ''"),
        ("just text", ValueError, "expected a page, found no tag in 'just text'"),
        (b"%PDF-1.7 \x00\x01 << /Type >>", ValueError, "found no tag in '%PDF"),
        ("a < b", ValueError, "found no tag"),
        ("<html><body></body></html>", ValueError, "the body is empty in '<html><body>"),
        ("<html><head><title>x</title></head></html>", ValueError, "the body is empty"),
        ("<body>  \n <!-- x --><script>y</script></body>", ValueError, "the body is empty"),
        ("<p class='never closed>b</p><p>c", ValueError, "the body is empty"),
        ("<frameset><frame src=x></frameset>", ValueError, "the body is empty"),
        (None, TypeError, "expected str or bytes, got NoneType"),
        (3.5, TypeError, "expected str or bytes, got float"),
    ],
)
def test_no_page(html, error, message):
    with pytest.raises(error, match=f"html: .*{message}"):
        parse_html(html)
    with pytest.raises(error, match=rf"html\[2\]: .*{message}"):
        parse_pages(["<p>a", b"<p>b", html])


def test_equal_pages_are_parsed_once():
    first, second, third = parse_pages(["<p>a", b"<p>a", "<p>a"])
    assert first is third
    assert first is not second


def test_a_single_page_is_not_a_list():
    with pytest.raises(TypeError, match="expected a list of pages, got a single one"):
        parse_pages("<p>a</p>")


def test_without_lxml(monkeypatch):
    monkeypatch.setitem(sys.modules, "lxml", None)
    with pytest.raises(ImportError, match=r"lxml is needed to read HTML: pip install nolabel\[html\]"):
        parse_html("<p>a")


PIECES = some.sampled_from(
    ["<p>", "</p>", "<div class=x>", "</div>", "<b>", "</b>", "<script>", "</script>", "<!--", "-->", "<td>", "<table>",
     "</table>", "<svg>", "</svg>", "<li", ">", '"', "&amp;", "&#0;", "\0", "x", " ", "é", "</body>", "</html>", "<head>",
     "<title>", "<template>", "<br/>", "<![CDATA[", "<?", "]]>", "<textarea>", "<p title='", "<frameset>", "<select>"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(some.lists(PIECES | some.text(max_size=5), max_size=40).map("".join))
def test_any_text_is_a_tree_or_refused(html):
    try:
        page = parse_html(html)
    except ValueError as error:
        assert "html: " in str(error)
    else:
        check_tree(page)
        assert page.nodes_at([page.xpath(len(page) - 1)]) == [len(page) - 1]


@settings(max_examples=100, deadline=None)
@given(some.binary(max_size=60))
def test_any_bytes_are_a_tree_or_refused(data):
    check_tree(parse_html(b"<p>" + data + b"<p>x"))


def test_spans_of_empty_runs():
    page = parse_html("<div> <p> </p><p>a</p> <p></p></div>")
    np.testing.assert_array_equal(page.spans, [[0, 1], [0, 1], [0, 0], [0, 1], [0, 0]])
