import pytest

from nolabel.data.dom import parse_html
from nolabel.data.dom_labels import match_nodes

pytest.importorskip("lxml")

RECIPE = """<nav><a>Home</a> <a>Pea soup</a></nav><h1> Pea
 soup</h1><div>by <b>Ann Bo</b></div>
<ul><li>1&nbsp;kg <i>peas</i></li><li><span><b>salt</b></span></li><li>salt and pepper</li></ul>
<p>Boil.</p><p>Boil.</p><p>Eat.</p>"""


def labelled(html, values):
    page = parse_html(html)
    result = match_nodes(page, values)
    return {page.xpath(node).removeprefix("/html[1]/body[1]/"): name for node, name in result.labels.items()}, result


def test_whole_texts_innermost_and_white_space():
    labels, result = labelled(
        RECIPE,
        {"author": "Ann  Bo", "ingredient": ["1 kg peas", "salt", "honey"], "instruction": ["Boil.", "Boil.", "Eat."]},
    )
    assert labels == {
        "div[1]/b[1]": "author",
        "ul[1]/li[1]": "ingredient",
        "ul[1]/li[2]/span[1]/b[1]": "ingredient",  # not the list item around it, nor the one that begins alike
        "p[1]": "instruction",  # expected twice and there twice
        "p[2]": "instruction",
        "p[3]": "instruction",
    }
    assert result.found == {"author": 1, "ingredient": 2, "instruction": 3}
    assert result.missing == {"author": 0, "ingredient": 1, "instruction": 0}
    assert not result.ambiguous


def test_ambiguous_values_are_counted_and_left_out():
    labels, result = labelled(RECIPE, {"title": "Pea soup", "instruction": "Boil."})
    assert labels == {}
    assert result.unclear == {"title": 1, "instruction": 1}
    page = parse_html(RECIPE)
    assert {page.xpath(node).rpartition("/")[2] for node in result.ambiguous} == {"a[2]", "h1[1]", "p[1]", "p[2]"}


def test_a_value_of_two_attributes_is_nobodys():
    labels, result = labelled("<h1>Ann</h1><p>x</p>", {"title": "Ann", "author": ["Ann", "x"]})
    assert labels == {"p[1]": "author"}
    assert result.ambiguous == {1}
    assert (result.unclear, result.found) == ({"title": 1, "author": 1}, {"title": 0, "author": 1})


def test_xpaths_are_kept():
    page = parse_html(RECIPE)
    result = match_nodes(page, {"author": "Ann Bo", "title": "Pea soup"})
    found = result.xpaths(page)
    assert found == {
        "/html[1]/body[1]/div[1]/b[1]": "author",
        "/html[1]/body[1]/nav[1]/a[2]": None,
        "/html[1]/body[1]/h1[1]": None,
    }
    assert page.nodes_at(found) == [*result.labels, *sorted(result.ambiguous)]


def test_text_across_nodes_and_parts_of_words():
    assert labelled("<p>a<b>b</b>c</p>", {"x": "abc"})[0] == {"p[1]": "x"}
    assert labelled("<p>a<b>b</b>c</p>", {"x": "b"})[0] == {"p[1]/b[1]": "x"}
    assert labelled("<p>abc</p>", {"x": "b"})[0] == {}
    assert labelled("<dl><dt>a</dt><dd>b</dd></dl>", {"x": "a b"})[0] == {"dl[1]": "x"}


def test_empty_and_wrong_values():
    labels, result = labelled("<p></p><p>x</p>", {"a": "", "b": [], "c": ["  ", "x"]})
    assert labels == {"p[2]": "c"}
    assert result.missing == {"a": 0, "b": 0, "c": 0}
    with pytest.raises(TypeError, match=r"values\['a'\]: expected str, got NoneType"):
        labelled("<p>x</p>", {"a": None})
    with pytest.raises(TypeError, match=r"values\['a'\]: expected str, got int"):
        labelled("<p>x</p>", {"a": ["x", 3]})
