"""Known answers, equality with a plain NumPy search, and every wrong input of `Index`."""

import re

import numpy as np
import pandas
import pyarrow as pa
import pytest
import torch
from sklearn.datasets import load_digits

from nolabel.search import Index, derived, structure


def digits():
    data = load_digits()
    return data.data.astype(np.float32), data.target.astype(np.int64)


def plain_search(X, query, k, metric, keep=None):
    """The slow and obvious answer: every row compared in float64."""
    X, query = X.astype(np.float64), np.asarray(query, dtype=np.float64)
    if metric == "cosine":
        scores = X @ query / np.linalg.norm(X, axis=1).clip(1e-300) / np.linalg.norm(query)
    elif metric == "dot":
        scores = X @ query
    else:
        scores = -np.linalg.norm(X - query, axis=1)
    rows = np.arange(len(X)) if keep is None else np.flatnonzero(keep)
    order = rows[np.argsort(-scores[rows], kind="stable")[:k]]
    return order, np.abs(scores[order]) if metric == "l2" else scores[order]


@pytest.fixture
def lists(monkeypatch):
    """Inverted lists and rebuilding from a few hundred rows on, filters too large to be gathered from 50 on."""
    monkeypatch.setattr(structure, "EXACT_ROWS", 500)
    monkeypatch.setattr(structure, "GATHERED_BYTES", 50 * 64 * 4)
    monkeypatch.setattr(derived, "BESIDE_ROWS", 300)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_equals_plain_search(tmp_path, metric):
    X, labels = digits()
    index = Index.create(tmp_path, 64, metric=metric)
    index.add(X, {"label": labels})
    queries = X[:20] + 0.5
    for query, hits in zip(queries, index.search(queries, 7, where="label >= 5")):
        _, scores = plain_search(X, query, 7, metric, labels >= 5)
        np.testing.assert_allclose(hits.scores, scores, rtol=1e-5, atol=1e-5)
        assert (labels[hits.ids] >= 5).all()


