import numpy as np
import pytest

from nolabel.data import open_images, read, train_wordpiece
from nolabel.data.image_texts import ImagesWithTexts, sentences, texts_of_cells


def table(texts):
    pixels = (np.arange(len(texts)).reshape(-1, 1, 1, 1) * np.ones((1, 24, 24, 3))).astype(np.uint8)
    return read({"image": list(pixels), "text": texts})


def source(texts, split=False):
    given = table(texts)
    found, skipped = texts_of_cells(given, "text", split)
    flat = [text for several in found for text in several]
    images = open_images(given, size=24)
    return ImagesWithTexts(images, found, train_wordpiece(flat, 200), 12, skipped=skipped)


def words(source, row, which=0):
    from nolabel.data.tokenisers import read_tokeniser

    text = source.batch(np.array([[row, which]]))["text"]
    return read_tokeniser(source.tokeniser).decode(text["tokens"][0][text["mask"][0]].tolist())


def test_sentences_that_are_too_short_go_unless_nothing_is_left():
    assert sentences("The heart is large. Normal. No fluid was seen!") == ["The heart is large.", "No fluid was seen!"]
    assert sentences("Normal. Same.") == ["Normal. Same."]
    assert sentences("about 3.5 cm in size\nnothing else to see") == ["about 3.5 cm in size", "nothing else to see"]


def test_each_text_of_a_cell_is_drawn_as_often_as_another():
    several = source([["a red shoe", "the shoe", "one shoe here"], ["a blue bag"]])
    drawn = np.concatenate([several.drawn(np.array([0, 1]), np.random.default_rng(i)) for i in range(600)])
    assert set(drawn[drawn[:, 0] == 1, 1]) == {0}
    counts = np.bincount(drawn[drawn[:, 0] == 0, 1], minlength=3)
    assert counts.min() > 150
    assert words(several, 0, 1) == "the shoe"
    assert words(several, 1) == "a blue bag"


def test_image_and_text_stay_together_where_rows_are_left_out():
    with pytest.warns(UserWarning, match="2 of 5 texts were skipped, first row 1: empty text"):
        kept = source(["zero is here", " \x00 ", "two is here", None, "four is here"])
    assert kept.rows.tolist() == [0, 2, 4]
    assert [skip.row for skip in kept.skipped] == [1, 3]
    batch = kept.batch(np.array([2, 0]))
    assert batch["image"][:, 0, 0, 0].tolist() == [4, 0]
    assert batch["row"].tolist() == [2, 0]
    assert words(kept, 2) == "four is here"
    assert batch["text"]["tokens"].shape[0] == 2


def test_documents_are_cut_into_sentences():
    found, _ = texts_of_cells(table(["A red shoe here. It is very new."]), "text", split=True)
    assert found == [["A red shoe here.", "It is very new."]]


def test_bad_input():
    with pytest.raises(TypeError, match="'text' holds int64; expected texts"):
        texts_of_cells(table([1, 2]), "text", split=False)
    with pytest.raises(ValueError, match="all 2 texts in 'text' are empty"):
        texts_of_cells(table(["", " "]), "text", split=False)
    readable = open_images(table(["a", "b"]), size=24)
    with pytest.raises(ValueError, match="no image that can be read has a text"):
        ImagesWithTexts(readable, [[], []], train_wordpiece(["a b"], 50), 8)
    with pytest.raises(ValueError, match="caption"):
        texts_of_cells(table(["a", "b"]), "caption", split=False)
