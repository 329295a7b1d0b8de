"""BM25 by hand and against bm25s, exact after every change, matched words, filters, wrong queries."""

import math
import re

import numpy as np
import pytest

from nolabel.search import Index, derived
from nolabel.search.bm25 import inverse_document_frequency, saturation

TEXTS = ["a cat sat", "the cat and the dog", "birds", "dogs dog dog", None]


def texts_of(rows, seed=0):
    """Texts of 3 to 20 of 60 made words, the first ones often."""
    rng = np.random.default_rng(seed)
    words = np.array([f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(60)])
    chances = 1 / np.arange(1, 61)
    return [" ".join(rng.choice(words, rng.integers(3, 21), p=chances / chances.sum())) for _ in range(rows)]


def test_scores_by_hand(tmp_path):
    index = Index.create(tmp_path, text="body")
    assert index.modes == ("bm25",)
    index.add(payload={"body": TEXTS})
    hits = index.search("Cats!")
    # 4 texts with words, 2 of them with "cat"; lengths 3, 5, 1, 3: mean 3
    rare = math.log(1 + 2.5 / 2.5)
    expected = [rare / (1 + 1.2 * (0.25 + 0.75 * length / 3)) for length in (3, 5)]
    assert hits.ids.tolist() == [0, 1]
    np.testing.assert_allclose(hits.scores, expected, rtol=1e-6)
    assert [[word for word, _ in matches] for matches in hits.matches] == [["cats"], ["cats"]]
    twice = index.search("dog dogs")
    assert twice.ids.tolist() == [3, 1]
    np.testing.assert_allclose(twice.scores[0], 2 * rare * 3 / (3 + 1.2), rtol=1e-6)
    assert twice.matches[0] == [("dog", pytest.approx(twice.scores[0], rel=1e-6))]
    assert twice.payload["body"].to_pylist() == [TEXTS[3], TEXTS[1]]
    assert index.search(["birds", "sat"], 1)[1].ids.tolist() == [0]


def test_formulas():
    counts = np.array([1.0, 2.0, 5.0, 100.0])
    assert (np.diff(saturation(counts, 1.0)) > 0).all()
    assert saturation(1e9, 1.0) == pytest.approx(1)
    assert saturation(1.0, 0.5) > saturation(1.0, 2.0)
    assert (np.diff(inverse_document_frequency(np.arange(1, 10), 10)) < 0).all()
    assert inverse_document_frequency(10, 10) > 0


@pytest.mark.parametrize("built", [False, True])
def test_equals_bm25s(tmp_path, monkeypatch, built):
    bm25s = pytest.importorskip("bm25s")
    monkeypatch.setattr(derived, "BESIDE_ROWS", 50 if built else 1000)
    texts = texts_of(300)
    index = Index.create(tmp_path, text="body", language=None)
    index.add(payload={"body": texts})
    peer = bm25s.BM25(k1=1.2, b=0.75, method="lucene")
    peer.index([text.split() for text in texts], show_progress=False)
    for query in ("wordaa wordbc", "wordad wordad wordcc", texts[7]):
        expected = peer.get_scores(query.split())
        hits = index.search(query, 300)
        assert len(hits) == np.count_nonzero(expected > 0)
        np.testing.assert_allclose(hits.scores, expected[hits.ids], rtol=1e-4)
        assert (np.diff(hits.scores) <= 0).all()
    assert index.info()["structures"]["bm25"]["structure"] == ("postings" if built else "exact")


@pytest.mark.parametrize("built", [False, True])
def test_after_every_change_scores_are_those_of_a_new_index(tmp_path, monkeypatch, built):
    monkeypatch.setattr(derived, "BESIDE_ROWS", 100 if built else 1000)
    texts = texts_of(320)
    index = Index.create(tmp_path / "changed", text="body")
    index.add(payload={"body": texts[:250], "row": np.arange(250)})
    index.search("wordaa")
    index.add(payload={"body": [*texts[250:300], "wordaa unseenword"], "row": np.arange(250, 301)})
    index.search("wordaa")
    index.update([4, 260], payload={"body": ["wordbb wordbb", "wordcc"]})
    index.delete(where="row < 3 OR row = 270")
    now = dict(enumerate([*texts[:300], "wordaa unseenword"])) | {
        4: "wordbb wordbb",
        260: "wordcc",
    }
    for row in (0, 1, 2, 270):
        del now[row]
    fresh = Index.create(tmp_path / "fresh", text="body")
    fresh.add(payload={"body": list(now.values()), "row": list(now)}, ids=list(now))
    for again in (index, Index(tmp_path / "changed")):
        for query in ("wordaa wordbb", "unseenword", "wordcc wordab wordah"):
            for where in (None, "row % 2 = 0"):
                ours, theirs = again.search(query, 60, where=where), fresh.search(query, 60, where=where)
                assert ours.ids.tolist() == theirs.ids.tolist()
                np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-6)
                assert ours.matches == [
                    [(word, pytest.approx(worth)) for word, worth in matches] for matches in theirs.matches
                ]
    structure = index.info()["structures"]["bm25"]
    assert (structure["structure_rows"], structure["rows_masked"]) == ((250, 4) if built else (0, 0))


