"""Search by binary codes through the index: exact distances, ties by id, filters, changes, and ranking by vectors."""

import re

import numpy as np
import pytest

from nolabel.search import Index, codes, derived

ROWS, BITS = 900, 64


def some_codes(rows=ROWS, seed=0, bits=BITS):
    centres = np.random.default_rng(99).random((12, bits)) < 0.5
    rng = np.random.default_rng(seed)
    return centres[rng.integers(0, 12, rows)] ^ (rng.random((rows, bits)) < 0.15)


def slow(X, query, k, keep=None):
    """Ids and distances by (distance, id), every bit compared."""
    rows = np.arange(len(X)) if keep is None else np.flatnonzero(keep)
    distances = (X[rows] != query).sum(1)
    order = np.argsort(distances, kind="stable")[:k]
    return rows[order].tolist(), distances[order].tolist()


def told(hits):
    return hits.ids.tolist(), hits.scores.tolist()


@pytest.fixture
def lists(monkeypatch):
    monkeypatch.setattr(codes, "FLAT_BYTES", 8 * 500)
    monkeypatch.setattr(codes, "GATHERED_BYTES", 8 * 50)
    monkeypatch.setattr(derived, "BESIDE_ROWS", 200)


def test_distances_by_hand(tmp_path):
    index = Index.create(tmp_path, bits=8)
    assert index.modes == ("binary",)
    index.add(codes=np.array([[0b11110000], [0b00000000], [0b10000000], [0b00000001]], np.uint8))
    hits = index.search(np.array([0b11000000], np.uint8), 4)
    assert told(hits) == ([2, 0, 1, 3], [1.0, 2.0, 2.0, 3.0])
    assert told(index.search([True, True] + [False] * 6, 4)) == told(hits)  # the first bit is the highest


@pytest.mark.parametrize("beside", [True, False])
def test_equals_a_slow_count(tmp_path, monkeypatch, beside):
    monkeypatch.setattr(derived, "BESIDE_ROWS", ROWS if beside else 10)
    X = some_codes()
    index = Index.create(tmp_path, bits=BITS)
    index.add(codes=X, payload={"row": np.arange(ROWS)})
    queries = some_codes(10, seed=1)
    for where, keep in ((None, None), ("row % 3 = 0", np.arange(ROWS) % 3 == 0), ("row < 5", np.arange(ROWS) < 5)):
        for query, hits in zip(queries, index.search(queries, 50, where=where)):
            assert told(hits) == slow(X, query, 50, keep)
    assert index.info()["structure"] == ("exact" if beside else "flat")
    assert index.search(np.packbits(queries[0]), 7).payload["row"].to_pylist() == slow(X, queries[0], 7)[0]
    assert len(index.search(queries[0], 5000)) == ROWS
    assert len(index.search(queries[0], where="row > 5000")) == 0


def test_ties_go_to_the_lower_id_after_updates_and_rebuilding(tmp_path, monkeypatch):
    monkeypatch.setattr(derived, "BESIDE_ROWS", 100)
    X = np.zeros((500, 8), dtype=bool)
    index = Index.create(tmp_path, bits=8)
    index.add(codes=X, ids=np.random.default_rng(0).permutation(500))
    index.search(X[0])
    index.update([4, 2, 0], codes=X[:3])  # these rows now lie behind the others
    expected = (list(range(20)), [0.0] * 20)
    assert told(index.search(X[0], 20)) == expected
    index.compact()
    assert told(index.search(X[0], 20)) == expected
    assert told(Index(tmp_path).search(X[0], 20)) == expected


