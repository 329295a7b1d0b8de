"""Hamming distances by hand and against a slow count, ties, filters, inverted lists, and files."""

import numpy as np
import pytest

from nolabel.search import codes
from nolabel.search.codes import Codes, Kept, choose, nearest


def random_codes(rows, width=8, seed=0, centres=0):
    """Uniform bytes, or bits flipped with probability 0.1 around so many centres."""
    rng = np.random.default_rng(seed)
    if not centres:
        return rng.integers(0, 256, (rows, width), dtype=np.uint8)
    middle = rng.integers(0, 256, (centres, width), dtype=np.uint8)[rng.integers(0, centres, rows)]
    return middle ^ np.packbits(rng.random((rows, 8 * width)) < 0.1, axis=1)


def slow(queries, rows, k, keep=None):
    """Distances of the k nearest and their rows, by (distance, row)."""
    distances = np.unpackbits(queries[:, None] ^ rows[None], axis=2).sum(2).astype(int)
    among = np.arange(len(rows)) if keep is None else np.flatnonzero(keep)
    order = among[np.argsort(distances[:, among], axis=1, kind="stable")[:, :k]]
    return np.take_along_axis(distances, order, 1), order


@pytest.fixture
def small_limits(monkeypatch):
    """Inverted lists from 1,000 codes of 8 bytes on, filters too large to be copied from 100 on."""
    monkeypatch.setattr(codes, "FLAT_BYTES", 8 * 1000)
    monkeypatch.setattr(codes, "GATHERED_BYTES", 8 * 100)
    monkeypatch.setattr(codes, "BLOCK_ROWS", 300)


def built(folder, X, kind=None):
    Codes.build(folder, iter([X[:700], X[700:]]), len(X), X.shape[1], kind)
    return Codes.load(folder)


def test_distances_by_hand():
    rows = np.array([[0b1111], [0b0000], [0b0011], [0b1100]], dtype=np.uint8)
    distances, at = nearest(np.array([[0b0001]], dtype=np.uint8), rows, 4)
    assert (distances.tolist(), at.tolist()) == ([[1, 1, 3, 3]], [[1, 2, 0, 3]])


@pytest.mark.parametrize("width", [1, 3, 8, 20, 32])
def test_flat_equals_a_slow_count_with_ties_by_row(tmp_path, width):
    X = random_codes(1500, width)
    found = built(tmp_path, X)
    assert found.kind == "flat"
    queries = random_codes(20, width, seed=1)
    distances, rows = found.search(queries, 30)
    expected, order = slow(queries, X, 30)
    np.testing.assert_array_equal(distances, expected)
    np.testing.assert_array_equal(rows, order)


@pytest.mark.parametrize("share", [0.02, 0.6])  # copied once, and compared in blocks
def test_kept_rows_equal_a_slow_count(tmp_path, small_limits, share):
    X = random_codes(1500)
    keep = np.random.default_rng(2).random(1500) < share
    found = built(tmp_path, X, "flat")
    kept = Kept(found, np.flatnonzero(keep))
    assert (kept.matrix is None) == (share > 0.1)
    queries = random_codes(10, seed=1)
    distances, rows = found.search(queries, 40, kept)
    expected, order = slow(queries, X, 40, keep)
    np.testing.assert_array_equal(distances, expected)
    np.testing.assert_array_equal(rows, order)


def test_lists_find_nearly_what_a_slow_count_finds(tmp_path, small_limits):
    X, queries = np.split(random_codes(4100, centres=40), [4000])
    found = built(tmp_path, X)
    assert found.kind == "lists"
    assert 8 <= found.lists_visited <= len(found.sizes) // 4
    for keep in (None, np.arange(4000) % 2 == 0, np.arange(4000) % 30 == 0):
        kept = None if keep is None else Kept(found, np.flatnonzero(keep))
        distances, rows = found.search(queries, 10, kept)
        expected, order = slow(queries, X, 10, keep)
        assert (distances == expected).mean() >= 0.97
        assert keep is None or keep[rows].all()
        np.testing.assert_array_equal(np.unpackbits(queries[:, None] ^ X[rows], axis=2).sum(2), distances)
        np.testing.assert_array_equal(found.search(queries, 10, kept, exact=True)[1], order)
    again = [found.search(queries, 10)[1] for _ in range(2)]
    np.testing.assert_array_equal(*again)


def test_ties_through_lists_go_to_the_earlier_row(tmp_path, small_limits):
    X = np.repeat(random_codes(50, centres=10), 40, axis=0)
    found = built(tmp_path, X)
    assert found.kind == "lists"
    rows = found.search(X[::40], 7)[1]
    first = np.array([np.flatnonzero((code == X).all(1))[:7] for code in X[::40]])
    np.testing.assert_array_equal(rows, first)


def test_codes_without_structure_are_compared_one_by_one(tmp_path, small_limits):
    found = built(tmp_path, random_codes(3000))  # uniform bits: the nearest lie anywhere
    assert (found.kind, found.lists_visited) == ("flat", None)


def test_more_than_there_is(tmp_path, small_limits):
    X = random_codes(3000, centres=20)
    found = built(tmp_path, X)
    distances, rows = found.search(X[:2], 5000)
    assert rows.shape == (2, 3000)
    assert (np.diff(distances.astype(int), axis=1) >= 0).all()


def test_choice_by_size():
    assert choose(2**21, 32) == "flat"
    assert choose(2**21 + 1, 32) == "lists"


def test_damaged_and_wrong_files(tmp_path):
    X = random_codes(1500)
    (tmp_path / "a").mkdir()
    built(tmp_path / "a", X)
    with (tmp_path / "a" / "codes.npy").open("r+b") as file:
        file.seek(2000)
        file.write(bytes(3000))
    with pytest.raises(ValueError, match=r"^codes.npy is damaged$"):
        Codes.load(tmp_path / "a")
    with pytest.raises(RuntimeError, match=r"^expected 10 rows to build from, got 9$"):
        (tmp_path / "b").mkdir()
        Codes.build(tmp_path / "b", iter([X[:9]]), 10, 8)