def test_scores_by_hand(tmp_path):
    rows = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]]
    expected = {
        "cosine": ([0, 1, 2], [0.6, 0.0, -1.0]),
        "dot": ([0, 1, 2], [3.0, 0.0, -1.0]),
        "l2": ([2, 1, 0], [2.0, 5**0.5, 20**0.5]),
    }
    for metric, (ids, scores) in expected.items():
        index = Index.create(tmp_path / metric, 2, metric=metric)
        index.add(rows)
        hits = index.search([1.0, 0.0])
        assert hits.ids.tolist() == ids
        np.testing.assert_allclose(hits.scores, scores, atol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_rows_find_themselves_through_lists(tmp_path, lists, metric):
    X, _ = digits()
    index = Index.create(tmp_path, 64, metric=metric)
    index.add(X)
    found = [int(hits.ids[0]) for hits in index.search(X, 1)]
    assert index.info()["structure"] == "ivf"
    assert found == list(range(len(X)))
    assert index.search(X[3], 1).scores[0] == pytest.approx(1.0 if metric == "cosine" else 0.0, abs=1e-5)


@pytest.mark.parametrize("where", [None, "label < 5", "label = 3", "label = 3 AND odd"])
def test_lists_find_nearly_what_a_plain_search_finds(tmp_path, lists, where):
    X, labels = digits()
    rng = np.random.default_rng(0)
    odd = rng.random(len(X)) < 0.1
    keep = {None: labels >= 0, "label < 5": labels < 5, "label = 3": labels == 3}.get(where, (labels == 3) & odd)
    index = Index.create(tmp_path, 64)
    index.add(X, {"label": labels, "odd": odd})
    queries = X[rng.choice(len(X), 100, replace=False)] + rng.normal(size=(100, 64)).astype(np.float32)
    overlap = [
        len(set(index.search(query, where=where).ids) & set(plain_search(X, query, 10, "cosine", keep)[0])) / 10
        for query in queries
    ]
    assert np.mean(overlap) >= 0.95
    assert set(labels[index.search(queries[0], 50, where=where).ids]) <= set(labels[keep])


def test_large_k_and_exact_through_lists(tmp_path, lists):
    X, _ = digits()
    index = Index.create(tmp_path, 64)
    index.add(X)
    assert index.search(X[0], 5000).ids.tolist() == plain_search(X, X[0], 5000, "cosine")[0].tolist()
    assert set(index.search(X[0], 30, exact=True).ids) == set(plain_search(X, X[0], 30, "cosine")[0])


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_prefix_is_a_search_on_the_first_coordinates(tmp_path, metric, built, request):
    if built:
        request.getfixturevalue("lists")
    X, _ = digits()
    X = X + 0.1
    index = Index.create(tmp_path, 64, metric=metric)
    index.add(X)
    for query in X[:10] + 0.3:
        hits = index.search(query, 5, dim=16, exact=True)
        np.testing.assert_allclose(hits.scores, plain_search(X[:, :16], query[:16], 5, metric)[1], rtol=1e-5)


def test_rescore_ranks_the_shortlist_by_the_whole_vector(tmp_path):
    X, _ = digits()
    X = X + 0.1
    index = Index.create(tmp_path, 64)
    index.add(X)
    for query in X[:10] + 0.3:
        shortlist = plain_search(X[:, :16], query[:16], 40, "cosine")[0]
        keep = np.isin(np.arange(len(X)), shortlist)
        assert (
            index.search(query, 5, dim=16, rescore=40).ids.tolist()
            == plain_search(X, query, 5, "cosine", keep)[0].tolist()
        )
        assert (
            index.search(query, 5, dim=16, rescore=len(X)).ids.tolist()
            == plain_search(X, query, 5, "cosine")[0].tolist()
        )


def test_rows_beside_the_structure_and_deleted_rows(tmp_path, lists, caplog):
    X, labels = digits()
    index = Index.create(tmp_path, 64)
    index.add(X[:1500], {"label": labels[:1500]})
    index.search(X[0])
    built = sorted(p.name for p in index._store.derived.iterdir())
    index.add(X[1500:], {"label": labels[1500:]})
    assert index.delete(ids=[0, 1, 2, 1600, 99999]) == 4
    gone = np.isin(np.arange(len(X)), [0, 1, 2, 1600])
    for row in (0, 7, 1600, 1700):
        for where, keep in ((None, ~gone), ("label < 5", ~gone & (labels < 5))):
            hits = index.search(X[row], 5, where=where, exact=True)
            np.testing.assert_allclose(hits.scores, plain_search(X, X[row], 5, "cosine", keep)[1], atol=1e-5)
            near = index.search(X[row], 5, where=where)
            assert near.ids[0] == hits.ids[0]
            assert not set(near.ids) & {0, 1, 2, 1600}
    info = index.info()
    assert (info["structure_rows"], info["rows_beside"], info["rows_masked"]) == (1500, 296, 3)
    assert sorted(p.name for p in index._store.derived.iterdir()) == built  # nothing was rebuilt
    index.add(X[:200])
    with caplog.at_level("INFO", logger="nolabel.search.derived"):
        index.search(X[0])
    assert "building the search structure" in caplog.text
    info = index.info()
    assert (info["structure_rows"], info["rows_beside"], info["rows_masked"]) == (len(X) - 4 + 200, 0, 0)


def test_update_keeps_what_it_does_not_name(tmp_path):
    X, labels = digits()
    index = Index.create(tmp_path, 64)
    index.add(X, {"label": labels, "name": [f"digit {i}" for i in range(len(X))]})
    index.update([5, 3], payload={"name": ["five", "three"]})
    rows = index.search(X[3], 1).to_dicts()
    assert (rows[0]["id"], rows[0]["name"], rows[0]["label"]) == (3, "three", labels[3])
    index.update([3], vectors=-X[5:6] - 1)
    hit = index.search(-X[5] - 1, 1).to_dicts()[0]
    assert (hit["id"], hit["name"], hit["label"]) == (3, "three", labels[3])
    index.update(np.arange(len(X)), payload={"cluster": (labels + 1) % 10})
    index.compact()
    again = Index(tmp_path)
    assert len(again) == len(X)
    for row in (0, 5, 1000):
        hit = again.search(X[row], 1).to_dicts()[0]
        expected = {
            "label": labels[row],
            "name": "five" if row == 5 else f"digit {row}",
            "cluster": (labels[row] + 1) % 10,
        }
        assert hit == {"id": row, "score": hit["score"], **expected}


def test_ids_of_all_rows_and_of_those_that_match(tmp_path):
    index = Index.create(tmp_path, 2, encoder="e")
    index.add(np.eye(2), {"name": ["east", "north"]}, ids=[7, 3])
    assert sorted(index.ids()) == [3, 7]
    assert index.ids("name = 'north'").tolist() == [3]
    assert index.ids("name = 'west'").tolist() == []
    assert (index.encoder, index.schema.names) == ("e", ["id", "vector", "name"])
    before = index.version
    index.update([3], payload={"name": ["up"]})
    assert index.version > before
    with pytest.raises(ValueError, match="where: .*the columns are id, name"):
        index.ids("color = 'red'")


def test_compact_removes_deleted_rows_from_disk(tmp_path):
    X = np.random.default_rng(0).normal(size=(500, 64)).astype(np.float32)
    index = Index.create(tmp_path, 64)
    index.add(X, {"number": np.arange(500)})
    old = index.search(X[17], 1)

    def on_disk():
        return any(X[17].tobytes() in file.read_bytes() for file in (tmp_path / "index.lance" / "data").iterdir())

    assert on_disk()
    index.delete(ids=[17])
    index.compact()
    assert not on_disk()
    assert len(index) == len(X) - 1
    assert index.search(X[18], 1).ids[0] == 18
    with pytest.raises(RuntimeError, match=r"compacted after this search: search again"):
        _ = old.payload


def test_ids_are_never_given_twice(tmp_path):
    index = Index.create(tmp_path, 2)
    assert index.add(np.eye(2)).tolist() == [0, 1]
    assert index.add(np.eye(2), ids=[10, 7]).tolist() == [10, 7]
    index.delete(where="id >= 7")
    index.compact()
    assert index.add(np.eye(2)).tolist() == [11, 12]
    index.delete(where="true")
    index.compact()
    assert len(index) == 0
    assert Index(tmp_path).add(np.eye(2)).tolist() == [13, 14]


def test_payload_of_every_kind(tmp_path):
    index = Index.create(tmp_path, 2)
    index.add(np.eye(2), {"a": [1, 2]})
    index.add(torch.eye(2), pandas.DataFrame({"a": [3, 4], "kind": pandas.Categorical(["x", "y"])}, index=[8, 9]))
    index.add(np.eye(2, dtype=np.float16), pa.table({"kind": ["z", None]}))
    index.add([[1, 1], [2, 2]])
    rows = index.search([1.0, 0.2], 8).to_dicts()
    found = {row["id"]: (row["a"], row["kind"]) for row in rows}
    assert [found[i] for i in range(6)] == [(1, None), (2, None), (3, "x"), (4, "y"), (None, "z"), (None, None)]
    assert index.search([1.0, 0.2], where="a IS NULL AND kind = 'z'").ids.tolist() == [4]


def test_added_from_an_iterator_in_one_commit(tmp_path):
    X, labels = digits()
    index = Index.create(tmp_path, 64)
    before = index.info()["version"]
    pieces = ((X[s : s + 500], {"label": labels[s : s + 500]}) for s in range(0, len(X), 500))
    assert index.add(pieces).tolist() == list(range(len(X)))
    assert index.info()["version"] == before + 2  # the new column, the rows
    assert index.search(X[1200], 1).to_dicts()[0]["label"] == labels[1200]

    def broken():
        yield X[:500], {"label": labels[:500]}
        yield np.full((2, 64), np.nan)

    with pytest.raises(ValueError, match=r"vectors: row 500 holds NaN or infinity"):
        index.add(broken())
    assert len(index) == len(X)
    with pytest.raises(ValueError, match=r"ids: 90001 comes twice"):
        index.add(iter([(X[:2], None, [90000, 90001]), (X[:1], None, [90001])]))
    assert len(index) == len(X)


def test_data_set_opens_with_plain_lancedb(tmp_path):
    import lancedb

    index = Index.create(tmp_path / "texts.lance", 3, encoder="tiny")
    index.add(np.eye(3) * 5, {"word": ["a", "b", "c"]})
    table = lancedb.connect(tmp_path).open_table("texts").to_arrow()
    assert table["vector"].to_pylist() == (np.eye(3) * 5).tolist()  # as given, not normalised
    assert table["word"].to_pylist() == ["a", "b", "c"]


def test_another_handle_sees_every_write_at_once(tmp_path):
    writer = Index.create(tmp_path, 2)
    reader = Index(tmp_path)
    for count in range(1, 6):
        writer.add([[1.0, count]], {"count": [count]})
        assert len(reader) == count
        assert reader.search([1.0, count], 1).to_dicts()[0]["count"] == count
        assert reader.search([1.0, 0.0], where=f"count = {count}").ids.tolist() == [count - 1]


def test_empty_index_and_no_match(tmp_path):
    index = Index.create(tmp_path, 2)
    hits = index.search([1.0, 0.0])
    assert (len(hits), hits.to_dicts(), repr(hits)) == (0, [], "Hits(0 rows)")
    index.add(np.empty((0, 2)))
    assert len(index) == 0
    index.add(np.eye(2), {"a": [1, 2]})
    none = index.search([1.0, 0.0], where="a > 5")
    assert (none.ids.tolist(), none.payload.column_names) == ([], ["a"])
    assert index.search([1.0, 0.0], 99).ids.tolist() == [0, 1]


def test_quotes_in_a_filter_are_not_statements(tmp_path):
    index = Index.create(tmp_path, 2)
    index.add(np.eye(2), {"text": ["a; b", "it's"]})
    assert index.search([1.0, 0.0], where="text = 'a; b'").ids.tolist() == [0]
    assert index.search([1.0, 0.0], where="text = 'it''s'").ids.tolist() == [1]


BAD_CALLS = {
    "dimension": (
        lambda i: i.add(np.ones((2, 3))),
        ValueError,
        "vectors: the index holds vectors of dimension 2, got an array of shape (2, 3)",
    ),
    "flat": (
        lambda i: i.add(np.ones(2)),
        ValueError,
        "vectors: the index holds vectors of dimension 2, got an array of shape (2,)",
    ),
    "nan": (lambda i: i.add([[1, 1], [1, np.nan], [np.inf, 1]]), ValueError, "vectors: row 1 holds NaN or infinity"),
    "overflow": (lambda i: i.add(np.array([[1.0, 1e300]])), ValueError, "vectors: row 0 holds NaN or infinity"),
    "zero": (lambda i: i.add([[1, 1], [0, 0]]), ValueError, "vectors: row 1 is all zeros, which has no cosine"),
    "words": (lambda i: i.add([["a", "b"]]), TypeError, "vectors: expected numbers of shape (n, 2), got list"),
    "known id": (lambda i: i.add(np.eye(2), ids=[5, 1]), ValueError, "ids: the index holds a row 1 already"),
    "same id": (lambda i: i.add(np.eye(2), ids=[5, 5]), ValueError, "ids: 5 comes twice"),
    "word ids": (
        lambda i: i.add(np.eye(2), ids=["a", "b"]),
        TypeError,
        "ids: expected a flat list of whole numbers, got <U1 of shape (2,); "
        "keep names in a payload column and filter by it",
    ),
    "negative id": (
        lambda i: i.add(np.eye(2), ids=[5, -1]),
        ValueError,
        "ids: expected numbers from 0 to 2**62, got -1",
    ),
    "few ids": (lambda i: i.add(np.eye(2), ids=[5]), ValueError, "ids: expected one for each of 2 rows, got 1"),
    "short column": (
        lambda i: i.add(np.eye(2), {"name": ["x"]}),
        ValueError,
        "payload: column 'name' has 1 values for 2 vectors",
    ),
    "text column": (
        lambda i: i.add(np.eye(2), {"name": "xy"}),
        TypeError,
        "payload: column 'name': expected 2 values, got str",
    ),
    "short table": (lambda i: i.add(np.eye(2), pa.table({"name": ["x"]})), ValueError, "payload: 1 rows for 2 vectors"),
    "reserved": (
        lambda i: i.add(np.eye(2), {"ID": [1, 2]}),
        ValueError,
        "payload: a column cannot be named 'ID': reserved, empty or with one of . ` \"",
    ),
    "dotted": (
        lambda i: i.add(np.eye(2), {"a.b": [1, 2]}),
        ValueError,
        "payload: a column cannot be named 'a.b': reserved, empty or with one of . ` \"",
    ),
    "number name": (lambda i: i.add(np.eye(2), {3: [1, 2]}), TypeError, "payload: a column's name is a string, got 3"),
    "capitals": (
        lambda i: i.add(np.eye(2), {"b": [1, 2], "B": [1, 2]}),
        ValueError,
        "payload: two columns have the same name but for capitals, among ['b', 'B']",
    ),
    "other type": (
        lambda i: i.add(np.eye(2), {"number": ["x", "y"]}),
        ValueError,
        "payload: column 'number' holds int64, got string",
    ),
    "only nulls": (
        lambda i: i.add(np.eye(2), {"new": [None, None]}),
        ValueError,
        "payload: new column 'new' holds only nulls, so its type is unknown",
    ),
    "no type": (
        lambda i: i.add(np.eye(2), {"new": [1, "a"]}),
        ValueError,
        "payload: column 'new' has no Arrow type: Could not convert 'a' with type str: tried to convert to int64",
    ),
    "no payload": (
        lambda i: i.add(np.eye(2), [1, 2]),
        TypeError,
        "payload: expected a dict of columns, DataFrame or Arrow table, got list",
    ),
    "iterator": (
        lambda i: i.add(iter([]), {"a": []}),
        ValueError,
        "vectors: an iterator yields (vectors, payload, ids) itself, so payload= and ids= are not taken",
    ),
    "query": (
        lambda i: i.search([1.0, 2.0, 3.0]),
        ValueError,
        "query: the index holds vectors of dimension 2, got an array of shape (1, 3)",
    ),
    "query cube": (
        lambda i: i.search(np.ones((1, 1, 2))),
        ValueError,
        "query: expected shape (2,) or (q, 2), got (1, 1, 2)",
    ),
    "query nan": (lambda i: i.search([1.0, np.nan]), ValueError, "query: row 0 holds NaN or infinity"),
    "query zero": (lambda i: i.search([0.0, 0.0]), ValueError, "query: row 0 is all zeros, which has no cosine"),
    "k": (lambda i: i.search([1.0, 0.0], 0), ValueError, "k: expected a whole number of at least 1, got 0"),
    "prefix": (lambda i: i.search([1.0, 0.0], dim=3), ValueError, "dim: the index holds vectors of dimension 2, got 3"),
    "prefix zero": (
        lambda i: i.search([1.0, 0.0], dim=0),
        ValueError,
        "dim: expected a whole number of at least 1, got 0",
    ),
    "rescore": (
        lambda i: i.search([1.0, 0.0], rescore=20),
        ValueError,
        "rescore: ranks what a prefix found again, so it needs dim=",
    ),
    "short rescore": (
        lambda i: i.search([1.0, 0.0], 9, dim=1, rescore=8),
        ValueError,
        "rescore: expected at least k = 9 rows, got 8",
    ),
    "column": (
        lambda i: i.search([1.0, 0.0], where="nope > 3"),
        ValueError,
        "where: Invalid input, Schema error: No field named nope. Valid fields are `id`, `vector`, `name`, "
        "`number`; the columns are id, name, number",
    ),
    "statements": (
        lambda i: i.search([1.0, 0.0], where="id = 3; DROP TABLE x"),
        ValueError,
        "where: expected one SQL expression, got several in 'id = 3; DROP TABLE x'",
    ),
    "empty where": (
        lambda i: i.search([1.0, 0.0], where=" "),
        ValueError,
        "where: expected an SQL expression, got an empty one",
    ),
    "where type": (lambda i: i.delete(where=3), TypeError, "where: expected an SQL expression, got int"),
    "update what": (lambda i: i.update([1]), ValueError, "update: expected vectors=, payload= or both, got neither"),
    "update unknown": (
        lambda i: i.update([1, 77], payload={"name": ["x", "y"]}),
        ValueError,
        "ids: the index holds no row 77",
    ),
    "update twice": (lambda i: i.update([1, 1], payload={"name": ["x", "y"]}), ValueError, "ids: 1 comes twice"),
    "update few": (
        lambda i: i.update([1, 0], vectors=[[1, 2]]),
        ValueError,
        "vectors: expected one for each of 2 ids, got 1",
    ),
    "delete what": (lambda i: i.delete(), ValueError, "delete: expected either where= or ids="),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    index = Index.create(tmp_path_factory.mktemp("small"), 2)
    index.add(np.eye(2), {"name": ["a", "b"], "number": [1, 2]})
    return index


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_calls_say_what_came_and_change_nothing(small, case):
    call, kind, message = BAD_CALLS[case]
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        call(small)
    assert len(small) == 2
    assert small.search([1.0, 0.0], 1).to_dicts() == [{"id": 0, "score": 1.0, "name": "a", "number": 1}]


@pytest.mark.parametrize("where", ["number ==", "name > 3", "number", "number / 0 = 1", 'name = "a"', "count(*) > 1"])
def test_bad_sql_is_one_line_with_the_columns(small, where):
    with pytest.raises(ValueError, match=r"^where: [^\n]*; the columns are id, name, number$") as caught:
        small.search([1.0, 0.0], where=where)
    assert ".rs:" not in str(caught.value)


def test_rows_come_in_the_order_asked_for(tmp_path):
    index = Index.create(tmp_path, dim=2)
    index.add(np.eye(2, dtype=np.float32), {"name": ["east", "north"]})
    index.add([[3.0, 4.0]], {"name": ["far"]})
    found = index.rows([2, 0])
    assert found["name"].to_pylist() == ["far", "east"]
    assert found["vector"].to_pylist()[0] == [3.0, 4.0]
    assert sorted(index.rows()["id"].to_pylist()) == [0, 1, 2]
    with pytest.raises(ValueError, match="no row 7"):
        index.rows([7])
