import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from nolabel.data.dom import parse_html
from nolabel.data.dom_subtrees import TAG_TABLE, TAGS, TREE, dom_subtrees, tree_ids

pytest.importorskip("lxml")

#: body, div, p, p, div, p, p; two tokens a paragraph, one for each of the others
PAGE = "<div><p>a</p><p>b</p></div><div><p>c</p><p>d</p></div>"


def as_written(page, counts, max_tokens, stride):
    """The algorithm word for word, going through all nodes again for each window: (context, new, cut)."""
    post = page.post_order().tolist()

    def tokens(nodes):
        return sum(counts[node] for node in nodes)

    def reaching(begin, wanted):
        taken = []
        while begin < len(page) and tokens(taken) < wanted:
            taken.append(begin)
            begin += 1
        return taken

    windows, new = [], reaching(0, max_tokens)
    while new:
        context, cut = list(range(new[0])), 0
        for node in post:
            if node in new or tokens(context + new) <= max_tokens:
                break
            if node in context:
                context.remove(node)
        while tokens(context + new) - cut > max_tokens:
            here = context + new
            if context and sum(page.parents[node] == context[0] for node in here) < 2:
                context.pop(0)
            elif len(new) > 1:
                new.pop()
            else:
                cut = tokens(new) - max_tokens
        windows.append((context, new, cut))
        new = reaching(new[-1] + 1, stride)
    return windows


def written(subtrees):
    return [(subtree.nodes[: subtree.first_new].tolist(), subtree.new.tolist(), subtree.cut) for subtree in subtrees]


def test_windows_by_hand():
    page = parse_html(PAGE)
    # the first takes 1 + 1 + 2 + 2; the second 1 + 2 and has room for the body and the finished div, not for its leaves
    assert written(dom_subtrees(page, 6, 3)) == [([], [0, 1, 2, 3], 0), ([0, 1], [4, 5], 0), ([0, 4, 5], [6], 0)]
    assert written(dom_subtrees(page, 100, 100)) == [([], list(range(7)), 0)]


def test_the_root_is_raised_when_the_ancestors_are_too_many():
    page = parse_html("<div><ul><li><p>a</p><p>b</p></li></ul></div>")  # body, div, ul, li, p, p: 1, 1, 1, 1, 2, 2
    assert written(dom_subtrees(page, 4, 2)) == [([], [0, 1, 2, 3], 0), ([2, 3], [4], 0), ([2, 3], [5], 0)]


def test_where_the_root_forks_new_nodes_wait():
    page = parse_html("<div><ul><li>a</li></ul></div><p>b</p>")  # body, div, ul, li, p: 1, 1, 1, 2, 2
    # li and p are new; body forks and may not be given up while p hangs on it, so p waits
    assert written(dom_subtrees(page, 4, 4))[1:] == [([1, 2], [3], 0), ([0, 1], [4], 0)]


def test_a_node_longer_than_a_subtree_is_cut_and_counted():
    page = parse_html("<p>" + "long " * 20 + "</p><p>b</p>")
    subtrees = dom_subtrees(page, 8, 2)
    assert written(subtrees) == [([], [0], 0), ([], [1], 13), ([0], [2], 0)]
    assert written(dom_subtrees(parse_html("<p>a</p>"), 1, 1)) == [([], [0], 0), ([], [1], 1)]


def random_page(rng, nodes):
    """A page of nested and neighbouring elements, as text."""
    pieces, depth = [], 0
    for number in range(nodes):
        while depth and rng.random() < 0.4:
            pieces.append("</div>")
            depth -= 1
        pieces.append(f"<div>{number}")
        depth += 1
    return parse_html("".join(pieces))


PAGES = some.builds(
    lambda seed, nodes: random_page(np.random.default_rng(seed), nodes), some.integers(0, 10**6), some.integers(1, 40)
)


@settings(max_examples=120, deadline=None)
@given(PAGES, some.integers(1, 30), some.data())
def test_as_written(page, max_tokens, data):
    stride = data.draw(some.integers(1, max_tokens))
    counts = data.draw(some.lists(some.integers(1, 9), min_size=len(page), max_size=len(page)))
    subtrees = dom_subtrees(page, max_tokens, stride, counts)
    assert written(subtrees) == as_written(page, counts, max_tokens, stride)
    assert [node for subtree in subtrees for node in subtree.new] == list(range(len(page)))  # new exactly once
    for subtree in subtrees:
        assert sum(counts[node] for node in subtree.nodes) - subtree.cut <= max_tokens
        assert set(page.parents[subtree.nodes[1:]]) <= set(subtree.nodes)  # connected
        assert (np.diff(subtree.nodes) > 0).all()
        check_ids(page, subtree)


