"""Keys and rows are the same in every process, evenly spread, and independent from salt to salt."""

import datetime
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch

from nolabel.ops.hashing import MISSING, canonical, column_keys, hash64, hashed_rows, salt64


def signed(keys):
    return torch.from_numpy(keys.view(np.int64))


def test_known_keys():
    """xxh3_64 of the UTF-8 text, as the reference implementation gives it."""
    assert int(hash64([""])[0]) == 0x2D06800538D394C2
    assert hash64(["a", "é"]).dtype == np.uint64


def test_the_same_in_another_process():
    code = "from nolabel.ops.hashing import *; print(hash64(['x', 17, 0.5]).tolist(), salt64('user', 1, 3))"
    found = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1] == f"{hash64(['x', 17, 0.5]).tolist()} {salt64('user', 1, 3)}\n"


@pytest.mark.parametrize(
    "same", [[1, 1.0, "1", np.int8(1), np.float32(1), b"1"], [True, np.True_, "true"], [-0.0, 0, "0"], [1e20, 10**20]]
)
def test_one_value_has_one_key_whatever_its_type(same):
    assert len({canonical(value) for value in same}) == 1
    assert len(set(hash64(same).tolist())) == 1


def test_different_values_have_different_keys():
    values = [0, 1, -1, 1.5, "a", "A", "a ", "", True, False, "None", None, float("inf"), datetime.date(2026, 1, 2)]
    assert len(set(hash64(values).tolist())) == len(values)
    assert canonical(True) != canonical(1)


def test_arrays_and_lists_agree():
    numbers = np.array([5, 3, 5, -2])
    for values in (
        numbers,
        numbers.astype(float),
        numbers.astype(np.int16),
        list(map(str, numbers)),
        numbers.astype("U2"),
    ):
        assert np.array_equal(hash64(values), hash64(numbers.tolist()))
    gaps = hash64(np.array([1.0, np.nan, np.nan]))
    assert gaps[1] == gaps[2] == MISSING == hash64([None])[0]
    assert np.array_equal(hash64(np.array([True, False])), hash64([True, False]))


def test_refused_values():
    with pytest.raises(
        TypeError, match="position 1: a category must be a text, number, boolean, date or bytes, got dict"
    ):
        hash64(["a", {}])
    with pytest.raises(ValueError, match=r"one-dimensional, got shape \(2, 2\)"):
        hash64(np.zeros((2, 2)))


def test_mix_by_hand():
    """The finaliser of SplitMix64 in plain Python integers, and its modulus."""
    key, salt, rows = 0xDEADBEEF12345678, 0xF00DF00DF00DF00D, 1000
    x = key ^ salt
    for shift, multiplier in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = ((x ^ (x >> shift)) * multiplier) % 2**64
    x ^= x >> 31
    found = hashed_rows(signed(np.array([key], np.uint64)), salt, rows)
    assert int(found) == (x >> 1) % rows


def test_rows_are_even_and_salts_independent():
    keys = signed(hash64(np.arange(20_000)))
    first, second = (hashed_rows(keys, salt64("user", chunk, 0), 50) for chunk in (0, 1))
    counts = torch.bincount(first, minlength=50).double()
    assert float(((counts - 400) ** 2 / 400).sum()) < 86  # chi-square of 49 degrees, 99.9 %
    together = torch.bincount(first * 50 + second, minlength=2500).double()
    assert float(((together - 8) ** 2 / 8).sum()) < 2500 + 4 * np.sqrt(5000)
    assert 0 <= int(first.min()) <= int(first.max()) < 50
    with pytest.raises(ValueError, match="rows must be at least 1, got 0"):
        hashed_rows(keys, 1, 0)


def test_salts_come_from_names_alone():
    assert len({salt64(name, chunk, seed) for name in ("a", "b") for chunk in range(12) for seed in (0, 1)}) == 48


def test_columns():
    single = column_keys(pa.chunked_array([[3, 4]]), "a")
    assert single.lengths is None
    assert np.array_equal(single.keys, hash64([3, 4]).view(np.int64))
    several = column_keys([["x", "y"], [], ("z",)], "tags")
    assert several.lengths.tolist() == [2, 0, 1]
    assert len(several) == 3
    taken = several.take(np.array([2, 0, 1, 2]))
    assert taken.lengths.tolist() == [1, 2, 0, 1]
    assert np.array_equal(taken.keys, hash64(["z", "x", "y", "z"]).view(np.int64))
    whole = column_keys([["x", "y"], ["y", "x"], [], ["x"]], "tags").whole()
    assert whole[0] == whole[1]
    assert len(set(whole.tolist())) == 3
    tensors = several.tensors()
    assert tensors["lengths"].tolist() == [2, 0, 1]


def test_bad_columns():
    with pytest.raises(TypeError, match=r"column 'a', row 1: a category must be .* got dict"):
        column_keys(["x", {}], "a")
    with pytest.raises(TypeError, match=r"column 'a', row 1: .* got ndarray"):
        column_keys(["x", np.zeros(2)], "a")
    with pytest.raises(TypeError, match=r"column 'tags', row 2: a category must be .* got list"):
        column_keys([["x"], [], ["y", ["z"]]], "tags")
    with pytest.raises(
        TypeError, match="column 'tags', row 1: a list of values was expected as in other rows, got str"
    ):
        column_keys([["x"], "y"], "tags")
    with pytest.raises(ValueError, match="column 'a': 2 of 3 values are missing"):
        column_keys([None, "x", float("nan")], "a")
    with pytest.raises(ValueError, match="column 'a': 1 of 2 values are missing"):
        column_keys([["x"], None], "a")
    kept = column_keys([None, "x", float("nan")], "a", missing="value").keys
    assert kept[0] == kept[2] != kept[1]
    with pytest.raises(TypeError, match="column 'a': an array or list of values was expected, got str"):
        column_keys("abc", "a")
    with pytest.raises(ValueError, match="missing must be 'error' or 'value', got 'drop'"):
        column_keys(["x"], "a", missing="drop")
