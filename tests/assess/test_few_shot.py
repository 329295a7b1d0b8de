import itertools

import numpy as np
import pytest
from scipy import stats

from nolabel.assess.few_shot import episodes, few_shot_score


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).permutation(np.repeat(np.arange(8), [9, 10, 11, 12, 13, 14, 15, 5]))


def test_episodes(labels):
    drawn = list(episodes(labels, n_way=4, n_shot=2, n_query=7, n_episodes=50, random_state=3))
    assert len(drawn) == 50
    seen = set()
    for task in drawn:
        assert len(set(task.support) | set(task.query)) == 8 + 28  # no row twice
        names, counts = np.unique(labels[task.support], return_counts=True)
        assert len(names) == 4
        assert set(counts) == {2}
        assert np.array_equal(np.unique(labels[task.query], return_counts=True), (names, np.full(4, 7)))
        assert 7 not in names  # five rows are too few for 2 + 7
        assert (np.diff(labels[task.query]) != 0).sum() > 5  # the order gives nothing away
        seen |= set(names.tolist())
    assert seen == set(range(7))


def test_episodes_depend_on_seed_and_number_alone(labels):
    few, many, other = (
        list(episodes(labels, 3, 1, 4, n, seed)) for n, seed in ((3, 0), (6, 0), (3, 1))
    )  # fmt: skip
    for one, same in zip(few, many):
        assert np.array_equal(one.support, same.support)
        assert np.array_equal(one.query, same.query)
    assert not np.array_equal(few[0].query, other[0].query)
    assert not np.array_equal(many[0].query, many[1].query)


def test_unequal_queries(labels):
    tops = []
    for task in episodes(labels, 3, 1, (8, 1, 3), 40):
        names, counts = np.unique(labels[task.query], return_counts=True)
        assert sorted(counts) == [1, 3, 8]
        tops.append(names[counts.argmax()])
    assert len(set(tops)) == 7  # any class may be the frequent one


class Constant:
    """Says the smallest label it was shown."""

    def fit(self, z, y):
        self.answer = y.min()
        return self

    def predict(self, z):
        return np.full(len(z), self.answer)


def test_score_by_hand(labels):
    z = np.random.default_rng(1).normal(size=(len(labels), 3))
    score = few_shot_score(z, labels, n_way=3, n_query=(6, 2, 1), n_episodes=25, classifier=Constant(), random_state=5)
    expected = [
        np.mean(labels[task.query] == labels[task.support].min()) for task in episodes(labels, 3, 1, (6, 2, 1), 25, 5)
    ]
    np.testing.assert_allclose(score.values, expected)
    assert score.mean == pytest.approx(np.mean(expected))
    low, high = stats.t.interval(0.95, 24, loc=np.mean(expected), scale=stats.sem(expected))
    assert score.interval95 == pytest.approx((high - low) / 2)


def test_default_is_the_nearest_mean_of_unit_vectors(labels):
    rng = np.random.default_rng(2)
    z = rng.normal(size=(8, 4))[labels] + rng.normal(size=(len(labels), 4))
    score = few_shot_score(z, labels, n_way=4, n_shot=3, n_query=5, n_episodes=10)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    for value, task in zip(score.values, episodes(labels, 4, 3, 5, 10)):
        names = np.unique(labels[task.support])
        means = np.array([unit[[r for r in task.support if labels[r] == name]].mean(0) for name in names])
        predicted = [names[((means - unit[row]) ** 2).sum(1).argmin()] for row in task.query]
        assert value == pytest.approx(np.mean(predicted == labels[task.query]))
    assert few_shot_score(
        z * rng.uniform(1, 9, (len(z), 1)), labels, n_way=4, n_shot=3, n_query=5, n_episodes=10
    ).mean == (pytest.approx(score.mean))


def test_more_examples_help_and_one_episode_has_no_interval(labels):
    rng = np.random.default_rng(3)
    z = rng.normal(size=(8, 6))[labels] + 0.8 * rng.normal(size=(len(labels), 6))
    means = [few_shot_score(z, labels, n_shot=shots, n_query=4, n_episodes=60).mean for shots in (1, 2, 5)]
    assert all(more > less for less, more in itertools.pairwise(means))
    assert np.isnan(few_shot_score(z, labels, n_query=4, n_episodes=1).interval95)
    names = np.array([f"class {c}" for c in labels])
    assert few_shot_score(z, names, n_query=4, n_episodes=60).mean == pytest.approx(means[0])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_way": 8}, "y: 8 classes with at least 6 rows were expected, got 7"),
        ({"n_way": 1}, "n_way: an integer at least 2 was expected, got 1"),
        ({"n_shot": 0}, "n_shot: an integer at least 1 was expected, got 0"),
        ({"n_query": 0}, "n_query: an integer at least 1 was expected, got 0"),
        ({"n_query": (5, 5)}, r"n_query: one number, or one for each of the 3 classes was expected, got \[5, 5\]"),
        ({"n_query": (5, -1, 2)}, "n_query: an integer at least 0 was expected, got -1"),
        ({"n_episodes": 0}, "n_episodes: an integer at least 1 was expected, got 0"),
        ({"n_query": 20}, "y: 3 classes with at least 21 rows were expected, got 0"),
        ({"labels": np.zeros(3, int)}, "labels: one label a row was expected"),
    ],
)
def test_bad_input(params, message, labels):
    z = np.random.default_rng(0).normal(size=(len(labels), 2))
    given = {"labels": labels, "n_way": 3, "n_query": 5, "n_episodes": 2, **params}
    with pytest.raises(ValueError, match=message) as caught:
        few_shot_score(z, given.pop("labels"), **given)
    assert "\n" not in str(caught.value)
