"""Which structure is chosen, and that each finds what comparing every row finds."""

import numpy as np
import pytest

from nolabel.search import structure
from nolabel.search.funnel import Tally
from nolabel.search.structure import Chosen, Structure, best, choose, prepare


def clustered(rows, dim=24, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(30, dim))
    return (centres[rng.integers(0, 30, rows)] + 0.6 * rng.normal(size=(rows, dim))).astype(np.float32)


def built(folder, X, metric, kind):
    folder.mkdir(exist_ok=True)
    Structure.build(folder, iter([X[:1000], X[1000:]]), len(X), X.shape[1], metric, kind)
    return Structure.load(folder)


def test_choice_by_size_and_memory():
    gib = 2**30
    assert choose(20_000, 4096, memory=gib) == "exact"
    assert choose(20_001, 128, memory=gib) == "ivf"
    assert choose(gib // 16, 4, memory=gib) == "ivf-sq8"  # 1 GiB of vectors
    assert choose(gib // 64, 4, memory=gib) == "ivf"  # a quarter of the memory exactly


def test_prepare():
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [1e-30, 0.0]])
    np.testing.assert_allclose(prepare(rows, "cosine"), [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6)
    np.testing.assert_array_equal(prepare(rows, "l2"), rows.astype(np.float32))


def test_best_orders_by_score_then_position():
    scores, positions = best(np.array([[1.0, 3.0, 1.0, 2.0]]), np.array([[9, 5, 4, 7]]), 3)
    assert (scores.tolist(), positions.tolist()) == ([[3.0, 2.0, 1.0]], [[5, 7, 4]])


@pytest.mark.parametrize("kind", ["exact", "ivf", "ivf-sq8"])
@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_each_kind_finds_the_neighbours_with_exact_scores(tmp_path, metric, kind):
    X, queries = np.split(clustered(4100), [4000])
    queries = prepare(queries, metric)
    found = built(tmp_path, X, metric, kind)
    P = prepare(X, metric)
    every = -np.linalg.norm(P[None] - queries[:, None], axis=2) if metric == "l2" else queries @ P.T
    truth = np.argsort(-every, axis=1)[:, :10]
    scores, positions = found.search(queries, 10)
    np.testing.assert_allclose(scores, np.take_along_axis(every, positions, 1), rtol=1e-4, atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, positions)])
    assert recall == 1 if kind == "exact" else recall >= 0.95


@pytest.mark.parametrize("kind", ["ivf", "ivf-sq8"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_filter_far_from_the_query_is_still_answered_well(tmp_path, monkeypatch, metric, kind):
    # Only rows on the far side pass: the lists near the query hold none of them, yet the nearest of them are found.
    monkeypatch.setattr(structure, "GATHERED_BYTES", 0)
    X = clustered(4000)
    found = built(tmp_path, X, metric, kind)
    P = prepare(X, metric)
    far = np.flatnonzero(P @ P[0] < np.quantile(P @ P[0], 0.3))
    chosen = Chosen(found, far)
    positions = found.search(P[:1], 10, chosen)[1]
    every = -np.linalg.norm(P[far] - P[0], axis=1) if metric == "l2" else P[far] @ P[0]
    assert set(positions[0]) <= set(far)
    assert len(set(positions[0]) & set(far[np.argsort(-every)[:10]])) >= 8


def test_lists_visited_grow_with_difficulty(tmp_path):
    easy = built(tmp_path / "easy", clustered(4000), "cosine", "ivf")
    noise = np.random.default_rng(0).normal(size=(4000, 24)).astype(np.float32)
    hard = built(tmp_path / "hard", noise, "cosine", "ivf")
    assert easy.nprobe < hard.nprobe <= hard.ivf.nlist


@pytest.mark.parametrize("kind", ["ivf", "ivf-sq8"])
def test_where_lists_save_nothing_every_float_is_compared(tmp_path, kind):
    noise = prepare(np.random.default_rng(0).normal(size=(4000, 64)), "cosine")
    found = built(tmp_path, noise, "cosine", kind)
    queries = prepare(np.random.default_rng(1).normal(size=(50, 64)), "cosine")
    truth = np.argsort(-queries @ noise.T, axis=1)[:, :10]
    tally = Tally()
    positions = found.search(queries, 10, tally=tally)[1]
    if kind == "ivf":
        assert found.nprobe == found.ivf.nlist
        assert np.array_equal(positions, truth)
        assert tally.multiply_adds == 50 * 64 * (4000 + 10)
    else:  # codes of a quarter of the size are read all the same
        assert found.nprobe < found.ivf.nlist
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, positions)]) > 0.9


def test_more_rows_than_the_lists_hold(tmp_path):
    X = clustered(4000)
    found = built(tmp_path, X, "cosine", "ivf")
    found.nprobe = 1
    scores, positions = found.search(prepare(X[:3], "cosine"), 190)
    assert (positions >= 0).all()
    assert np.isfinite(scores).all()


def test_wrong_number_of_rows(tmp_path):
    with pytest.raises(RuntimeError, match=r"^expected 10 rows to build from, got 9$"):
        Structure.build(tmp_path, iter([np.ones((9, 2))]), 10, 2, "l2")
