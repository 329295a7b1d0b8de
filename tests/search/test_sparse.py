"""Search by sparse vectors through the index: inner products, what made them, filters, changes, wrong input."""

import re

import numpy as np
import pytest
from scipy import sparse

from nolabel.search import Index, derived

ROWS, WORDS = 600, 40


def rows_of(rows=ROWS, seed=0, density=0.1):
    return sparse.random_array((rows, WORDS), density=density, format="csr", dtype=np.float32, rng=seed)


def slow(X, query, k, keep=None):
    """Ids and inner products of the rows that share a dimension, by (-product, id), in float64."""
    scores = X.toarray().astype(np.float64) @ query.toarray().ravel().astype(np.float64)
    rows = np.flatnonzero((scores > 0) & (True if keep is None else keep))
    order = rows[np.argsort(-scores[rows].astype(np.float32), kind="stable")[:k]]
    return order, scores[order]


def test_products_and_explanation_by_hand(tmp_path):
    index = Index.create(tmp_path, vocabulary=["cat", "dog", "fish", "owl"])
    assert index.modes == ("sparse",)
    index.add(sparse=sparse.csr_matrix([[1.0, 2.0, 0, 0], [0, 0, 0, 5.0], [3.0, 0, 0.5, 0], [0, 0, 0, 0]]))
    hits = index.search(sparse.csr_array([2.0, 1.0, 4.0, 0.0]), 9)
    assert hits.ids.tolist() == [2, 0]  # rows 1 and 3 share no word
    np.testing.assert_allclose(hits.scores, [8.0, 4.0])
    assert hits.matches == [[("cat", 6.0), ("fish", 2.0)], [("cat", 2.0), ("dog", 2.0)]]
    assert hits.multiply_adds == 4  # entries of the columns cat, dog and fish
    again = Index(tmp_path).search(np.array([0, 0, 0, 1.0]), mode="sparse")  # a dense array is taken too
    assert (again.ids.tolist(), again.matches) == ([1], [[("owl", 5.0)]])


@pytest.mark.parametrize("built", [False, True])
def test_equals_the_matrix_product(tmp_path, monkeypatch, built):
    monkeypatch.setattr(derived, "BESIDE_ROWS", 100 if built else ROWS)
    X = rows_of()
    index = Index.create(tmp_path, vocabulary=WORDS)
    index.add(sparse=X[:500], payload={"row": np.arange(500)})
    queries = rows_of(8, seed=1, density=0.2)
    index.search(queries)
    index.add(
        {"sparse": X[start : start + 50], "payload": {"row": np.arange(start, start + 50)}} for start in (500, 550)
    )
    index.delete(ids=[3, 510])
    gone = np.isin(np.arange(ROWS), [3, 510])
    for where, keep in ((None, ~gone), ("row % 4 = 1", ~gone & (np.arange(ROWS) % 4 == 1))):
        for number, hits in enumerate(index.search(queries, 25, where=where)):
            query = queries[number : number + 1]
            ids, scores = slow(X, query, 25, keep)
            assert hits.ids.tolist() == ids.tolist()
            np.testing.assert_allclose(hits.scores, scores, rtol=1e-6)
            for row, score, matches in zip(hits.ids, hits.scores, hits.matches):
                products = X[row : row + 1].toarray()[0] * query.toarray()[0]
                assert {name for name, _ in matches} == set(np.flatnonzero(products))
                assert sum(worth for _, worth in matches) == pytest.approx(score, rel=1e-6)
                assert [worth for _, worth in matches] == sorted((worth for _, worth in matches), reverse=True)
    info = index.info()
    assert (info["structure"], info["structure_rows"]) == (("postings", 500) if built else ("exact", 0))


def test_ties_go_to_the_lower_id(tmp_path, monkeypatch):
    monkeypatch.setattr(derived, "BESIDE_ROWS", 20)
    index = Index.create(tmp_path, vocabulary=3)
    index.add(sparse=np.ones((60, 3)), ids=np.random.default_rng(0).permutation(60))
    query = sparse.csr_array([0.3, 0.0, 0.7])
    assert index.search(query, 7).ids.tolist() == list(range(7))
    index.update([2, 0], sparse=np.ones((2, 3)))
    assert index.search(query, 7).ids.tolist() == list(range(7))


