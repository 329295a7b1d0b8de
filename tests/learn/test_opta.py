import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

import nolabel
from nolabel.assess.few_shot import few_shot_score
from nolabel.learn.opta import OpTAClassifier, squared_distances, standardised

pytestmark = pytest.mark.filterwarnings("ignore:how frequent each class is")


def task(counts=(12, 12, 12), shots=1, spread=1.2, seed=0, width=12):
    """Examples and queries of Gaussian classes: Z, y, queries, truth."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(counts), width))
    y, truth = np.repeat(np.arange(len(counts)), shots), np.repeat(np.arange(len(counts)), counts)
    return (
        centres[y] + spread * rng.normal(size=(len(y), width)), y,
        centres[truth] + spread * rng.normal(size=(len(truth), width)), truth,
    )  # fmt: skip


def mean_accuracy(make, tasks=25, **settings):
    scores = []
    for seed in range(tasks):
        z, y, queries, truth = task(seed=seed, **settings)
        scores.append(make().fit(z, y).score(queries, truth))
    return np.mean(scores)


def slow(z, y, queries, passes, mix, epsilon, head="logistic"):
    """The paper's procedure, one step after the other, with equal shares."""
    z = (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)
    queries = (queries - queries.mean(1, keepdims=True)) / queries.std(1, keepdims=True)
    first = p = np.array([z[y == c].mean(0) for c in np.unique(y)])
    for _ in range(passes):
        cost = np.array([[((a - q) ** 2).sum() for q in queries] for a in p])
        kernel = np.exp(-cost / cost.max() / epsilon)
        left, right = np.ones(len(p)), np.ones(len(queries))
        for _ in range(2000):
            right = 1 / len(queries) / (kernel.T @ left)
            left = 1 / len(p) / (kernel @ right)
        plan = left[:, None] * kernel * right
        p = (plan / plan.sum(1, keepdims=True)) @ queries
        if len(z) > len(p):
            p = mix * p + (1 - mix) * first
    return LogisticRegression(C=1.0, max_iter=1000).fit(p, np.arange(len(p))).predict_proba(queries), p


@pytest.mark.parametrize("shots", [1, 4])
def test_slow_recomputation(shots):
    z, y, queries, _ = task(shots=shots)
    classifier = OpTAClassifier(balanced=True).fit(z, y)
    expected, moved = slow(z, y, queries, passes=5 if shots == 1 else 1, mix=0.7, epsilon=0.05)
    np.testing.assert_allclose(classifier.predict_proba(queries), expected, atol=2e-3)
    np.testing.assert_allclose(classifier.moved_prototypes_, moved, atol=2e-3)
    np.testing.assert_allclose(classifier.plan_.sum(axis=1), 1 / 3, atol=1e-4)
    np.testing.assert_allclose(classifier.plan_.sum(axis=0), 1 / 36, rtol=1e-9)


def test_no_passes_are_plain_prototypes():
    z, y, queries, _ = task(shots=3)
    for head in ("logistic", "nearest"):
        classifier = OpTAClassifier(passes=0, head=head).fit(z, y)
        found = classifier.predict(queries)
        p, q = classifier.prototypes_, standardised(queries, "queries")
        if head == "nearest":
            expected = squared_distances(q, p).argmin(axis=1)
        else:
            expected = LogisticRegression(C=1.0).fit(p, range(3)).predict(q)
        assert np.array_equal(found, expected)
        alone = [classifier.predict(queries[i : i + 1])[0] for i in range(len(queries))]
        assert np.array_equal(found, alone)  # a query is then its own
        assert not hasattr(classifier, "plan_")


def test_known_shares_are_the_plans():
    z, y, queries, _ = task(counts=(30, 4, 2))
    classifier = OpTAClassifier(query_marginal=[30, 4, 2]).fit(z, y)
    classifier.predict(queries)
    np.testing.assert_allclose(classifier.plan_.sum(axis=1), np.array([30, 4, 2]) / 36, atol=1e-3)


def test_price_and_anchor():
    """A high price is the uniform marginal; a heavy anchor keeps the means; the weights are those of queries and examples."""
    z, y, queries, _ = task(counts=(20, 8, 8), shots=2)
    dear = OpTAClassifier(relaxation=1e6, passes=1).fit(z, y)
    dear.predict(queries)
    np.testing.assert_allclose(dear.plan_.sum(axis=1), 1 / 3, atol=1e-3)
    weight = 12 / (12 + 2 * 5)
    moved = dear.plan_ / dear.plan_.sum(axis=1, keepdims=True) @ standardised(queries, "queries")
    np.testing.assert_allclose(dear.moved_prototypes_, weight * moved + (1 - weight) * dear.prototypes_, atol=0.01)
    fixed = OpTAClassifier(anchor=1e9).fit(z, y)
    fixed.predict(queries)
    np.testing.assert_allclose(fixed.moved_prototypes_, fixed.prototypes_, atol=1e-6)
    free = OpTAClassifier(relaxation=0.05).fit(z, y)
    free.predict(queries)
    assert free.plan_.sum(axis=1)[0] > 0.36


def test_gains_where_balanced_and_no_ruin_where_not():
    balanced, default, plain = (
        lambda: OpTAClassifier(balanced=True, head="nearest"),
        lambda: OpTAClassifier(head="nearest"),
        lambda: OpTAClassifier(passes=0, head="nearest"),
    )
    even = [mean_accuracy(make, counts=(15, 15, 15)) for make in (balanced, default, plain)]
    assert even[0] > even[2] + 0.03
    assert even[1] > even[2] + 0.03
    odd = [mean_accuracy(make, counts=(35, 5, 5)) for make in (balanced, default, plain)]
    assert odd[0] < odd[2] - 0.05  # ruinous
    assert odd[2] - odd[1] < (odd[2] - odd[0]) / 2


