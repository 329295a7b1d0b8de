import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from nolabel.assess.retrieval import hit_rate, mean_average_precision, mrr, ndcg, recall_at_k

RANKED = [["a", "b", "c", "d"], ["d", "c", "b", "a"]]
RELEVANT = [{"b", "d"}, {"a", "x"}]


def test_by_hand():
    assert recall_at_k(RANKED, RELEVANT, 2) == (1 / 2 + 0) / 2
    assert recall_at_k(RANKED, RELEVANT, 4) == (1 + 1 / 2) / 2
    assert hit_rate(RANKED, RELEVANT, 2) == 0.5
    assert hit_rate(RANKED, RELEVANT, 4) == 1
    assert mrr(RANKED, RELEVANT) == (1 / 2 + 1 / 4) / 2
    assert mrr(RANKED, RELEVANT, k=3) == (1 / 2 + 0) / 2
    assert mean_average_precision(RANKED, RELEVANT) == pytest.approx(((1 / 2 + 2 / 4) / 2 + (1 / 4) / 2) / 2)
    ideal = 1 + 1 / np.log2(3)
    assert ndcg(RANKED, RELEVANT) == pytest.approx(
        ((1 / np.log2(3) + 1 / np.log2(5)) / ideal + (1 / np.log2(5)) / ideal) / 2
    )


def test_grades_change_ndcg_only():
    graded = [{"b": 3.0, "d": 1.0, "a": 0.0}, {"a": 1.0, "x": 1.0}]
    assert recall_at_k(RANKED, graded, 2) == recall_at_k(RANKED, RELEVANT, 2)
    assert mean_average_precision(RANKED, graded) == mean_average_precision(RANKED, RELEVANT)
    first = (3 / np.log2(3) + 1 / np.log2(5)) / (3 + 1 / np.log2(3))
    assert ndcg(RANKED[:1], graded[:1]) == pytest.approx(first)


@pytest.mark.parametrize("k", [3, 10, None])
def test_full_rankings_agree_with_scikit_learn(k):
    rng = np.random.default_rng(0)
    scores, grades = rng.normal(size=(20, 30)), rng.integers(0, 3, size=(20, 30)).astype(float)
    ranked = np.argsort(-scores, axis=1)  # an array of ids
    relevant = [dict(enumerate(row)) for row in grades]
    assert ndcg(ranked, relevant, k=k) == pytest.approx(ndcg_score(grades, scores, k=k))
    precision = np.mean([average_precision_score(g > 0, s) for g, s in zip(grades, scores, strict=True)])
    assert mean_average_precision(ranked, relevant) == pytest.approx(precision)


def test_agrees_with_trec_eval():
    """The evaluator of TREC, on rankings of different lengths with graded, missing and unjudged documents."""
    trec = pytest.importorskip("pytrec_eval")
    rng = np.random.default_rng(0)
    ranked, relevant = [], []
    for _ in range(30):
        names = [f"d{number}" for number in rng.permutation(60)]
        ranked.append(names[: rng.integers(1, 40)])
        relevant.append({name: float(grade) for name, grade in zip(names[::3], rng.integers(0, 4, 20), strict=True)})
        relevant[-1]["never ranked"] = 2.0
    judged = {str(row): {name: int(grade) for name, grade in one.items()} for row, one in enumerate(relevant)}
    found = {str(row): {name: -float(rank) for rank, name in enumerate(ids)} for row, ids in enumerate(ranked)}
    names = {"ndcg_cut.10", "ndcg", "map", "recip_rank", "recall.10", "success.10"}
    scores = trec.RelevanceEvaluator(judged, names).evaluate(found)
    expected = {name: np.mean([one[name] for one in scores.values()]) for name in scores["0"]}
    assert ndcg(ranked, relevant, 10) == pytest.approx(expected["ndcg_cut_10"])
    assert ndcg(ranked, relevant, None) == pytest.approx(expected["ndcg"])
    assert mean_average_precision(ranked, relevant) == pytest.approx(expected["map"])
    assert mrr(ranked, relevant) == pytest.approx(expected["recip_rank"])
    assert recall_at_k(ranked, relevant, 10) == pytest.approx(expected["recall_10"])
    assert hit_rate(ranked, relevant, 10) == pytest.approx(expected["success_10"])


def test_a_perfect_ranking_scores_one_and_a_useless_or_empty_one_zero():
    for measure in (mrr, mean_average_precision, ndcg):
        assert measure([[1, 2, 3]], [[1, 2]]) == pytest.approx(1)
        assert measure([[7, 8]], [[1, 2]]) == 0
        assert measure([[]], [[1, 2]]) == 0
    assert recall_at_k([[]], [[1]], 5) == hit_rate([[]], [[1]], 5) == 0


@pytest.mark.parametrize(
    "measure",
    [lambda a, b: recall_at_k(a, b, 2), lambda a, b: hit_rate(a, b, 2), mrr, mean_average_precision, ndcg],
)
def test_bad_input(measure):
    with pytest.raises(ValueError, match="ranked and relevant: one list a query was expected in both, got 2 and 1"):
        measure(RANKED, RELEVANT[:1])
    with pytest.raises(ValueError, match="got 0 and 0"):
        measure([], [])
    with pytest.raises(ValueError, match="relevant: query 1 has no relevant id"):
        measure(RANKED, [{"a"}, {"b": 0.0}])
    with pytest.raises(ValueError, match="ranked: query 0 has an id more than once"):
        measure([["a", "a"]], [{"a"}])
    with pytest.raises(ValueError, match="relevant: query 0 has a grade that is not 0 or more"):
        measure([["a", "b"]], [{"a": -1.0, "b": 1.0}])


@pytest.mark.parametrize("measure", [recall_at_k, hit_rate, mrr, ndcg])
def test_k_is_a_count(measure):
    with pytest.raises(ValueError, match="k: an integer at least 1"):
        measure(RANKED, RELEVANT, k=0)