def test_rows_are_kept_as_given(tmp_path):
    index = Index.create(tmp_path, 2, vocabulary=5)
    X = sparse.coo_matrix(([1.0, 2.0, 0.0, 4.0], ([0, 0, 0, 1], [3, 3, 1, 0])), shape=(2, 5))  # twice 3, a stored zero
    index.add(np.eye(2), sparse=X)
    rows = index.rows([1, 0])
    assert rows["sparse_indices"].to_pylist() == [[0], [3]]
    assert rows["sparse_values"].to_pylist() == [[4.0], [3.0]]
    assert X.nnz == 4  # the caller's matrix is left alone
    index.update([0], vectors=[[3.0, 4.0]])
    assert index.rows([0])["sparse_values"].to_pylist() == [[3.0]]
    assert index.search(sparse.csr_array([[0, 0, 0, 1.0, 0]]))[0].ids.tolist() == [0]  # two axes: a list of one
    assert index.search([3.0, 4.0]).ids[0] == 0


def test_the_words_belong_to_the_index(tmp_path):
    import shutil

    index = Index.create(tmp_path, vocabulary=["a", "b"])
    index.add(sparse=np.eye(2))
    shutil.rmtree(tmp_path / "index.vocabulary.lance")
    hits = Index(tmp_path).search(np.array([1.0, 0.0]))
    assert hits.ids.tolist() == [0]
    with pytest.raises(ValueError, match=r"index.lance are missing: index.vocabulary.lance belongs beside it$"):
        _ = hits.matches
    shutil.rmtree(tmp_path / "index.lance")
    Index.create(tmp_path, vocabulary=["c", "d"]).add(sparse=np.eye(2))
    assert Index(tmp_path).search(np.array([1.0, 0.0])).matches == [[("c", 1.0)]]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    index = Index.create(tmp_path_factory.mktemp("sparse"), vocabulary=4)
    index.add(sparse=sparse.csr_array([[1.0, 0, 0, 2.0], [0, 0, 1.0, 0]]))
    return index


BAD = {
    "width": (
        lambda i: i.add(sparse=np.ones((2, 3))),
        ValueError,
        "sparse: the index holds sparse vectors of 4 dimensions, got shape (2, 3)",
    ),
    "negative": (
        lambda i: i.add(sparse=sparse.csr_array([[0, 1.0, 0, 0], [0, 0, -1.0, 0]])),
        ValueError,
        "sparse: row 1 holds a negative weight in dimension 2",
    ),
    "nan": (
        lambda i: i.search(np.array([0, np.nan, 0, 0])),
        ValueError,
        "query: row 0 holds NaN or infinity in dimension 1",
    ),
    "words": (
        lambda i: i.add(sparse=[["a"] * 4]),
        TypeError,
        "sparse: expected a sparse or dense matrix (n, 4), got <U1",
    ),
    "empty query": (
        lambda i: i.search(sparse.csr_array((2, 4))),
        ValueError,
        "query: row 0 is all zeros, so it has no word to search by",
    ),
    "unknown word": (
        lambda i: i.search(np.array([0, 1.0, 0, 0])),
        ValueError,
        "query: row 0 has no dimension that any row of the index has",
    ),
    "exact": (
        lambda i: i.search(np.ones(4), exact=True),
        ValueError,
        "exact: belongs to mode dense or binary or hybrid, and this query is sparse",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_calls(small, case):
    call, kind, message = BAD[case]
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        call(small)
    assert len(small) == 2


def test_bad_vocabularies(tmp_path):
    for vocabulary, message in (
        (0, "vocabulary: expected a whole number of at least 1, got 0"),
        ([], "vocabulary: expected words, got none"),
        (["a", "b", "a"], "vocabulary: the word 'a' comes twice"),
        (["a", ""], "vocabulary: expected words, got ''"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            Index.create(tmp_path / "new", vocabulary=vocabulary)
    with pytest.raises(TypeError, match=r"^vocabulary: expected words or how many there are, got str$"):
        Index.create(tmp_path / "new", vocabulary="words")
    assert list(tmp_path.iterdir()) == []
