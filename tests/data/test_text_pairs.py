"""Pairs of queries and passages: equal passages are one, negatives come as asked for."""

import numpy as np
import pytest

from nolabel.data import read
from nolabel.data.text_pairs import PairSource, pair_columns
from nolabel.data.tokenisers import train_wordpiece

QUERIES = ["who sat", "what barks", "who slept", "what flew"]
PASSAGES = ["the cat sat", "the dog barks", "the cat sat", "the bird flew away far"]
TOKENISER = train_wordpiece([*QUERIES, *PASSAGES, "fish swim"] * 2, 120)


def source(negatives=None, corpus=(), limits=(8, 8), queries=QUERIES, passages=PASSAGES):
    return PairSource(read(pair_columns(queries, passages, negatives)), TOKENISER, limits, corpus=corpus)


def said(pairs, batch, column):
    return [TOKENISER.decode(row[m].tolist()) for row, m in zip(batch[column]["tokens"], batch[column]["mask"])]


def test_equal_passages_are_stored_once():
    pairs = source()
    assert (len(pairs), len(pairs.texts)) == (4, 3)
    assert pairs.positive.tolist() == [0, 1, 0, 2]
    batch = pairs.batch(np.array([2, 3]))
    assert said(pairs, batch, "query") == ["who slept", "what flew"]
    assert said(pairs, batch, "passage") == ["the cat sat", "the bird flew away far"]
    assert (batch["queries"].tolist(), batch["passages"].tolist(), batch["row"].tolist()) == ([2, 3], [0, 2], [2, 3])


def test_further_passages_follow_in_blocks():
    pairs = source()
    batch = pairs.batch(np.array([[1, 0, 2], [3, 1, 0]]))
    assert batch["passages"].tolist() == [1, 2, 0, 1, 2, 0]
    assert said(pairs, batch, "passage")[2:] == [
        "the cat sat",
        "the dog barks",
        "the bird flew away far",
        "the cat sat",
    ]
    assert len(batch["query"]["tokens"]) == 2


def test_lengths_and_cuts():
    pairs = source(limits=(3, 5))
    assert pairs.lengths["query"].tolist() == [3, 3, 3, 3]
    assert pairs.lengths["passage"].tolist() == [5, 5, 5, 5]
    assert pairs.truncated == {"query": 4, "passage": 1}


def test_random_negatives_are_any_other_passage():
    pairs, rng = source(corpus=["fish swim", "the cat sat", " "]), np.random.default_rng(0)
    assert len(pairs.texts) == 4
    drawn = np.array([pairs.with_negatives(np.arange(4), rng) for _ in range(100)])
    assert (drawn[:, :, 0] == np.arange(4)).all()
    for row in range(4):
        assert set(drawn[:, row, 1]) == {0, 1, 2, 3} - {pairs.positive[row]}


def test_hard_negatives_as_often_as_asked():
    pairs, rng = source(["the dog barks", "fish swim", "", "the cat sat"]), np.random.default_rng(0)
    assert [found.tolist() for found in pairs.hard] == [[1], [3], [], [0]]
    assert pairs.with_negatives(np.array([0, 1, 3]), rng)[:, 1].tolist() == [1, 3, 0]
    drawn = np.concatenate([pairs.with_negatives(np.zeros(50, np.int64), rng, hard_ratio=0.4) for _ in range(40)])[:, 1]
    assert 0.55 < (drawn == 1).mean() < 0.65  # 0.4, and a third of the rest by chance
    assert set(pairs.with_negatives(np.full(50, 2), rng)[:, 1]) == {1, 2, 3}


def test_several_hard_negatives():
    nested = [["a b", "c d"], ["e f", "g h"], ["i", "j"], ["k", "l"]]
    for given in (nested, [text for two in nested for text in two]):
        assert pair_columns(QUERIES, PASSAGES, given)["negative"] == nested
    pairs = source(nested)
    drawn = {int(pairs.with_negatives(np.array([1]), np.random.default_rng(seed))[0, 1]) for seed in range(20)}
    assert {pairs.texts[number] for number in drawn} == {"e f", "g h"}


def test_blank_pairs_are_left_out_and_counted():
    with pytest.warns(UserWarning, match="2 of 4 pairs were skipped, first row 0: empty text in column 'query'"):
        pairs = source(queries=["", *QUERIES[1:]], passages=[*PASSAGES[:3], "  "])
    assert pairs.rows.tolist() == [1, 2]
    assert pairs.positive.tolist() == [0, 1]


def test_fingerprint_knows_pairs_and_negatives():
    made = [source(), source(passages=PASSAGES[::-1]), source(["fish swim"] * 4), source(limits=(8, 9))]
    assert len({pairs.fingerprint for pairs in made}) == 4
    assert source().fingerprint == made[0].fingerprint


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((QUERIES, PASSAGES[:3]), ValueError, "queries and passages must be equally many, got 4 and 3"),
        ((QUERIES, PASSAGES, ["a"] * 5), ValueError, "negatives must be a multiple of the 4 queries, got 5"),
        ((QUERIES, PASSAGES, []), ValueError, "negatives must be a multiple of the 4 queries, got 0"),
        (("who", PASSAGES), TypeError, "queries must be a list of texts, got str"),
        (([1, 2], PASSAGES), TypeError, "queries must be texts, got int at position 0"),
        ((QUERIES, PASSAGES, [["a"], ["b"], ["c"], [4]]), TypeError, r"negatives\[3\] must be texts, got int"),
    ],
)
def test_bad_lists(given, error, message):
    with pytest.raises(error, match=message):
        pair_columns(*given)


def test_bad_tables():
    with pytest.raises(ValueError, match="no column 'passage'; the columns are query"):
        PairSource(read({"query": QUERIES}), TOKENISER, (8, 8))
    with pytest.raises(TypeError, match="'negative' must hold texts or lists of texts"):
        PairSource(read({"query": QUERIES, "passage": PASSAGES, "negative": [1, 2, 3, 4]}), TOKENISER, (8, 8))
    with pytest.raises(ValueError, match="a single passage leaves none for negatives"):
        source(queries=["a", "b"], passages=["the cat sat"] * 2).with_negatives(np.arange(2), np.random.default_rng(0))
