"""What is recommended, what is not again, and how good it was."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import nolabel
from nolabel.recommend import Popularity

LOG = {"user": [1, 1, 2, 2, 2, 3], "item": ["a", "b", "a", "b", "c", "a"]}
ITEMS = {"item": ["d", "a", "b", "c"]}


@pytest.fixture
def model():
    return Popularity().fit(LOG, items=ITEMS)


def test_the_most_popular_that_is_not_seen(model):
    assert model.item_counts_.tolist() == [0, 3, 2, 1]
    ids, scores = model.recommend([3, 1], k=2)
    assert ids.tolist() == [["b", "c"], ["c", "d"]]
    assert scores.tolist() == [[2, 1], [1, 0]]
    assert model.recommend("3", k=1)[0].tolist() == [["b"]]
    again, _ = model.recommend([1], k=3, exclude_seen=False)
    assert again.tolist() == [["a", "b", "c"]]


def test_fewer_than_asked_for(model):
    with pytest.warns(UserWarning, match="k=4: a user has only 1 items left that are not seen yet"):
        ids, scores = model.recommend([3, 2], k=4)
    assert ids.tolist() == [["b"], ["d"]]
    found, scores = model.ranked(np.array([1]), 4)
    assert found.tolist() == [[0, -1, -1, -1]]
    assert np.isneginf(scores[0, 1:]).all()


def test_scores_by_hand(model):
    """User 1: c first and d second, of which d was taken; user 3: b and c, both taken."""
    test = {"user": [1, 3, 3], "item": ["d", "b", "c"]}
    assert model.score(test, k=1) == pytest.approx((0 + 1 / 2) / 2)
    assert model.score(test, k=2) == 1.0
    found = model.evaluate(test, [1, 2])
    assert found["recall@2"] == 1
    assert found["ndcg@2"] == pytest.approx((1 / np.log2(3) + 1) / 2)
    assert found["map@2"] == pytest.approx((1 / 2 + 1) / 2)
    assert (found["users"], found["interactions"]) == (2, 3)
    rare = model.evaluate(test, [1], items=model.item_counts_ <= 1)
    assert (rare["users"], rare["interactions"], rare["recall@1"]) == (2, 2, 0)


def test_what_was_seen_does_not_count(model):
    assert model.evaluate({"user": [1, 1], "item": ["a", "c"]}, [1])["interactions"] == 1
    with pytest.raises(ValueError, match="none is left that a recommendation could have hit"):
        model.score({"user": [1], "item": ["a"]})


def test_add_seen(model):
    model.add_seen({"user": [1, 1], "item": ["c", "a"]})
    assert model.recommend([1], k=1)[0].tolist() == [["d"]]
    assert model.recommend([3], k=1)[0].tolist() == [["b"]]
    assert model.item_counts_.tolist() == [0, 3, 2, 1]


def test_save_and_clone(model, tmp_path):
    loaded = nolabel.load(model.save(tmp_path / "run"))
    assert loaded.recommend([3], k=2)[0].tolist() == [["b", "c"]]
    assert clone(model).fit(LOG).recommend(["3"], k=1)[0].tolist() == [["b"]]


def test_bad_input(model):
    with pytest.raises(NotFittedError):
        Popularity().recommend([1])
    with pytest.raises(KeyError, match="2 of 3 users were not there in training, such as 8, 9"):
        model.recommend([1, 8, 9])
    with pytest.raises(ValueError, match="k: an integer at least 1 was expected, got 0"):
        model.recommend([1], k=0)
    with pytest.raises(
        ValueError, match="item: 1 of 3 ids of the interactions are not in the table of items, such as c"
    ):
        Popularity().fit(LOG, items={"item": ["a", "b"]})
    with pytest.raises(ValueError, match="item: 1 come more than once, such as a"):
        Popularity().fit(LOG, items={"item": ["a", "b", "c", "a"]})
    with pytest.raises(ValueError, match="table of items: no column 'item'; the columns are id"):
        Popularity().fit(LOG, items={"id": ["a"]})
    with pytest.raises(ValueError, match="user: 1 of 1 ids .* such as 7"):
        model.score({"user": [7], "item": ["a"]})
