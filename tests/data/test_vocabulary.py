import math
from collections import Counter

import numpy as np
import pytest

from nolabel.data.vocabulary import Vocabulary
from nolabel.data.words import number_words, split_words


def slow_encoding(vocabulary, text):
    """One word after the other; a pair comes right after its second word."""
    found = []
    words = split_words(text)
    for place, word in enumerate(words):
        if word in vocabulary.index:
            found.append(vocabulary.index[word])
        if place and words[place - 1] in vocabulary.index and word in vocabulary.index:
            pair = f"{words[place - 1]} {word}"
            if pair in vocabulary.index:
                found.append(vocabulary.index[pair])
    return found


def test_counts_order_and_limits():
    texts = number_words(["b b b a a a c c d", "the the the the"])
    vocabulary = Vocabulary.of(texts, min_count=2, stop_words={"the"})
    assert vocabulary.words == ["a", "b", "c"]  # ties in alphabetical order
    assert vocabulary.counts.tolist() == [3, 3, 2]
    assert Vocabulary.of(texts, min_count=1, max_words=2).words == ["the", "a"]
    assert len(Vocabulary.of(texts, min_count=1)) == 5
    assert "b" in vocabulary
    assert "the" not in vocabulary


def test_pairs(docstrings):
    """Counts and places of pairs agree with a slow count over real texts."""
    texts = docstrings[:300]
    numbered = number_words(texts)
    vocabulary = Vocabulary.of(numbered, min_count=4, max_pairs=60, min_pair_count=6)
    words = [split_words(text) for text in texts]
    counts = Counter(word for text in words for word in text)
    singles = {word for word, count in counts.items() if count >= 4}
    pairs = Counter(f"{a} {b}" for text in words for a, b in zip(text, text[1:]) if {a, b} <= singles)
    found = {w: int(c) for w, c in zip(vocabulary.words, vocabulary.counts)}
    chosen = {word for word in found if " " in word}
    assert len(chosen) == 60
    assert all(found[pair] == pairs[pair] >= 6 for pair in chosen)
    assert min(found[pair] for pair in chosen) >= max(c for pair, c in pairs.items() if pair not in chosen)
    assert {word: counts[word] for word in singles} == {w: c for w, c in found.items() if " " not in w}
    assert (np.diff(vocabulary.counts) <= 0).all()
    for number, (first, second) in enumerate(vocabulary.pairs):
        name = vocabulary.words[number]
        assert (
            (first, second) == (-1, -1)
            if " " not in name
            else name == f"{vocabulary.words[first]} {vocabulary.words[second]}"
        )
    ids, offsets = vocabulary.encode(numbered)
    for row, text in enumerate(texts):
        assert ids[offsets[row] : offsets[row + 1]].tolist() == slow_encoding(vocabulary, text)


def test_pairs_keep_to_their_text_and_to_neighbours():
    texts = number_words(["", "new york", "york the new", "new york", ""])
    vocabulary = Vocabulary.of(texts, min_count=2, max_pairs=9)
    assert vocabulary.words == ["new", "york", "new york"]
    ids, offsets = vocabulary.encode(number_words(["", "new", "york", "new the york", "york new york"]))
    assert [ids[a:b].tolist() for a, b in zip(offsets, offsets[1:])] == [[], [0], [1], [0, 1], [1, 0, 1, 2]]


def test_a_given_word_with_a_space_is_no_pair():
    vocabulary = Vocabulary.of(number_words(["new york"] * 3), min_count=2, max_pairs=9)
    assert vocabulary.encode(number_words([["new york", "new"]]))[0].tolist() == [0]


def test_encoding_leaves_out_unknown_words():
    vocabulary = Vocabulary.of(number_words(["a b", "a b"]), min_count=2)
    ids, offsets = vocabulary.encode(number_words(["x a y b", "x", "b"]))
    assert ids.tolist() == [0, 1, 1]
    assert offsets.tolist() == [0, 2, 2, 3]
    assert ids.dtype == np.int32
    none, offsets = vocabulary.encode(number_words(["", ""]))
    assert len(none) == 0
    assert offsets.tolist() == [0, 0, 0]


def test_distributions_by_hand():
    vocabulary = Vocabulary(["a", "b", "c"], np.array([16, 16, 1]), np.full((3, 2), -1))
    np.testing.assert_allclose(vocabulary.noise("unigram"), np.array([8, 8, 1]) / 17)
    np.testing.assert_allclose(vocabulary.noise("unigram", 0.0), np.ones(3) / 3)
    expected = np.log([2 / 1, 3 / 2, 4 / 3]) / math.log(4)
    np.testing.assert_allclose(vocabulary.noise("log-uniform"), expected)
    assert vocabulary.noise("log-uniform").sum() == pytest.approx(1)
    shares = np.array([16, 16, 1]) / 33
    expected = np.minimum(1, np.sqrt(0.1 / shares) + 0.1 / shares)
    np.testing.assert_allclose(vocabulary.keep_probabilities(0.1), expected)
    assert expected[2] == 1
    assert expected[0] < 1
    assert vocabulary.keep_probabilities(0).tolist() == [1, 1, 1]


def test_unknown_words_are_answered_with_the_nearest():
    vocabulary = Vocabulary.of(number_words(["electricity electric water"]), min_count=1)
    assert vocabulary.id_of("water") == 2
    with pytest.raises(KeyError, match="'electrcity' is not among the 3 words .*did you mean 'electricity'"):
        vocabulary.id_of("electrcity")
    with pytest.raises(KeyError, match="'zzz' is not among the 3 words of the vocabulary"):
        vocabulary.id_of("zzz")


def test_bad_input():
    texts = number_words(["a b a"])
    for name, value in (("min_count", 0), ("min_count", 1.5), ("max_words", 0), ("max_pairs", -1), ("min_count", True)):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least"):
            Vocabulary.of(texts, **{name: value})
    with pytest.raises(
        ValueError, match="min_count=3 leaves no word that is not a stop word: the most frequent occurs 2 times"
    ):
        Vocabulary.of(texts, min_count=3)
    with pytest.raises(ValueError, match="there is none at all"):
        Vocabulary.of(number_words([""]), min_count=1)
    vocabulary = Vocabulary.of(texts, min_count=1)
    with pytest.raises(ValueError, match="kind must be 'unigram' or 'log-uniform', got 'zipf'"):
        vocabulary.noise("zipf")
    with pytest.raises(ValueError, match="threshold must be at least 0, got -1"):
        vocabulary.keep_probabilities(-1)
