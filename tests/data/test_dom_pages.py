"""Pages of lists and tables: all of a list, the good ones of a table."""

import numpy as np
import pytest

from nolabel.data import parse_html, read
from nolabel.data.dom_pages import PageSource, open_pages, usable_pages
from nolabel.data.dom_tokens import WindowSource, node_means, page_means
from nolabel.data.tokenisers import train_wordpiece

pytest.importorskip("lxml")

TABLE = {"html": ["<p>one", "", None, "no page", "<p>two <b>three</b>"], "path": list("abcde")}


def test_a_table_keeps_its_good_rows():
    with pytest.warns(UserWarning, match=r"3 of 5 pages were skipped, first b: expected a page, found no tag in ''"):
        pages = open_pages(TABLE)
    assert [page.text for page in pages] == ["one", "two three"]
    assert pages.rows.tolist() == [0, 4]
    assert [(skip.row, skip.path) for skip in pages.skipped] == [(1, "b"), (2, "c"), (3, "d")]
    with pytest.raises(ValueError, match=r"html\[1\]: expected a page, found no tag .*leave such rows out"):
        pages.require_all()


def test_a_list_has_to_be_good_and_may_be_parsed():
    page = parse_html("<p>one")
    pages = open_pages([page, "<p>two", b"<p>three"])
    assert pages[0] is page
    assert pages.rows.tolist() == [0, 1, 2]
    assert pages.require_all() is pages
    with pytest.raises(ValueError, match=r"html\[1\]: expected a page"):
        open_pages(["<p>one", "none"])


def test_bytes_that_are_no_text_are_counted():
    with pytest.warns(UserWarning, match=r"1 of 2 pages hold bytes that are no text .*first html\[1\]"):
        pages = open_pages(["<p>fine", b'<meta charset="utf-8"><p>\xff\xfe broken'])
    assert pages[1].replaced == 2


@pytest.mark.parametrize(
    ("html", "error", "message"),
    [
        ("<p>one", TypeError, "expected a list of pages, got a single one"),
        (b"<p>one", TypeError, "expected a list of pages, got a single one"),
        ([], ValueError, "the list is empty"),
        ({"text": ["a"]}, ValueError, "no column 'html'; the columns are text"),
        ({"html": ["a", "b"]}, ValueError, "none of the 2 rows of 'html' is a page; row 0: expected a page"),
        ({"html": [1, 2]}, TypeError, "'html' holds a int in row 0; expected texts or bytes"),
    ],
)
def test_bad_sources(html, error, message):
    with pytest.raises(error, match=message):
        open_pages(html)


def test_means_of_pages_by_hand():
    """A token counts once, however many windows its node is in; a cut node counts as many tokens as a window holds."""
    pages = usable_pages(read({"html": ["<p>a b</p><p>c</p><p>d d</p>", "<p>" + "a " * 30]}))
    tokeniser = train_wordpiece(["body p a b c d"] * 9, 60)
    windows = WindowSource(pages, tokeniser, max_tokens=9, stride=3)
    source = PageSource(windows, pages)
    assert (len(source), source.rows.tolist(), windows.room, windows.cut) == (2, [0, 1], 7, 1)
    rng = np.random.default_rng(0)
    outputs = [
        (np.array([row]), rng.normal(size=(1, len(windows.windows[row][1].nodes) + 1, 3)))  # one more: padding
        for row in rng.permutation(len(windows))
    ]
    found = page_means(windows, outputs)
    assert found.dtype == np.float32
    for number, nodes in enumerate(node_means(windows, outputs)):
        weights = np.minimum(windows.tokens[number].counts, 7)
        np.testing.assert_allclose(found[number], np.average(nodes, axis=0, weights=weights), rtol=1e-5)


def test_an_endless_page_does_not_make_up_the_rest():
    pages = usable_pages(read({"html": ["<p>a b</p>"] * 5 + ["<p>a b c d</p>" * 500]}))
    windows = WindowSource(pages, train_wordpiece(["body p a b c d"] * 9, 60), max_tokens=9, stride=3)
    before = len(windows)
    with pytest.warns(
        UserWarning, match=rf"{before - 69} of {before} windows are not learned from: 1 pages have more than 64"
    ):
        windows.even_out()
    assert np.bincount([number for number, _ in windows.windows]).tolist() == [1, 1, 1, 1, 1, 64]
    assert windows.windows[5][1].nodes[0] == 0
    assert windows.windows[-1][1].nodes[-1] == len(pages[5]) - 1
    assert len(windows.lengths["html"]) == len(windows) == 69
    windows.even_out()  # nothing more
    assert len(windows) == 69