def test_added_updated_and_deleted_rows(tmp_path, lists):
    X = some_codes(1700)
    index = Index.create(tmp_path, bits=BITS)
    pieces = ((start, X[start : start + 800]) for start in (0, 800))
    index.add({"codes": piece, "payload": {"row": np.arange(start, start + 800)}} for start, piece in pieces)
    index.search(X[0])
    index.add(codes=np.packbits(X[1600:], axis=1), payload={"row": np.arange(1600, 1700)})
    X[7], X[1650] = ~X[7], ~X[1650]
    index.update([7, 1650], codes=X[[7, 1650]])
    index.delete(ids=[0, 1630])
    keep = ~np.isin(np.arange(1700), [0, 1630])
    for query in X[[0, 7, 800, 1630, 1650]]:
        assert told(index.search(query, 9, exact=True)) == slow(X, query, 9, keep)
    assert index.search(X[7], 1).payload["row"].to_pylist() == [7]
    info = index.info()["structures"]["binary"]
    assert (info["structure"], info["structure_rows"], info["rows_beside"], info["rows_masked"]) == (
        "lists",
        1600,
        100,
        2,
    )
    assert index.rows([1650])["code"].to_pylist() == [np.packbits(X[1650]).tolist()]


def test_lists_find_nearly_everything(tmp_path, lists):
    X = some_codes(3000)
    index = Index.create(tmp_path, bits=BITS)
    index.add(codes=X, payload={"third": np.arange(3000) % 3})
    queries = some_codes(40, seed=1)
    for where, keep in ((None, None), ("third = 0", np.arange(3000) % 3 == 0)):
        found = [told(hits)[1] for hits in index.search(queries, 10, where=where)]
        assert np.mean(np.array(found) == [slow(X, query, 10, keep)[1] for query in queries]) >= 0.95
    assert index.info()["lists_visited"] >= 8


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_ranked_again_by_real_vectors(tmp_path, metric):
    rng = np.random.default_rng(0)
    V = rng.normal(size=(300, 16)).astype(np.float32)
    index = Index.create(tmp_path, 16, bits=16, metric=metric)
    assert index.modes == ("dense", "binary", "hybrid")
    index.add(V, {"row": np.arange(300)}, codes=V > 0)
    queries = rng.normal(size=(5, 16)).astype(np.float32)
    answers = index.search(queries > 0, 5, mode="binary", rescore=40, query_vector=queries, where="row <> 3")
    for query, hits in zip(queries, answers):
        short = slow(V > 0, query > 0, 40, np.arange(300) != 3)[0]
        near = V[short] @ query if metric != "l2" else -np.linalg.norm(V[short] - query, axis=1)
        if metric == "cosine":
            near = near / np.linalg.norm(V[short], axis=1) / np.linalg.norm(query)
        order = np.argsort(-near)[:5]
        assert hits.ids.tolist() == np.array(short)[order].tolist()
        np.testing.assert_allclose(hits.scores, np.abs(near[order]) if metric == "l2" else near[order], rtol=1e-4)
    one = index.search(queries[0] > 0, 5, mode="binary", rescore=40, query_vector=queries[0], where="row <> 3")
    assert one.ids.tolist() == answers[0].ids.tolist()
    assert len(index.search(queries[0] > 0, 5, mode="binary", rescore=9, query_vector=queries[0], where="row < 0")) == 0
    assert index.search(V[3]).ids[0] == 3  # dense stays what an array means
    assert told(index.search(queries[0] > 0, 9, mode="binary")) == slow(V > 0, queries[0] > 0, 9)
    index.update([5], vectors=-V[5:6])
    assert index.rows([5])["code"].to_pylist() == [np.packbits(V[5] > 0).tolist()]  # what is not named stays


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    index = Index.create(tmp_path_factory.mktemp("codes"), 2, bits=16)
    index.add(np.eye(2), codes=np.eye(2, 16) > 0)
    return index