def test_invariances():
    """Order of the queries, scale and offset of each vector, and names of the classes do not matter."""
    z, y, queries, _ = task(shots=2)
    for options in ({}, {"balanced": True}):
        found = OpTAClassifier(**options).fit(z, y).predict_proba(queries)
        order = np.random.default_rng(0).permutation(len(queries))
        np.testing.assert_allclose(
            OpTAClassifier(**options).fit(z, y).predict_proba(queries[order]), found[order], atol=1e-5
        )
        other = OpTAClassifier(**options).fit(7 * z - 2, y).predict_proba(queries * np.linspace(1, 9, 36)[:, None] + 3)
        np.testing.assert_allclose(other, found, atol=1e-5)
        names = np.array(["zebra", "ant", "cow"])
        named = OpTAClassifier(**options).fit(z, names[y])
        assert named.classes_ == ["ant", "cow", "zebra"]
        np.testing.assert_allclose(named.predict_proba(queries)[:, [2, 0, 1]], found, atol=1e-4)
        np.testing.assert_allclose(found.sum(axis=1), 1)


def test_query_labels_are_never_seen():
    z, y, queries, truth = task(counts=(20, 8, 8))
    classifier = OpTAClassifier().fit(z, y)
    found = classifier.predict(queries)
    assert classifier.score(queries, truth) == np.mean(found == truth)
    assert classifier.score(queries, found) == 1.0  # other labels, same predictions


def test_few_shot_score_takes_it():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(6), 12)
    z = rng.normal(size=(6, 10))[y] + rng.normal(size=(72, 10))
    plain, moved = (
        few_shot_score(z, y, n_way=3, n_query=10, n_episodes=30, classifier=classifier)
        for classifier in (OpTAClassifier(passes=0), OpTAClassifier(balanced=True))
    )
    gains = moved.values - plain.values
    assert gains.mean() > 2 * gains.std() / 30**0.5


@pytest.mark.parametrize("names", [False, True])
def test_save_load_clone(tmp_path, names):
    z, y, queries, _ = task()
    y = np.array(["a", "b", "c"])[y] if names else y
    classifier = OpTAClassifier(head="nearest", query_marginal=[0.5, 0.25, 0.25]).fit(z, y)
    found = classifier.predict(queries)
    loaded = nolabel.load(classifier.save(tmp_path / "opta"))
    assert np.array_equal(loaded.predict(queries), found)
    np.testing.assert_array_equal(loaded.plan_, classifier.plan_)
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(queries)


def test_that_shares_are_estimated_is_said_once():
    z, y, queries, _ = task()
    classifier = OpTAClassifier()
    with pytest.warns(
        UserWarning, match="how frequent each class is .* is estimated .* set balanced=True .*(said once)"
    ):
        classifier.fit(z, y).predict(queries)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.predict(queries)
        classifier.fit(z, y).predict_proba(queries)  # as over many episodes
        for known in ({"balanced": True}, {"query_marginal": [1, 1, 1]}, {"passes": 0}):
            OpTAClassifier(**known).fit(z, y).predict(queries)
    with pytest.warns(UserWarning, match="is estimated"):
        clone(classifier).fit(z, y).predict(queries)


def test_bad_queries():
    z, y, queries, truth = task()
    classifier = OpTAClassifier(balanced=True).fit(z, y)
    with pytest.raises(ValueError, match="OpTA aligns to the query set, pass all queries together .*got 1 query"):
        classifier.predict(queries[:1])
    with pytest.warns(UserWarning, match="2 queries are fewer than the 3 classes"):
        classifier.predict(queries[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.predict(queries[:3])
    with pytest.raises(ValueError, match="width 12, as in fit, was expected, got 11"):
        classifier.predict(queries[:, :11])
    with pytest.raises(ValueError, match="row 2 is constant"):
        classifier.predict(np.where(np.arange(36)[:, None] == 2, 0.0, queries))
    with pytest.raises(ValueError, match="queries of 7, which has none"):
        classifier.score(queries, np.where(truth == 0, 7, truth))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"epsilon": 0}, "epsilon must be a number above 0, got 0"),
        ({"relaxation": 0}, "relaxation must be a number above 0, got 0"),
        ({"anchor": -1}, "anchor must be a number of at least 0, got -1"),
        ({"passes": -1}, "passes must be 'auto' or a whole number of at least 0, got -1"),
        ({"passes": "many"}, "passes must be 'auto' or .* got 'many'"),
        ({"mix": 1.5}, r"mix must lie in \[0, 1\], got 1.5"),
        ({"head": "svm"}, "head must be one of logistic, nearest, got 'svm'"),
        ({"query_marginal": [0.5, 0.5]}, "query_marginal must hold 3 shares above 0"),
        ({"query_marginal": [1, 0, 1]}, "query_marginal must hold 3 shares above 0"),
        ({"query_marginal": [1, 1, 1], "balanced": True}, "two statements about the queries"),
    ],
)
def test_bad_parameters(params, message):
    z, y, _, _ = task()
    with pytest.raises(ValueError, match=message):
        OpTAClassifier(**params).fit(z, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z, y: (z, y * 0), "y: at least 2 classes were expected, got only 0"),
        (lambda z, y: (z * 0, y), "Z: .* row 0 is constant"),
        (lambda z, y: (z, y[:2]), "y: one label a row was expected"),
        (lambda z, y: (z * np.nan, y), "Z: row 0 has non-finite values"),
    ],
)
def test_bad_examples(change, message):
    z, y, _, _ = task()
    with pytest.raises(ValueError, match=message):
        OpTAClassifier().fit(*change(z, y))
