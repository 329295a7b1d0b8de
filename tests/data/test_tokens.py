"""Tokenisers that are always the same, and texts drawn as padded ids."""

import subprocess
import sys

import numpy as np
import pytest

from nolabel.data import read
from nolabel.data.tokenisers import read_tokeniser, special_ids, train_wordpiece
from nolabel.data.tokens import TokenSource, usable_texts

TEXTS = ["The cat sat on the mat.", "Cats and dogs!", "Ein Hündchen saß da.", "the the the"]


@pytest.fixture(scope="module")
def tokeniser():
    return train_wordpiece(TEXTS * 3, 80)


def test_vocabulary_begins_with_the_special_tokens(tokeniser):
    assert [tokeniser.id_to_token(i) for i in range(5)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert special_ids(tokeniser).all == (0, 1, 2, 3, 4)
    assert tokeniser.encode("the cat").tokens == ["[CLS]", "the", "cat", "[SEP]"]
    assert tokeniser.encode("THE CÄT").ids == tokeniser.encode("the cat").ids
    cased = train_wordpiece(TEXTS * 3, 120, lowercase=False)
    assert cased.encode("The").ids != cased.encode("the").ids


def test_same_texts_same_ids_in_any_process():
    code = (
        "from nolabel.data.tokenisers import train_wordpiece; import argparse, hashlib;"
        "print(hashlib.sha256(train_wordpiece([argparse.__doc__] * 2, 300).to_str().encode()).hexdigest())"
    )
    found = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout for _ in range(3)}
    assert len(found) == 1
    assert len(found.pop()) == 65


def test_saved_tokeniser_is_the_same(tokeniser):
    again = read_tokeniser(tokeniser.to_str())
    assert again.encode(TEXTS[0]).ids == tokeniser.encode(TEXTS[0]).ids


def test_vocabulary_too_small_names_what_it_needs():
    with pytest.raises(
        ValueError, match=r"vocabulary_size must be at least 11 for the 3 different characters .* got 9"
    ):
        train_wordpiece(["abc"], 9)


def test_batches_are_what_the_tokeniser_says(tokeniser):
    source = TokenSource(read(TEXTS), ("text",), tokeniser, 64)
    batch = source.batch([3, 0, 1])
    for row, text in enumerate([TEXTS[3], TEXTS[0], TEXTS[1]]):
        ids = batch["text"]["tokens"][row][batch["text"]["mask"][row]]
        assert ids.tolist() == tokeniser.encode(text).ids
        assert (batch["text"]["tokens"][row][~batch["text"]["mask"][row]] == 0).all()
    assert batch["row"].tolist() == [3, 0, 1]
    assert source.lengths["text"].tolist() == [len(tokeniser.encode(text).ids) for text in TEXTS]


def test_long_texts_are_cut_and_counted(tokeniser):
    source = TokenSource(read(["the cat " * 500, "the", "x" * 10_000_000]), ("text",), tokeniser, 8)
    assert source.truncated == {"text": 2}
    assert source.lengths["text"].max() == 8
    first = source.batch([0])["text"]["tokens"][0]
    assert first[0] == 2
    assert first[-1] == 3


def test_two_columns_keep_their_rows_together(tokeniser):
    table = read({"query": ["cat", "", "dogs"], "passage": ["the cat sat", "mat", " "]})
    with pytest.warns(UserWarning, match="2 of 3 texts were skipped"):
        source = TokenSource(table, ("query", "passage"), tokeniser, (4, 8))
    assert source.rows.tolist() == [0]
    assert [(s.row, s.reason) for s in source.skipped] == [
        (1, "empty text in column 'query'"),
        (2, "empty text in column 'passage'"),
    ]
    assert set(source.batch([0])) == {"query", "passage", "row"}


def test_stream_is_all_pieces_on_end(tokeniser):
    source = TokenSource(read(TEXTS), ("text",), tokeniser, 64)
    ids, ends = source.stream("text")
    whole = [i for text in TEXTS for i in tokeniser.encode(text, add_special_tokens=False).ids]
    assert ids.tolist() == whole
    assert ends[-1] == len(whole)


def test_many_ids_lie_in_a_file_and_are_found_again(tokeniser, monkeypatch, tmp_path):
    monkeypatch.setattr("nolabel.data.tokens._IN_MEMORY", 10)
    first = TokenSource(read(TEXTS), ("text",), tokeniser, 64, folder=tmp_path)
    assert isinstance(first.stream("text")[0], np.memmap)

    def refuse(*args):
        raise AssertionError("encoded again")
        yield

    monkeypatch.setattr("nolabel.data.tokens._texts", refuse)
    second = TokenSource(read(TEXTS), ("text",), tokeniser, 64, folder=tmp_path)
    assert second.fingerprint == first.fingerprint
    for ours, theirs in zip(first.stream("text"), second.stream("text")):
        assert np.array_equal(ours, theirs)
    assert not list(tmp_path.rglob("*.partial"))


def test_fingerprint_tells_contents_lengths_and_tokenisers_apart(tokeniser):
    def mark(texts=TEXTS, vocabulary=tokeniser, length=64):
        return TokenSource(read(texts), ("text",), vocabulary, length).fingerprint

    assert mark() == mark()
    others = {mark(TEXTS[::-1]), mark(length=63), mark(vocabulary=train_wordpiece(TEXTS * 3, 55))}
    assert len(others | {mark()}) == 4


def test_null_and_control_characters_make_no_text(tokeniser):
    rows, skipped = usable_texts(read({"text": ["a", None, "\x00\x1f", "b"]}), ("text",))
    assert rows.tolist() == [0, 3]
    assert [s.row for s in skipped] == [1, 2]


@pytest.mark.parametrize("length", [2, 0, True, 3.5])
def test_bad_length(tokeniser, length):
    with pytest.raises(ValueError, match="max_length must be a whole number of at least 3"):
        TokenSource(read(TEXTS), ("text",), tokeniser, [length])
