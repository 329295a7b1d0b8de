"""Chunks of a corpus: where they lie, how they move, what is left out."""

import warnings

import numpy as np
import pytest

from nolabel.data import read
from nolabel.data.chunks import ChunkSource
from nolabel.data.tokenisers import train_wordpiece
from nolabel.data.tokens import TokenSource

WORDS = [f"w{i}" for i in range(60)]
TOKENISER = train_wordpiece(WORDS * 3, 300)


def texts(*lengths):
    """Texts of so many words, which go on counting from one text to the next."""
    ends = np.cumsum(lengths)
    return TokenSource(
        read([" ".join(WORDS[end - n : end]) for n, end in zip(lengths, ends)]), ("text",), TOKENISER, 500
    )


def words(source, rows):
    batch = source.batch(rows)["text"]
    number = {TOKENISER.token_to_id(word): i for i, word in enumerate(WORDS)}
    return [[number[t] for t in row[mask].tolist()[1:-1]] for row, mask in zip(batch["tokens"], batch["mask"])]


def test_every_word_is_one_token():
    assert all(len(TOKENISER.encode(word).tokens) == 3 for word in WORDS)


def test_joined_chunks_run_across_texts():
    source = ChunkSource(texts(3, 4, 6), 4)
    assert words(source, [0, 1, 2]) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert source.lengths["text"].tolist() == [6, 6, 6]
    assert source.sizes.tolist() == [13]


def test_a_shift_moves_the_grid_but_not_beyond_the_end():
    source = ChunkSource(texts(13), 4)
    rows = np.array([[0, 3], [1, 3], [2, 3]])
    assert words(source, rows) == [[3, 4, 5, 6], [7, 8, 9, 10], [9, 10, 11, 12]]
    assert source.batch(rows)["row"].tolist() == [0, 1, 2]


def test_one_offset_a_stream_and_epoch():
    source = ChunkSource(texts(30, 30), 5, groups=np.array([0, 1]))
    seen = set()
    for seed in range(200):
        shifts = source.shifts(np.random.default_rng(seed))
        assert (np.unique(shifts[:6]).size, np.unique(shifts[6:]).size) == (1, 1)
        seen.add((int(shifts[0]), int(shifts[6])))
    assert {a for a, _ in seen} == set(range(5))
    assert len(seen) > 20  # the two are drawn apart


def test_apart_chunks_stay_within_their_text():
    source = ChunkSource(texts(3, 10, 2), 4, joined=False)
    assert words(source, np.arange(4)) == [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9, 10], [13, 14]]
    shifts = np.array([source.shifts(np.random.default_rng(seed)) for seed in range(60)])
    assert shifts.max(axis=0).tolist() == [0, 2, 2, 0]  # 10 = 2 * 4 + 2
    assert shifts.min() == 0
    assert words(source, np.array([[1, 2], [2, 2]])) == [[5, 6, 7, 8], [9, 10, 11, 12]]


def test_groups_share_no_chunk():
    source = ChunkSource(texts(5, 4, 7), 4, groups=np.array([0, 0, 1]))
    assert source.group.tolist() == [0, 0, 1]
    assert source.sizes.tolist() == [9, 7]
    assert words(source, [0, 1, 2]) == [[0, 1, 2, 3], [4, 5, 6, 7], [9, 10, 11, 12]]
    moved = words(source, np.array([[0, 3], [1, 3], [2, 3]]))
    assert moved == [[3, 4, 5, 6], [5, 6, 7, 8], [12, 13, 14, 15]]


def test_a_corpus_shorter_than_a_chunk_is_one():
    source = ChunkSource(texts(5), 8)
    assert words(source, np.array([[0, 7]])) == [[0, 1, 2, 3, 4]]


def test_single_tokens_are_left_out_and_counted():
    with pytest.warns(UserWarning, match="1 of 3 texts have fewer than 2 tokens"):
        source = ChunkSource(texts(4, 1, 4), 4)
    assert words(source, [0, 1]) == [[0, 1, 2, 3], [5, 6, 7, 8]]
    assert [str(skip) for skip in source.skipped] == ["row 1: fewer than 2 tokens"]
    with pytest.raises(ValueError, match="all 2 texts have fewer than 2 tokens"), warnings.catch_warnings():
        warnings.simplefilter("error")
        ChunkSource(texts(1, 1), 4)


def test_fingerprint_knows_what_was_cut_and_how():
    given = texts(5, 4, 7)
    sources = [
        ChunkSource(given, 4),
        ChunkSource(given, 5),
        ChunkSource(given, 4, joined=False),
        ChunkSource(given, 4, groups=np.array([0, 0, 1])),
        ChunkSource(texts(5, 4, 8), 4),
    ]
    assert len({source.fingerprint for source in sources}) == 5
    assert ChunkSource(texts(5, 4, 7), 4).fingerprint == sources[0].fingerprint


@pytest.mark.parametrize(
    ("length", "groups", "message"),
    [
        (1, None, "length must be a whole number of at least 2 tokens, got 1"),
        (2.5, None, "length must be a whole number"),
        (4, [0, 1], r"groups must be 3 numbers, one a text, never falling, got \(2,\)"),
        (4, [0, 1, 0], "groups must be 3 numbers"),
    ],
)
def test_bad_arguments(length, groups, message):
    with pytest.raises(ValueError, match=message):
        ChunkSource(texts(3, 4, 5), length, groups=None if groups is None else np.array(groups))