def check_ids(page, subtree):
    nodes = subtree.nodes.tolist()
    ids = tree_ids(page, subtree)
    assert ids.shape == (len(nodes), len(TREE))
    assert ids.dtype == np.int64
    assert ids[:, 0].tolist() == list(range(1, len(nodes) + 1))
    assert ids[0, 1:4].tolist() == [0, 1, 1]
    for place, node in enumerate(nodes[1:], 1):
        parent = int(page.parents[node])
        assert nodes[ids[place, 1] - 1] == parent
        kept = [other for other in nodes[1:] if page.parents[other] == parent]
        assert kept[ids[place, 2] - 1] == node
        assert ids[place, 3] == ids[ids[place, 1] - 1, 3] + 1


def test_ids_by_hand():
    page = parse_html("<div><p>a</p><x-y>b</x-y></div><h1>c</h1>")
    ids = tree_ids(page, dom_subtrees(page, 100, 100)[0])
    assert ids[:, :4].tolist() == [[1, 0, 1, 1], [2, 1, 1, 2], [3, 2, 1, 3], [4, 2, 2, 3], [5, 1, 2, 2]]
    tags = ids[:, 4].tolist()
    assert tags[3] == 1  # an element of no standard
    assert [TAGS[tag - 2] for tag in tags if tag > 1] == ["body", "div", "p", "h1"]


def test_ids_of_a_raised_root_and_of_kept_siblings():
    page = parse_html(PAGE)
    second = dom_subtrees(page, 6, 3)[1]  # body, div, div, p
    assert tree_ids(page, second)[:, :4].tolist() == [[1, 0, 1, 1], [2, 1, 1, 2], [3, 1, 2, 2], [4, 3, 1, 3]]
    deep = parse_html("<div><ul><li><p>a</p><p>b</p></li></ul></div>")
    last = dom_subtrees(deep, 4, 2)[2]  # ul, li and the second p, which is now the first
    assert tree_ids(deep, last)[:, :4].tolist() == [[1, 0, 1, 1], [2, 1, 1, 2], [3, 2, 1, 3]]


def test_tags():
    assert len(set(TAGS)) == len(TAGS) <= TAG_TABLE - 2
    assert {"p", "div", "span", "h1", "td", "li", "a", "img", "body"} <= set(TAGS)


def test_deep_and_long_pages():
    deep = parse_html("<div>" * 100_000 + "x")
    subtrees = dom_subtrees(deep, 128, 48, np.ones(len(deep), int))
    assert sum(len(subtree.new) for subtree in subtrees) == len(deep)
    assert max(len(subtree.nodes) for subtree in subtrees) == 128
    assert subtrees[-1].nodes[0] == 100_000 - len(subtrees[-1].nodes) + 1
    wide = parse_html("<p>x</p>" * 50_000)
    assert sum(len(subtree.new) for subtree in dom_subtrees(wide, 128, 48, np.full(len(wide), 2))) == len(wide)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be a whole number of at least 1, got 0"),
        ({"max_tokens": 4.0}, "max_tokens must be a whole number of at least 1, got 4.0"),
        ({"stride": 0}, "stride must be a whole number of at least 1, got 0"),
        ({"stride": True}, "stride must be a whole number"),
        ({"stride": 9}, "stride must be at most max_tokens, 8, got 9"),
        ({"counts": [1, 2]}, r"counts must be 7 whole numbers, one a node, got int64 \(2,\)"),
        ({"counts": [0.5] * 7}, "counts must be 7 whole numbers"),
        ({"counts": [1, 1, 0, 1, 1, 1, 1]}, "counts must be at least 1, got 0 for node 2"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        dom_subtrees(parse_html(PAGE), **{"max_tokens": 8, "stride": 4, **options})


def test_html_is_parsed():
    html = "<div><p>a</p><p>b</p></div>"
    found, expected = dom_subtrees(html, 6, 3), dom_subtrees(parse_html(html), 6, 3)
    assert [subtree.nodes.tolist() for subtree in found] == [subtree.nodes.tolist() for subtree in expected]
    with pytest.raises(ValueError, match="found no tag"):
        dom_subtrees("no page", 6, 3)
