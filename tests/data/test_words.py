import unicodedata

import numpy as np
import pytest

from nolabel.data.words import number_words, read_words, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't panic: 3.5 £!", ["don", "t", "panic", "3", "5"]),
        ("snake_case x-ray", ["snake_case", "x", "ray"]),
        ("ÉTUDE Straße", ["étude", "straße"]),
        ("e\u0301tude", ["étude"]),  # an accent of its own becomes part of its letter
        ("हिन्दी में", ["हिन्दी", "में"]),  # vowels that are combining marks stay
        ("два  слова", ["два", "слова"]),
        ("—…“”", []),
        ("", []),
    ],
)
def test_split(text, words):
    assert split_words(text) == [unicodedata.normalize("NFC", word) for word in words]


def test_capitals_stay_on_request():
    assert split_words("New York", lowercase=False) == ["New", "York"]
    assert number_words(["Ab ab"], lowercase=False).distinct == ["Ab", "ab"]


def test_plain_and_other_texts_follow_one_rule():
    """An accent elsewhere in a text changes none of its other words."""
    text = "It's a test_1: 4,000 (maybe)"
    assert split_words(text) == split_words(text + " é")[:-1]


def test_numbers_in_order_of_appearance():
    texts = number_words(["b a b", None, "c a", ""])
    assert texts.distinct == ["b", "a", "c"]
    assert texts.ids.tolist() == [0, 1, 0, 2, 1]
    assert texts.offsets.tolist() == [0, 3, 3, 5, 5]
    assert texts.rows.tolist() == [0, 0, 0, 2, 2]
    assert len(texts) == 4
    assert (texts.ids.dtype, texts.offsets.dtype) == (np.int32, np.int64)


def test_lists_of_words_stay_as_they_are():
    texts = number_words([["New York", "Is"], ("is",)])
    assert texts.distinct == ["New York", "Is", "is"]


def test_every_source_reads_alike():
    pandas = pytest.importorskip("pandas")
    texts = ["one two three", "two"]
    expected = number_words(texts)
    frame = pandas.DataFrame({"body": texts})
    for found in (
        read_words(texts),
        read_words({"text": texts}),
        read_words(frame, columns={"text": "body"}),
        read_words([text.split() for text in texts]),
        read_words({"text": [text.split() for text in texts]}),
    ):
        assert found.distinct == expected.distinct
        assert np.array_equal(found.ids, expected.ids)
        assert np.array_equal(found.offsets, expected.offsets)


def test_bad_input(tmp_path):
    with pytest.raises(TypeError, match="text: a string or a list of words was expected, got a int in row 1"):
        number_words(["a", 3])
    with pytest.raises(TypeError, match="got a list with a int in row 0"):
        number_words([["a", 3]])
    with pytest.raises(TypeError, match="got a list with a int"):
        read_words({"text": [[1, 2], [3]]})
    with pytest.raises(ValueError, match="no column 'text'; the columns are body"):
        read_words({"body": ["a b c"]})
    with pytest.raises(TypeError, match="expected a folder"):
        read_words(3)
    with pytest.raises(ValueError, match="the list is empty"):
        read_words([])
    with pytest.raises(FileNotFoundError):
        read_words(tmp_path / "nowhere.parquet")


def test_empty_corpus():
    texts = number_words([])
    assert len(texts) == len(texts.ids) == 0
