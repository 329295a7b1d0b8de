"""Queries of another encoder: through anchors that both have encoded."""

import numpy as np
import pytest

from nolabel.search import Index


def spaces(n=400, d=12, noise=0.0, seed=0):
    """One set of items in two spaces that a rotation, a scale and some noise tell apart; the second is wider."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(n, d)) + 2.0
    turn = np.linalg.qr(rng.normal(size=(20, 20)))[0][:d]
    return first, 7 * first @ turn + noise * rng.normal(size=(n, 20))


def made(path, vectors, metric="cosine"):
    index = Index.create(path, vectors.shape[1], metric=metric)
    index.add(vectors, {"name": [f"item {row}" for row in range(len(vectors))]})
    return index


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_scores_are_the_cosines_of_what_is_told_about_anchors(tmp_path, metric):
    first, second = spaces(60, 5)
    index, anchors = made(tmp_path, first, metric), np.array([7, 3, 50, 21])

    def told(z):
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        apart = unit - unit[anchors].mean(axis=0)
        apart /= np.linalg.norm(apart, axis=1, keepdims=True)
        r = apart @ apart[anchors].T
        return r / np.linalg.norm(r, axis=1, keepdims=True)

    expected = (told(second) @ told(first).T)[:3]
    for query, found in zip(range(3), index.search_across(second[:3], anchors, second[anchors], 60)):
        assert found.ids.tolist() == np.argsort(-expected[query], kind="stable").tolist()
        np.testing.assert_allclose(found.scores, np.sort(expected[query])[::-1], atol=2e-4)


def test_a_turned_and_scaled_space_finds_its_twins(tmp_path):
    first, second = spaces()
    index = made(tmp_path, first)
    anchors = np.arange(0, 400, 10)
    hits = index.search_across(second, anchors, second[anchors], 1)
    assert [int(one.ids[0]) for one in hits] == list(range(400))
    one = index.search_across(second[33], anchors, second[anchors], 3)
    assert one.to_dicts()[0]["name"] == "item 33"
    some = index.search_across(second[33], anchors, second[anchors], 3, where="id < 30")
    assert (some.ids < 30).all()
    wrong = [int(one.ids[0]) for one in index.search_across(second, anchors, second[anchors[::-1]], 1)]
    assert np.mean(np.array(wrong) == np.arange(400)) < 0.1  # anchors in another order say nothing


def test_rows_that_came_or_went_since(tmp_path):
    first, second = spaces()
    index = made(tmp_path, first[:300])
    index.add(first[300:], {"name": ["late"] * 100})
    index.delete(where="id = 350")
    anchors = np.arange(0, 300, 10)
    assert index.search_across(second[320], anchors, second[anchors], 1).ids.tolist() == [320]
    assert 350 not in index.search_across(second[350], anchors, second[anchors], 5).ids


def test_bad_input(tmp_path):
    first, second = spaces(40)
    index = made(tmp_path, first)
    for message, arguments in (
        ("anchors: 3 comes twice", (second[0], [3, 3], second[[3, 3]])),
        ("ids: the index holds no row 99", (second[0], [3, 99], second[[3, 4]])),
        ("expected one for each of 2 anchors or more, got 3 for 2", (second[0], [3, 4], second[[3, 4, 5]])),
        ("expected one for each of 2 anchors or more, got 1 for 1", (second[0], [3], second[[3]])),
        ("query: the index holds vectors of dimension 20", (first[0], [3, 4], second[[3, 4]])),
        ("anchor_vectors: row 1 is all zeros", (second[0], [3, 4], np.stack([second[0], 0 * second[0]]))),
    ):
        with pytest.raises(ValueError, match=message):
            index.search_across(*arguments)
    with pytest.raises(ValueError, match="k: expected a whole number of at least 1"):
        index.search_across(second[0], [3, 4], second[[3, 4]], 0)
    words = Index.create(tmp_path / "words", text="name")
    with pytest.raises(ValueError, match="compares vectors"):
        words.search_across(second[0], [3, 4], second[[3, 4]])
    with pytest.raises(ValueError, match="the index holds no 'colour' among id, vector, name"):
        index.rows([1], ["colour"])
    assert index.rows([2, 1], ["name"]).to_pydict() == {"name": ["item 2", "item 1"]}
