"""Stages by hand, funnel search against a slow recomputation, what it costs, and rows without a direction."""

import re

import numpy as np
import pytest

from nolabel.search import Index, derived, structure
from nolabel.search.funnel import Stage, Tally, plan
from nolabel.search.structure import Structure, prepare


def vectors(n=900, d=32, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, d))
    return (centres[rng.integers(0, 20, n)] + 0.7 * rng.normal(size=(n, d))).astype(np.float32)


def slow_scores(X, query, dim, metric):
    """Every row by its first coordinates, in float64."""
    X, query = X[:, :dim].astype(np.float64), query[:dim].astype(np.float64)
    if metric == "cosine":
        return X @ query / np.linalg.norm(X, axis=1) / np.linalg.norm(query)
    return X @ query if metric == "dot" else -np.linalg.norm(X - query, axis=1)


def slow_funnel(X, query, stages, k, metric):
    rows = np.arange(len(X))
    for dim, keep in stages:
        scores = slow_scores(X[rows], query, dim, metric)
        rows = rows[np.argsort(-scores, kind="stable")[:keep]]
    return rows[:k]


@pytest.fixture
def lists(monkeypatch):
    """Inverted lists from a few hundred rows on."""
    monkeypatch.setattr(structure, "EXACT_ROWS", 500)
    monkeypatch.setattr(structure, "GATHERED_BYTES", 50 * 4)
    monkeypatch.setattr(derived, "BESIDE_ROWS", 300)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    index = Index.create(tmp_path_factory.mktemp("funnel"), 32)
    index.add(vectors(), {"odd": np.arange(900) % 2 == 1})
    return index


def test_plan_by_hand():
    assert plan(10, 64) == [Stage(64, 10)]
    assert plan(10, 64, dim=8) == [Stage(8, 10)]
    assert plan(10, 64, dim=8, rescore=50) == [Stage(8, 50), Stage(64, 10)]
    assert plan(10, 64, funnel=[(8, 200), (16, 100), (64, 10)]) == [Stage(8, 200), Stage(16, 100), Stage(64, 10)]


STAGES = {
    "two": [(4, 60), (32, 10)],
    "three": [(4, 100), (16, 40), (32, 20)],
    "ends early": [(2, 300), (8, 30)],
    "one": [(8, 10)],
    "keeps all": [(4, 5000), (32, 5000)],
}