def test_a_filter_takes_rows_away_and_changes_no_score(tmp_path):
    texts = texts_of(200)
    index = Index.create(tmp_path, text="body")
    index.add(payload={"body": texts, "row": np.arange(200)})
    whole = index.search("wordaa wordac", 200)
    some = index.search("wordaa wordac", 10, where="row % 3 = 0")
    keep = whole.ids % 3 == 0
    assert some.ids.tolist() == whole.ids[keep][:10].tolist()
    assert some.scores.tolist() == whole.scores[keep][:10].tolist()
    assert len(index.search("wordaa", where="row > 900")) == 0


def test_matches_add_up(tmp_path):
    texts = texts_of(100)
    index = Index.create(tmp_path, text="body")
    index.add(payload={"body": texts})
    hits = index.search("wordaa wordab wordbb wordzz", 20)
    for row, score, matches in zip(hits.ids, hits.scores, hits.matches):
        assert sum(worth for _, worth in matches) == pytest.approx(score, rel=1e-5)
        assert {word for word, _ in matches} == {"wordaa", "wordab", "wordbb"} & set(texts[row].split())


def test_ties_go_to_the_lower_id(tmp_path):
    index = Index.create(tmp_path, text="body")
    index.add(payload={"body": ["same words"] * 30}, ids=np.random.default_rng(0).permutation(30))
    assert index.search("words", 5).ids.tolist() == [0, 1, 2, 3, 4]


def test_function_words_count_only_alone(tmp_path):
    index = Index.create(tmp_path, text="body")
    index.add(payload={"body": ["The Who played", "who knows the band"]})
    assert index.search("the band").ids.tolist() == [1]
    assert set(index.search("the who").ids) == {0, 1}
    german = Index.create(tmp_path / "german", text="body", language="german")
    german.add(payload={"body": ["Die Häuser am Fluss", "Ein Auto"]})
    assert german.search("Haus").ids.tolist() == [0]
    assert Index(tmp_path / "german").search("häuser").ids.tolist() == [0]


def test_text_beside_vectors(tmp_path):
    index = Index.create(tmp_path, 2, text="title")
    index.add(np.eye(2), {"title": ["red house", "blue house"]})
    index.add([[1.0, 1.0]])  # without a text
    assert index.search([0.0, 1.0]).ids[0] == 1
    assert index.search("red").ids.tolist() == [0]
    assert index.search("red", mode="bm25").to_dicts()[0]["title"] == "red house"
    index.update([2], payload={"title": ["red sea"]})
    assert set(index.search("red").ids) == {0, 2}
    assert index.search("house", where="title LIKE 'blue%'").ids.tolist() == [1]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    index = Index.create(tmp_path_factory.mktemp("texts"), text="body")
    index.add(payload={"body": TEXTS, "row": range(5)})
    return index


BAD = {
    "empty": (lambda i: i.search(""), ValueError, "query: text 0: expected words, got an empty text"),
    "blank": (lambda i: i.search(["cat", " \n"]), ValueError, "query: text 1: expected words, got an empty text"),
    "signs": (lambda i: i.search("?!"), ValueError, "query: text 0: expected words, got '?!', which holds none"),
    "unknown": (
        lambda i: i.search("zebra crossing"),
        ValueError,
        "query: text 0: column 'body' has none of its words: zebra crossing",
    ),
    "number": (lambda i: i.search([3], mode="bm25"), TypeError, "query: text 0: expected a text, got int"),
    "k": (lambda i: i.search("cat", 0), ValueError, "k: expected a whole number of at least 1, got 0"),
    "fusion": (
        lambda i: i.search("cat", fusion="rrf"),
        ValueError,
        "fusion: belongs to mode hybrid, and this query is bm25",
    ),
    "no text": (
        lambda i: i.add(payload={"row": [1]}),
        ValueError,
        "payload: the rows of this index are texts, so it needs column 'body'",
    ),
    "nothing": (lambda i: i.add(), ValueError, "payload: the rows of this index are texts, so it needs column 'body'"),
    "numbers": (
        lambda i: i.add(payload={"body": [1, 2]}),
        ValueError,
        "payload: column 'body' is searched by its words and holds texts, got int64",
    ),
    "vectors": (
        lambda i: i.add(np.eye(2), {"body": ["a", "b"]}),
        ValueError,
        "vectors: the index holds none; its rows are payload={'body': ...}",
    ),
    "statement": (lambda i: i.search("cat", where="body ="), ValueError, None),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_calls(small, case):
    call, kind, message = BAD[case]
    with pytest.raises(
        kind, match=f"^{re.escape(message)}$" if message else r"^where: [^\n]*; the columns are id, body, "
    ):
        call(small)
    assert len(small) == 5


def test_no_texts_yet(tmp_path):
    index = Index.create(tmp_path, 2, text="body")
    assert len(index.search("anything")) == 0  # an empty index holds nothing, as for vectors
    index.add(np.eye(2))
    with pytest.raises(
        ValueError, match=r"^mode: no row has a text in column 'body', which bm25 needs: give it in payl"
    ):
        index.search("anything")
    with pytest.raises(ValueError, match=r"^language: expected one of .*english.* or None, got 'klingon'$"):
        Index.create(tmp_path / "new", text="body", language="klingon")
    with pytest.raises(ValueError, match=r"^payload: a column cannot be named 'id': reserved"):
        Index.create(tmp_path / "new", text="id")
    with pytest.raises(TypeError, match=r"^text: expected the name of a payload column, got int$"):
        Index.create(tmp_path / "new", text=3)
