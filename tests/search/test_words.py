"""Words, stems and counts by hand."""

import numpy as np

from nolabel.search.words import content_words, count, languages, positions, split, stacked


def test_split():
    assert split("It's 3 o'clock: CAFÉ_au-lait!") == ["it", "s", "3", "o", "clock", "café", "au", "lait"]
    assert split("ﬁne ｗide") == ["fine", "wide"]  # compatibility forms
    assert split("x" * 41 + " y") == ["y"]
    assert split(" .,;\n") == []


def test_content_words():
    assert content_words(["what", "is", "the", "lift", "of", "a", "wing"], "english") == ["lift", "wing"]
    assert content_words(["to", "be", "or", "not", "to", "be"], "english") == ["to", "be", "or", "not", "to", "be"]
    assert content_words(["the", "wing"], "german") == ["the", "wing"]


def test_count_by_hand():
    found = count(["Wings and a wing", None, "", "zebra winging"], "english")
    assert found.words.tolist() == [b"a", b"and", b"wing", b"zebra"]
    assert found.matrix.toarray().tolist() == [[1, 1, 2, 0], [0] * 4, [0] * 4, [0, 0, 1, 1]]
    assert found.lengths.tolist() == [4, 0, 0, 2]
    plain = count(["Wings wing"], None)
    assert plain.words.tolist() == [b"wing", b"wings"]
    assert "english" in languages()


def test_stacked_and_indexed_is_counted_at_once():
    texts = ["one two", "two three three", None, "four über two"]
    whole = count(texts, "english")
    parts = stacked([count(texts[:1], "english"), count(texts[1:3], "english"), count(texts[3:], "english")])
    assert parts.words.tolist() == whole.words.tolist()
    np.testing.assert_array_equal(parts.matrix.toarray(), whole.matrix.toarray())
    picked = stacked([whole[np.array([3])], whole[np.array([0, 1])]])
    np.testing.assert_array_equal(picked.matrix.toarray(), whole.matrix.toarray()[[3, 0, 1]])
    empty = stacked([count([], "english"), whole])
    np.testing.assert_array_equal(empty.matrix.toarray(), whole.matrix.toarray())


def test_positions():
    words = np.array([b"bird", b"birds", "über".encode()])
    assert positions(words, ["über", "bir", "birds", "birdsong"]).tolist() == [2, -1, 1, -1]
    assert positions(words[:0], ["bird"]).tolist() == [-1]
    assert positions(words, []).tolist() == []
