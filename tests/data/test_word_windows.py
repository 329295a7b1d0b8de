import numpy as np
import pytest
import torch

from nolabel.data.word_windows import WordLists, WordWindows

IDS = np.array([10, 11, 12, 13, 20, 30, 31], np.int32)
OFFSETS = np.array([0, 4, 4, 5, 7])


def test_windows_end_with_their_text():
    windows = WordWindows(IDS, OFFSETS, before=2, after=1)
    assert (len(windows), windows.texts) == (7, 4)
    batch = windows.batch(np.arange(7))
    assert batch["word"].tolist() == IDS.tolist()
    assert batch["document"].tolist() == [0, 0, 0, 0, 2, 3, 3]
    assert batch["context"].tolist() == [
        [-1, -1, 11], [-1, 10, 12], [10, 11, 13], [11, 12, -1], [-1, -1, -1], [-1, -1, 31], [-1, 30, -1],
    ]  # fmt: skip
    assert all(values.dtype == torch.int64 for values in batch.values())
    assert set(WordWindows(IDS, OFFSETS).batch(np.array([0]))) == {"word", "document"}


def test_thinned_out_words_are_nobodys_neighbours():
    windows = WordWindows(IDS, OFFSETS, before=2, after=2)
    keep = np.ones(40)
    keep[[11, 12, 30]] = 0
    kept = windows.thin(keep, np.random.default_rng(0))
    assert kept.tolist() == [0, 3, 4, 6]
    context = windows.batch(np.arange(7))["context"].tolist()
    assert context[0] == [-1, -1, 13, -1]
    assert context[3] == [-1, 10, -1, -1]
    assert context[1] == context[2] == [-1, 10, 13, -1]  # a word that was left out still sees those that stay
    assert context[5] == [-1, -1, 31, -1]
    assert context[6] == [-1, -1, -1, -1]


def test_thinning_follows_probability_and_seed():
    ids = np.zeros(20000, np.int32)
    windows = WordWindows(ids, np.array([0, 20000]), before=1)
    first = windows.thin(np.array([0.3]), np.random.default_rng(1))
    assert len(first) / 20000 == pytest.approx(0.3, abs=0.02)
    assert np.array_equal(first, windows.thin(np.array([0.3]), np.random.default_rng(1)))
    assert len(windows.thin(np.array([0.0]), np.random.default_rng(1))) == 1  # something always stays
    assert windows.batch(np.array([5, 19999]))["context"].tolist() == [[0], [0]]


def test_lists_hold_whole_texts():
    lists = WordLists(WordWindows(IDS, OFFSETS, before=1))
    assert len(lists) == 4
    batch = lists.batch(np.array([3, 1, 0]))
    assert batch["word"].tolist() == [30, 31, 10, 11, 12, 13]
    assert batch["document"].tolist() == [0, 0, 2, 2, 2, 2]
    assert batch["lengths"].tolist() == [2, 0, 4]
    assert batch["context"].tolist() == [[-1], [30], [-1], [10], [11], [12]]
    assert lists.batch(np.array([1]))["word"].tolist() == []


def test_rows_are_checked_and_content_fingerprinted():
    windows = WordWindows(IDS, OFFSETS)
    with pytest.raises(ValueError, match="positions from 0 to 6"):
        windows.batch(np.array([7]))
    assert windows.fingerprint == WordWindows(IDS.copy(), OFFSETS.copy()).fingerprint
    assert windows.fingerprint != WordWindows(IDS, np.array([0, 3, 4, 5, 7])).fingerprint
