import pytest

from nolabel.data.stop_words import stop_words


def test_lists():
    assert {"the", "of", "and"} <= set(stop_words("english"))
    assert stop_words(None) == frozenset()
    assert stop_words(["der", "die", "die"]) == {"der", "die"}


def test_bad_input():
    with pytest.raises(ValueError, match="stop_words must be 'english', a collection of words or None, got 'polish'"):
        stop_words("polish")
    for wrong in (3, [3]):
        with pytest.raises(TypeError, match="stop_words must be 'english', a collection of words or None"):
            stop_words(wrong)
