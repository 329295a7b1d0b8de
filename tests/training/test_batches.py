import threading

import numpy as np
import pytest
import torch

from nolabel.data import ColumnSource, read
from nolabel.data.parts import Joined, Parts, Whole
from nolabel.training.batches import (
    Some,
    cycled,
    epoch_plan,
    held_out_rows,
    prefetched,
    share_of_rank,
    shuffled,
    to_device,
)


def source(rows, name="x"):
    return ColumnSource(read({name: list(range(rows))}), [name])


def rng(seed=0):
    return np.random.default_rng(seed)


def test_shuffled_batches_hold_rows_once():
    batches = shuffled(23, 5, rng())
    assert [len(rows) for rows in batches] == [5, 5, 5, 5]
    seen = np.concatenate(batches)
    assert len(set(seen.tolist())) == 20
    assert sorted(seen.tolist()) != seen.tolist()
    assert shuffled(3, 4, rng()) == []


def test_cycled_rows_come_round_evenly():
    rows = cycled(7, 24, rng())
    assert len(rows) == 24
    for start in (0, 7, 14):
        assert sorted(rows[start : start + 7].tolist()) == list(range(7))
    assert not np.array_equal(rows[:7], rows[7:14])


def test_plans_by_kind_of_source():
    plain = epoch_plan(source(10), 4, rng())
    assert [len(rows) for rows in plain] == [4, 4]
    parts = Parts({"long": source(12), "short": source(5)})
    both = epoch_plan(parts, 4, rng())
    assert len(both) == 3
    assert sorted(np.concatenate([step["long"] for step in both]).tolist()) == list(range(12))
    short = np.concatenate([step["short"] for step in both])
    assert np.bincount(short, minlength=5).min() >= 2
    assert np.bincount(short).max() <= 3
    assert [rows.tolist() for rows in epoch_plan(Whole(object(), "graph", "f"), 4, rng())] == [[0]]


def test_shares_of_ranks_make_the_batch():
    whole = np.arange(9)
    assert [share_of_rank(whole, rank, 3).tolist() for rank in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    both = share_of_rank({"a": whole[:6], "b": whole[:4], "none": whole[:0]}, 1, 2)
    assert {name: rows.tolist() for name, rows in both.items()} == {"a": [3, 4, 5], "b": [2, 3], "none": []}
    with pytest.raises(ValueError, match="9 rows cannot be shared equally by 2 processes.* a multiple of 2"):
        share_of_rank(whole, 0, 2)


class Slow:
    """A source that notes where it was read, and may fail."""

    def __init__(self, fail_at=None):
        self.threads, self.fail_at = [], fail_at

    def batch(self, rows):
        self.threads.append(threading.current_thread())
        if rows == self.fail_at:
            raise OSError("unplugged")
        return rows * 10


def test_prefetched_keeps_the_order_and_reads_one_ahead():
    slow = Slow()
    stream = prefetched(slow, iter(range(4)))
    assert next(stream) == 0
    assert len(slow.threads) in (1, 2)  # the next one may be under way
    assert list(stream) == [10, 20, 30]
    assert threading.main_thread() not in slow.threads
    assert list(prefetched(slow, iter([]))) == []


def test_prefetched_hands_on_errors():
    stream = prefetched(Slow(fail_at=2), iter(range(4)))
    assert [next(stream), next(stream)] == [0, 10]
    with pytest.raises(OSError, match="unplugged"):
        next(stream)


def test_to_device_reaches_into_nested_batches():
    batch = {"part": {"x": torch.ones(2), "texts": ["a", "b"]}, "n": 3}
    moved = to_device(batch, torch.device("meta"))
    assert moved["part"]["x"].device.type == "meta"
    assert moved["part"]["texts"] == ["a", "b"]
    assert moved["n"] == 3


def test_held_out_rows():
    assert len(held_out_rows(200, 0)) == 10
    assert len(held_out_rows(3, 0)) == 1
    assert len(held_out_rows(100_000, 0)) == 1000
    rows = held_out_rows(200, 0)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert np.array_equal(rows, held_out_rows(200, 0))
    assert not np.array_equal(rows, held_out_rows(200, 1))


def test_some_rows():
    some = Some(source(10), np.array([7, 2, 5]))
    assert len(some) == 3
    assert some.batch(np.array([0, 2]))["x"].tolist() == [7, 5]
    assert some.fingerprint != source(10).fingerprint


def test_parts():
    parts = Parts({"long": source(12), "short": source(5)})
    assert len(parts) == 12
    batch = parts.batch({"long": np.array([11, 0]), "short": np.array([4, 4])})
    assert batch["long"]["x"].tolist() == [11, 0]
    assert batch["short"]["x"].tolist() == [4, 4]
    assert parts.fingerprint != Parts({"long": source(12), "short": source(6)}).fingerprint
    assert parts.fingerprint != Parts({"short": source(12), "long": source(5)}).fingerprint
    assert parts.skipped == []
    with pytest.raises(ValueError, match="parts is empty"):
        Parts({})


def test_joined():
    joined = Joined(source(4, "a"), source(4, "b"))
    assert {k: v.tolist() for k, v in joined.batch(np.array([3, 1])).items()} == {"a": [3, 1], "b": [3, 1]}
    assert len(joined) == 4
    assert joined.fingerprint == f"{source(4, 'a').fingerprint}|{source(4, 'b').fingerprint}"
    with pytest.raises(ValueError, match=r"joined sources must be equally long, got lengths \[4, 5\]"):
        Joined(source(4), source(5))


def test_whole():
    item = object()
    whole = Whole(item, "graph", "f00")
    assert whole.batch(np.zeros(1, int))["graph"] is item
    assert (len(whole), whole.fingerprint, whole.skipped) == (1, "f00", [])
