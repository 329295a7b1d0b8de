"""Logs: what counts as one pair, whose number is whose, and splits in which nothing is seen twice."""

import numpy as np
import pandas as pd
import pytest

from nolabel.data.interactions import Identifiers, as_ids, read_interactions, split_interactions


def pairs(log):
    return set(zip(log.user_ids.values[log.users].tolist(), log.item_ids.values[log.items].tolist()))


def test_read_and_count():
    table = {"who": [7, 7, None, 9, 9], "item": ["a", "a", "b", None, "c"], "rating": [5, 3, 5, 5, 2]}
    log = read_interactions(table, columns={"user": "who"})
    assert pairs(log) == {(7, "a"), (9, "c")}
    assert (log.repeated, log.below) == (1, 0)
    assert [skip.row for skip in log.skipped] == [2, 3]
    assert log.item_counts.tolist() == [1, 1]
    assert log.times is None
    liked = read_interactions(table, columns={"user": "who"}, min_rating=3)
    assert pairs(liked) == {(7, "a")}
    assert (liked.repeated, liked.below) == (1, 1)
    assert read_interactions(liked) is liked


def test_of_a_repeated_pair_the_latest_counts():
    log = read_interactions({"user": [1, 1, 1], "item": [5, 5, 6], "timestamp": [3, 8, 4]})
    assert sorted(zip(log.items.tolist(), log.times.tolist())) == [(0, 8.0), (1, 4.0)]
    dates = pd.to_datetime(["2026-01-01", "2026-03-01", "2026-02-01"])
    log = read_interactions(pd.DataFrame({"user": [1, 1, 1], "item": [5, 5, 6], "timestamp": dates}))
    assert log.times[log.items == 0] > log.times[log.items == 1]


def test_ids():
    ids = Identifiers([17, 4])
    assert ids.codes(["4", 17.0, "x", np.int8(17)]).tolist() == [1, 0, -1, 0]
    assert as_ids([1.0, 2.0]).dtype == np.int64
    assert as_ids(["a", 3]).tolist() == ["a", "3"]
    with pytest.raises(ValueError, match="user: 1 come more than once, such as 4"):
        Identifiers([4, 5, 4], "user")
    with pytest.raises(ValueError, match="ids: 1 of 2 are missing"):
        as_ids(["a", None])
    with pytest.raises(TypeError, match="ids must be a list or an array, got str"):
        as_ids("abc")


def test_other_numbers():
    log = read_interactions({"user": [1, 2], "item": ["b", "a"]})
    other = log.numbered(Identifiers(["2", "1"]), Identifiers(["a", "b", "c"]))
    assert other.users.tolist() == [1, 0]
    assert other.items.tolist() == [1, 0]
    assert other.item_counts.tolist() == [1, 1, 0]
    items, begins = other.by_user()
    assert items.tolist() == [0, 1]
    assert begins.tolist() == [0, 1, 2]
    many = read_interactions({"user": [1] * 8, "item": list(range(8))})
    with pytest.raises(ValueError, match="item: 7 of 8 ids .* not in the table of items, such as 1, 2, 3, 4, 5$"):
        many.numbered(many.user_ids, Identifiers([0]))


def test_random_split():
    rng = np.random.default_rng(0)
    log = read_interactions({"user": rng.integers(0, 20, 300), "item": rng.integers(0, 50, 300)})
    train, test = split_interactions(log, 0.2, np.random.default_rng(1))
    assert len(test) == round(0.2 * len(log))
    assert not pairs(train) & pairs(test)
    assert pairs(train) | pairs(test) == pairs(log)
    assert train.user_ids is log.user_ids
    again = split_interactions(log, 0.2, np.random.default_rng(1))[1]
    assert np.array_equal(again.items, test.items)


def test_the_last_of_each_user():
    rng = np.random.default_rng(0)
    users = np.repeat([1, 2, 3], [10, 3, 1])
    log = read_interactions({"user": users, "item": np.arange(14), "timestamp": rng.permutation(14)})
    train, test = split_interactions(log, 0.2, rng, by="last")
    assert np.bincount(test.users).tolist() == [2, 1]
    assert np.bincount(train.users).tolist() == [8, 2, 1]
    for user in (0, 1):
        assert train.times[train.users == user].max() < test.times[test.users == user].min()


def test_bad_input():
    with pytest.raises(ValueError, match="interactions: no column 'user'; the columns are item, who"):
        read_interactions({"item": [1], "who": [2]})
    with pytest.raises(ValueError, match="interactions: none of 1 rows has a user and an item"):
        read_interactions(pd.DataFrame({"user": [None], "item": ["a"]}))
    with pytest.raises(ValueError, match="min_rating: no column 'rating'"):
        read_interactions({"user": [1], "item": [1]}, min_rating=3)
    with pytest.raises(ValueError, match="min_rating=9 leaves no interaction: the highest is 5"):
        read_interactions({"user": [1], "item": [1], "rating": [5]}, min_rating=9)
    with pytest.raises(ValueError, match="timestamp: expected numbers or times, got string"):
        read_interactions({"user": [1], "item": [1], "timestamp": ["noon"]})
    log = read_interactions({"user": [1, 1], "item": [1, 2]})
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="share must lie between 0 and 1, got 1"):
        split_interactions(log, 1, rng)
    with pytest.raises(ValueError, match="by='last' needs a column 'timestamp'"):
        split_interactions(log, 0.5, rng, by="last")
    with pytest.raises(ValueError, match="by must be 'random' or 'last', got 'first'"):
        split_interactions(log, 0.5, rng, by="first")
    with pytest.raises(ValueError, match="leaves nothing to train on"):
        split_interactions(read_interactions({"user": [1], "item": [1]}), 0.5, rng)


def test_an_empty_cell_is_no_id(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item\nann,tea\n,tea\nbob,\nbob,  \n")
    with pytest.warns(UserWarning, match="3 of 4 interactions were skipped, first row 1: no user or no item"):
        log = read_interactions(path)
    assert (len(log), [skip.row for skip in log.skipped]) == (1, [1, 2, 3])
