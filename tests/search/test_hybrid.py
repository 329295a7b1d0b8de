"""One index that answers in every way: fused lists, rows that a list lacks, which mode a query means, wrong queries."""

import re

import numpy as np
import pytest
from scipy import sparse

from nolabel.search import Index
from nolabel.search.fusion import fuse

WORDS = ["red", "blue", "house", "boat"]
TEXTS = ["red house", "blue boat", "blue house by the sea", "boat", "red boat, red sail", "nothing"]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Six rows with a vector on a circle, its signs as a code, the counts of four words, and a text."""
    index = Index.create(tmp_path_factory.mktemp("hybrid"), 2, bits=8, vocabulary=WORDS, text="title")
    angles = np.arange(6) * np.pi / 6
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1)
    counts = [[text.replace(",", "").split().count(word) for word in WORDS] for text in TEXTS]
    index.add(
        vectors,
        {"title": TEXTS, "row": np.arange(6)},
        codes=np.tile(vectors > 0.5, 4),
        sparse=sparse.csr_array(np.array(counts, dtype=float)),
    )
    return index


EAST = [1.0, 0.0]


def test_all_modes_of_one_index(index):
    assert index.modes == ("dense", "binary", "sparse", "bm25", "hybrid")
    assert index.search(EAST, 2).ids.tolist() == [0, 1]
    assert index.search(np.tile([True, False], 4), 2, mode="binary").ids.tolist() == [0, 1]
    assert index.search(sparse.csr_array([2.0, 0, 0, 1.0]), 2).ids.tolist() == [4, 0]
    assert index.search("red sail", 2).ids.tolist() == [4, 0]
    for mode, query in (
        ("dense", EAST),
        ("bm25", "red"),
        ("sparse", np.ones(4)),
        ("hybrid", {"dense": EAST, "bm25": "red"}),
    ):
        assert index.search(query, 3, mode=mode, where="row <> 0").ids[0] != 0
    info = index.info()
    assert set(info["columns"]) == {"title", "row"}
    assert (info["bits"], info["words"], info["text"], info["modes"]) == (8, 4, "title", index.modes)
    assert repr(index).endswith("6 rows of dimension 2, cosine, 8 bits, 4 words, text 'title')")
    assert index.rows([1]).column_names == ["id", "vector", "code", "sparse_indices", "sparse_values", "title", "row"]
    assert list(index.search(EAST, 1).to_dicts()[0]) == ["id", "score", "title", "row"]


def test_ranks_fused_by_hand(index):
    hits = index.search({"dense": EAST, "bm25": "red"}, 6, fusion="rrf")
    # dense: 0 1 2 3 4 5; bm25: 4 (twice "red" in three words), 0
    expected = {0: 1 / 61 + 1 / 62, 4: 1 / 65 + 1 / 61, 1: 1 / 62, 2: 1 / 63, 3: 1 / 64, 5: 1 / 66}
    assert hits.ids.tolist() == [0, 4, 1, 2, 3, 5]
    np.testing.assert_allclose(hits.scores, [expected[row] for row in hits.ids], rtol=1e-6)
    words = index.search("red")
    assert words.ids.tolist() == [4, 0]
    np.testing.assert_allclose(hits.parts["bm25"], [words.scores[1], words.scores[0], *[np.nan] * 4])
    np.testing.assert_allclose(hits.parts["dense"], np.cos(hits.ids * np.pi / 6), atol=1e-6)
    assert [[word for word, _ in matches] for matches in hits.matches] == [["red"], ["red"], [], [], [], []]
    assert hits.to_dicts()[1]["title"] == TEXTS[4]
    assert hits.multiply_adds == index.search(EAST, 6).multiply_adds + words.multiply_adds


@pytest.mark.parametrize("method", ["rrf", "zscore"])
def test_equals_fusing_the_lists(index, method):
    queries = {
        "dense": np.array([EAST, [0.3, 0.7]]),
        "binary": np.tile([[True, False], [True, True]], 4),
        "sparse": sparse.csr_array(np.array([[1.0, 0, 2.0, 0], [0, 1.0, 0, 1.0]])),
        "bm25": ["house at sea", "boat"],
    }
    answers = index.search(queries, 4, fusion=method)
    for number, hits in enumerate(answers):
        lists = {}
        for mode, of_mode in queries.items():
            alone = index.search(of_mode, 6, mode=mode)[number]
            lists[mode] = (alone.ids, -alone.scores if mode == "binary" else alone.scores)
            for row, score in zip(hits.ids, hits.parts[mode]):
                assert np.isnan(score) if row not in alone.ids else score == alone.scores[alone.ids == row][0]
        ids, scores = fuse(lists, 4, method)
        assert hits.ids.tolist() == ids.tolist()
        np.testing.assert_allclose(hits.scores, scores, rtol=1e-6)
        words = {word for row in hits.matches for word, _ in row}
        assert words
        assert words <= {"house", "sea", "red", "blue", "boat"}


def test_a_row_below_the_depth_of_a_list_is_missing_from_it(index):
    hits = index.search({"dense": EAST, "bm25": "red"}, 2, fusion="rrf", depth=2)
    assert hits.ids.tolist() == [0, 4]
    np.testing.assert_allclose(hits.scores, [1 / 61 + 1 / 62, 1 / 61], rtol=1e-6)
    assert np.isnan(hits.parts["dense"][1])
    assert hits.matches[1][0][0] == "red"


def test_words_that_nobody_has_leave_the_other_list(index):
    hits = index.search({"dense": EAST, "bm25": "zebra"}, 3)
    assert hits.ids.tolist() == [0, 1, 2]
    assert np.isnan(hits.parts["bm25"]).all()
    assert hits.matches == [[], [], []]
    none = index.search({"dense": EAST, "bm25": "zebra"}, 3, where="row > 9")
    assert (len(none), none.matches, none.payload.column_names) == (0, [], ["title", "row"])


def test_distances_are_told_as_distances(tmp_path):
    index = Index.create(tmp_path, 2, metric="l2", text="title")
    index.add([[0.0, 0.0], [3.0, 4.0]], {"title": ["a house", "a boat"]})
    hits = index.search({"dense": [0.0, 0.0], "bm25": "boat"}, 2, fusion="zscore")
    assert dict(zip(hits.ids.tolist(), hits.parts["dense"].tolist())) == {0: 0.0, 1: 5.0}
    assert hits.ids.tolist() == [0, 1]  # 1 + -1 for being absent; -1 + 0 for the only one


BAD = {
    "one": (
        lambda i: i.search({"dense": EAST}),
        "query: hybrid takes a dict with a query for two or more of dense, binary, sparse, bm25, got ['dense']",
    ),
    "no dict": (
        lambda i: i.search(EAST, mode="hybrid"),
        "query: hybrid takes a dict with a query for two or more of dense, binary, sparse, bm25, got list",
    ),
    "unknown": (
        lambda i: i.search({"dense": EAST, "text": "red"}),
        "mode: expected one of dense, binary, sparse, bm25, hybrid, got 'text'",
    ),
    "nested": (
        lambda i: i.search({"dense": EAST, "hybrid": {}}),
        "query: hybrid takes a query for each of dense, binary, sparse, bm25, none for itself",
    ),
    "mode": (
        lambda i: i.search(EAST, mode="splade"),
        "mode: expected one of dense, binary, sparse, bm25, hybrid, got 'splade'",
    ),
    "counts": (
        lambda i: i.search({"dense": EAST, "bm25": ["red", "blue"]}),
        "query: expected as many for each mode, got 1 for dense, 2 for bm25",
    ),
    "empty text": (
        lambda i: i.search({"dense": EAST, "bm25": ""}),
        "query: text 0: expected words, got an empty text",
    ),
    "nan": (lambda i: i.search({"dense": [np.nan, 1], "bm25": "red"}), "query: row 0 holds NaN or infinity"),
    "fusion": (
        lambda i: i.search({"dense": EAST, "bm25": "red"}, fusion="mean"),
        "fusion: expected one of rrf, zscore, got 'mean'",
    ),
    "depth": (
        lambda i: i.search({"dense": EAST, "bm25": "red"}, 9, depth=8),
        "depth: expected at least k = 9 rows of each list, got 8",
    ),
    "no depth": (
        lambda i: i.search({"dense": EAST, "bm25": "red"}, depth=0),
        "depth: expected a whole number of at least 1, got 0",
    ),
    "dim": (
        lambda i: i.search({"dense": EAST, "bm25": "red"}, dim=1),
        "dim: belongs to mode dense, and this query is hybrid",
    ),
    "text as vector": (
        lambda i: i.search("red", mode="dense"),
        "query: expected shape (2,) or (q, 2), got ()",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_queries(index, case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call(index)


def test_modes_an_index_has_no_data_for(tmp_path):
    plain = Index.create(tmp_path / "plain", 2)
    plain.add(np.eye(2))
    assert plain.modes == ("dense",)
    for query, mode, needs in (
        ("red", None, "bm25 needs one made by Index.create with text= and that column in payload="),
        (np.ones(8, bool), "binary", "binary needs one made by Index.create with bits= and codes= in add"),
        (sparse.csr_array([1.0]), None, "sparse needs one made by Index.create with vocabulary= and sparse= in add"),
    ):
        with pytest.raises(ValueError, match=f"^mode: this index answers dense; {re.escape(needs)}$"):
            plain.search(query, mode=mode)
    with pytest.raises(
        ValueError, match=r"^mode: hybrid fuses two ways of searching, and this index answers dense only$"
    ):
        plain.search({"dense": EAST, "bm25": "red"})
    texts = Index.create(tmp_path / "texts", text="title")
    texts.add(payload={"title": ["a"]})
    with pytest.raises(
        ValueError, match=r"^mode: this index answers bm25; dense needs one made by Index.create with dim="
    ):
        texts.search(EAST, mode="dense")
    with pytest.raises(
        ValueError, match=r"^dim: an index holds at least one thing to search by: dim= for dense, bits= fo"
    ):
        Index.create(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_an_index_of_vectors_only_is_still_format_1(tmp_path):
    import lancedb

    Index.create(tmp_path / "a", 2)
    Index.create(tmp_path / "b", 2, text="title")
    formats = [lancedb.connect(tmp_path / name).open_table("index").schema.metadata[b"nolabel.format"] for name in "ab"]
    assert formats == [b"1", b"2"]
    old = Index(tmp_path / "a")
    old.add(np.eye(2), {"code": [1, 2], "sparse_values": ["x", "y"]})  # names that only other indexes take
    assert old.search(EAST, 1).to_dicts() == [{"id": 0, "score": 1.0, "code": 1, "sparse_values": "x"}]