CODE = np.zeros(16, dtype=bool)
KNOWN = "the index holds codes of 16 bits: bool (n, 16) or packed uint8 (n, 2)"
BAD = {
    "narrow": (
        lambda i: i.add(np.eye(2), codes=np.zeros((2, 1), np.uint8)),
        ValueError,
        f"codes: {KNOWN}, got uint8 of shape (2, 1), which is 8 bits",
    ),
    "wide": (
        lambda i: i.search(np.zeros(4, np.uint8), mode="binary"),
        ValueError,
        f"query: {KNOWN}, got uint8 of shape (1, 4), which is 32 bits",
    ),
    "unpacked bytes": (
        lambda i: i.search(np.zeros(16, np.uint8), mode="binary"),
        ValueError,
        f"query: {KNOWN}, got uint8 of shape (1, 16), which is 128 bits",
    ),
    "numbers": (
        lambda i: i.search(np.zeros(16), mode="binary"),
        TypeError,
        f"query: {KNOWN}, got float64 of shape (1, 16)",
    ),
    "flat": (
        lambda i: i.add(np.eye(2), codes=CODE),
        ValueError,
        f"codes: {KNOWN}, got bool of shape (16,)",
    ),
    "missing": (
        lambda i: i.add(np.eye(2)),
        ValueError,
        "codes: missing; the rows of this index are vectors=, codes=",
    ),
    "fewer": (
        lambda i: i.add(np.eye(2), codes=CODE[None]),
        ValueError,
        "codes: expected one for each of 2 vectors, got 1",
    ),
    "update fewer": (
        lambda i: i.update([0, 1], codes=CODE[None]),
        ValueError,
        "codes: expected one for each of 2 ids, got 1",
    ),
    "rescore alone": (
        lambda i: i.search(CODE, mode="binary", rescore=20),
        ValueError,
        "rescore: ranks what the codes found by real vectors: it goes together with query_vector=",
    ),
    "short list": (
        lambda i: i.search(CODE, 9, mode="binary", rescore=5, query_vector=[1.0, 0.0]),
        ValueError,
        "rescore: expected at least k = 9 rows, got 5",
    ),
    "vectors": (
        lambda i: i.search(CODE, 1, mode="binary", rescore=5, query_vector=np.eye(2)),
        ValueError,
        "query_vector: expected one for each of 1 codes, got shape (2, 2)",
    ),
    "nan": (
        lambda i: i.search(CODE, 1, mode="binary", rescore=5, query_vector=[np.nan, 1.0]),
        ValueError,
        "query_vector: row 0 holds NaN or infinity",
    ),
    "dim": (
        lambda i: i.search(CODE, mode="binary", dim=1),
        ValueError,
        "dim: belongs to mode dense, and this query is binary",
    ),
    "reserved": (
        lambda i: i.add(np.eye(2), {"code": [1, 2]}, codes=np.eye(2, 16) > 0),
        ValueError,
        "payload: a column cannot be named 'code': reserved, empty or with one of . ` \"",
    ),
    "k": (lambda i: i.search(CODE, 0, mode="binary"), ValueError, "k: expected a whole number of at least 1, got 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_calls(small, case):
    call, kind, message = BAD[case]
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        call(small)
    assert len(small) == 2


def test_no_real_vectors(tmp_path):
    index = Index.create(tmp_path, bits=16)
    index.add(codes=np.eye(2, 16) > 0)
    with pytest.raises(
        ValueError, match=r"^rescore: this index holds no real vectors; Index.create makes one with dim="
    ):
        index.search(CODE, 1, rescore=5, query_vector=[1.0])
    with pytest.raises(ValueError, match=r"^vectors: the index holds none \(Index.create makes one with dim=\)"):
        index.add(np.eye(2), codes=np.eye(2, 16) > 0)
    for bits in (0, 7, 12, 8.0, True):
        with pytest.raises(ValueError, match=r"^bits: expected a"):
            Index.create(tmp_path / "new", bits=bits)
    with pytest.raises(ValueError, match=r"^metric: vectors are compared by cosine, dot or l2; codes by Hamming"):
        Index.create(tmp_path / "new", 64, metric="hamming")