@pytest.mark.parametrize("stages", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_equals_a_slow_funnel(tmp_path, metric, stages):
    X = vectors()
    index = Index.create(tmp_path, 32, metric=metric)
    index.add(X)
    queries = vectors(930)[900:]
    for query, hits in zip(queries, index.search(queries, 10, funnel=stages)):
        expected = slow_funnel(X, query, stages, 10, metric)
        assert hits.ids.tolist() == expected.tolist()
        scores = slow_scores(X[expected], query, stages[-1][0], metric)
        np.testing.assert_allclose(hits.scores, -scores if metric == "l2" else scores, rtol=1e-4, atol=1e-5)


def test_a_prefix_of_a_unit_vector_gets_unit_length_again(tmp_path):
    # the first two coordinates of row 0 point where the query's do, but are short; those of row 1 are long and askew
    index = Index.create(tmp_path, 3)
    index.add([[0.1, 0.0, 0.9], [0.9, 0.4, 0.0]])
    for call in ({"dim": 2}, {"funnel": [(1, 2), (2, 2)]}):
        hits = index.search([1.0, 0.0, 0.0], 2, **call)
        assert hits.ids.tolist() == [0, 1]
        np.testing.assert_allclose(hits.scores, [1.0, 0.9 / np.hypot(0.9, 0.4)], rtol=1e-6)


def test_rescore_is_the_funnel_of_two_stages(index):
    queries = vectors(920)[900:]
    two = index.search(queries, 5, dim=4, rescore=60)
    funnel = index.search(queries, 5, funnel=[(4, 60), (32, 5)])
    for a, b in zip(two, funnel):
        assert a.ids.tolist() == b.ids.tolist()
        assert a.multiply_adds == b.multiply_adds


def test_with_a_filter_and_rows_beside_the_structure(tmp_path, lists):
    X = vectors()
    index = Index.create(tmp_path, 32)
    index.add(X[:800], {"odd": np.arange(800) % 2 == 1})
    index.search(X[0])
    index.add(X[800:], {"odd": np.arange(800, 900) % 2 == 1})
    index.delete(ids=range(50))
    assert index.info()["structure"] == "ivf"
    keep = np.flatnonzero((np.arange(900) % 2 == 1) & (np.arange(900) >= 50))
    for query in vectors(910)[900:]:
        hits = index.search(query, 10, where="odd", funnel=[(8, 60), (16, 30), (32, 10)], exact=True)
        assert (
            hits.ids.tolist() == keep[slow_funnel(X[keep], query, [(8, 60), (16, 30), (32, 10)], 10, "cosine")].tolist()
        )


def test_lists_of_the_prefix_find_nearly_what_a_slow_funnel_finds(tmp_path, lists):
    X = vectors(4000)
    index = Index.create(tmp_path, 32)
    index.add(X)
    stages = [(16, 60), (32, 10)]
    overlap = [
        len(set(index.search(query, 10, funnel=stages).ids) & set(slow_funnel(X, query, stages, 10, "cosine"))) / 10
        for query in vectors(4040)[4000:]
    ]
    assert np.mean(overlap) >= 0.95
    whole, cut = (index.search(X[0], 10, **call).multiply_adds for call in ({"exact": True}, {"funnel": stages}))
    assert cut < whole / 4


def test_multiply_adds_by_hand(index):
    query = vectors()[3]
    assert index.search(query, 10).multiply_adds == 900 * 32 + 10 * 32  # all rows, then the ten exactly
    assert index.search(query, 10, dim=8).multiply_adds == 900 * 8 + 10 * 8
    narrow = 900 * 4 + 100 * 4
    assert index.search(query, 10, funnel=[(4, 100), (16, 40), (32, 10)]).multiply_adds == narrow + 100 * 16 + 40 * 32
    assert index.search(query, 10, where="odd", dim=8).multiply_adds == 450 * 8 + 10 * 8
    both = index.search(vectors()[:2], 10, dim=8)
    assert [hits.multiply_adds for hits in both] == [900 * 8 + 10 * 8] * 2  # of one query, not of all


def test_multiply_adds_of_lists(tmp_path):
    X = vectors(4300)
    Structure.build(tmp_path, iter([X[:4000]]), 4000, 32, "cosine", "ivf")
    found = Structure.load(tmp_path)
    queries = prepare(X[4000:], "cosine")
    tally = Tally()
    found.search(queries, 10, tally=tally)
    sizes = np.bincount(found.lists, minlength=found.ivf.nlist)
    met = sizes[found.ivf.quantizer.search(queries, found.nprobe)[1]].sum(axis=1).mean()  # what they truly met
    assert tally.multiply_adds / 300 / 32 == pytest.approx(found.ivf.nlist + met + 10, rel=0.1)


def test_a_row_without_direction_is_named(tmp_path, lists):
    X = vectors()
    X[[700, 250], :4] = 0
    index = Index.create(tmp_path, 32)
    index.add(X)
    message = (
        "dim: row 250 (and 1 more) is all zeros in its first 4 coordinates, which has no cosine; "
        "search by more of them, or leave it out with where="
    )
    for call in ({"dim": 4}, {"dim": 2, "rescore": 50}, {"funnel": [(4, 50), (32, 10)]}, {"dim": 4, "exact": True}):
        expected = message.replace("first 4", "first 2") if call.get("dim") == 2 else message
        with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
            index.search(X[0], **call)
    again = Index(tmp_path)  # read from the files of the prefix
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        again.search(X[0], dim=4)
    assert len(again.search(X[0], dim=5)) == 10
    assert 250 not in again.search(X[0], 300, dim=4, where="id <> 250 AND id <> 700").ids
    index.delete(ids=[250, 700])
    assert len(index.search(X[0], dim=4)) == 10
    index.add([[0.0, 0.0, 0.0, 0.0, *X[0][4:]]], ids=[5000])  # beside the structure
    with pytest.raises(ValueError, match="row 5000 is all zeros in its first 4 coordinates"):
        index.search(X[0], dim=4)


@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_a_row_of_zeros_counts_where_lengths_do(tmp_path, metric):
    index = Index.create(tmp_path, 4, metric=metric)
    index.add([[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    assert index.search([1.0, 0.1, 0.0, 0.0], 2, dim=2).ids.tolist() == [1, 0]


def test_a_query_without_direction_is_named(index):
    queries = vectors()[:3].copy()
    queries[1, :4] = 0
    message = "query: row 1 is all zeros in its first 4 coordinates, which has no cosine"
    with pytest.raises(ValueError, match=f"^{message}$"):
        index.search(queries, dim=4, rescore=20)
    assert len(index.search(queries, dim=5)) == 3


BAD = {
    "empty": ({"funnel": []}, "funnel: expected pairs (dimension, rows to keep) such as [(16, 200), (32, 10)], got []"),
    "flat": (
        {"funnel": [16, 200]},
        "funnel: expected pairs (dimension, rows to keep) such as [(16, 200), (32, 10)], got [16, 200]",
    ),
    "triple": (
        {"funnel": [(4, 20, 1)]},
        "funnel: expected pairs (dimension, rows to keep) such as [(16, 200), (32, 10)], got [(4, 20, 1)]",
    ),
    "fraction": ({"funnel": [(4.5, 20)]}, "funnel: dimension: expected a whole number of at least 1, got 4.5"),
    "no rows": ({"funnel": [(4, 0)]}, "funnel: rows to keep: expected a whole number of at least 1, got 0"),
    "falling": ({"funnel": [(16, 50), (4, 20)]}, "funnel: expected dimensions that rise, got 16, 4"),
    "twice": ({"funnel": [(16, 50), (16, 20)]}, "funnel: expected dimensions that rise, got 16, 16"),
    "too wide": ({"funnel": [(4, 50), (64, 20)]}, "funnel: the index holds vectors of dimension 32, got 64"),
    "growing": (
        {"funnel": [(4, 20), (32, 50)]},
        "funnel: no stage keeps more rows than the one before, got 20, 50",
    ),
    "too short": (
        {"funnel": [(4, 50), (32, 9)]},
        "funnel: expected every stage to keep at least k = 10 rows, got 9",
    ),
    "with dim": (
        {"funnel": [(4, 50)], "dim": 8},
        "funnel: names its own dimensions, so dim= and rescore= are not taken",
    ),
    "with rescore": (
        {"funnel": [(4, 50)], "rescore": 80},
        "funnel: names its own dimensions, so dim= and rescore= are not taken",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_funnels(index, case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        index.search(vectors()[0], 10, **call)
