import json

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone

from nolabel.assess.contrastive import contrastive_diagnostics, neighbour_tolerance
from nolabel.assess.geometry import uniformity
from nolabel.assess.rank import rankme
from nolabel.assess.temperature import TemperatureAdvisor
from nolabel.learn import SimCLR
from nolabel.training import Training

X = np.random.default_rng(0).normal(size=(300, 12))


class Shrinking(BaseEstimator):
    """Pulls everything towards one point, the more the higher the temperature, and keeps four dimensions above 3."""

    def __init__(self, temperature=0.1, width=12):
        self.temperature = temperature
        self.width = width

    def fit(self, X, columns=None):
        self.columns_ = columns
        return self

    def transform(self, X, columns=None, layer="representation"):
        assert layer == "embedding"
        assert columns == self.columns_
        z = np.where(np.arange(12) < (12 if self.temperature < 3 else 4), X, 1e-6 * X)
        return z + (self.temperature > 0.5) * (40 if self.temperature == 1 else 0)


def advised(grid, **options):
    return TemperatureAdvisor(Shrinking(), grid, share=1.0, **options).fit(X).table_


def test_the_table_holds_the_measures_of_each_embedding():
    run = advised((0.3,)).runs[0]
    assert run.uniformity == uniformity(X)
    assert run.neighbour_tolerance == neighbour_tolerance(X, 30)
    assert run.rankme == rankme(X)
    assert run.effective_negatives == contrastive_diagnostics(X, X, 0.3).effective_negatives
    assert run.negatives == 299
    assert run.flags == ()


def test_runs_come_by_rising_temperature_with_their_flags():
    table = advised((5.0, 0.01, 1.0, 0.3))
    assert [run.temperature for run in table.runs] == [0.01, 0.3, 1.0, 5.0]
    narrow, good, collapsed, flat = table.runs
    assert narrow.flags == ("narrow",)
    assert good.flags == ()
    assert collapsed.flags == ("collapsed", "not hardness-aware", "low rank")
    assert flat.flags == ("not hardness-aware", "low rank")
    assert table.unflagged == (0.3,)


def test_effective_negatives_rise_with_temperature_on_one_embedding():
    effective = [run.effective_negatives for run in advised((0.02, 0.05, 0.1, 0.3)).runs]
    assert effective == sorted(set(effective))


def test_the_learner_given_is_not_touched_and_columns_reach_its_copies():
    learner = Shrinking(temperature=0.7)
    TemperatureAdvisor(learner, (0.1, 0.2), share=1.0).fit(X, columns={"image": "photo"})
    assert learner.temperature == 0.7
    assert not hasattr(learner, "columns_")


def test_a_draw_of_rows_is_measured():
    run = advised((0.3,), rows=50).runs[0]
    assert run.negatives == 49
    assert run == advised((0.3,), rows=50).runs[0]
    assert run != advised((0.3,), rows=50, random_state=1).runs[0]


def test_prints_and_turns_into_a_dict_and_never_speaks_of_accuracy():
    table = advised((0.01, 0.3))
    lines = str(table).splitlines()
    assert len(lines) == 3
    assert lines[1].endswith("narrow")
    assert lines[2].endswith("of 299")
    assert json.loads(json.dumps(table.to_dict()))["unflagged"] == [0.3]
    assert "accura" not in str(table)


def test_params_and_clone():
    advisor = clone(TemperatureAdvisor(Shrinking(width=5), (0.1, 0.4), rows=100))
    assert advisor.get_params()["learner__width"] == 5
    assert (advisor.grid, advisor.rows) == ((0.1, 0.4), 100)


def test_simclr_gets_a_share_of_its_budget(digits):
    budget = Training(steps=20, batch_size=16, stop_on_collapse=False)
    learner = SimCLR("resnet10-x0.125", projection=(16, 8), image_size=16, training=budget)
    seen = []
    usual = SimCLR.fit

    class Counting(SimCLR):
        def fit(self, X, **options):
            seen.append((self.temperature, self.training.steps))
            return usual(self, X, **options)

    counting = Counting(**learner.get_params(deep=False))
    table = TemperatureAdvisor(counting, (0.5, 0.1), share=0.1).fit(digits[0][:64]).table_
    assert seen == [(0.1, 2), (0.5, 2)]
    assert counting.training.steps == 20
    by_hand = clone(learner).set_params(temperature=0.1, training__steps=2).fit(digits[0][:64])
    z = by_hand.transform(digits[0][:64], layer="embedding")
    assert table.runs[0].rankme == pytest.approx(rankme(z))


class NoLayer(BaseEstimator):
    def __init__(self, temperature=0.1):
        self.temperature = temperature

    def transform(self, X):
        return X


@pytest.mark.parametrize(
    ("advisor", "error", "message"),
    [
        (TemperatureAdvisor(object()), TypeError, "a parameter 'temperature' was expected, got object"),
        (TemperatureAdvisor(NoLayer()), TypeError, r"NoLayer.transform takes no layer"),
        (TemperatureAdvisor(Shrinking(), ()), ValueError, r"grid: different temperatures above 0 .* got \[\]"),
        (TemperatureAdvisor(Shrinking(), (0.1, 0.0)), ValueError, r"grid: .* got \[0.1, 0.0\]"),
        (TemperatureAdvisor(Shrinking(), (0.1, 0.1)), ValueError, r"grid: .* got \[0.1, 0.1\]"),
        (TemperatureAdvisor(Shrinking(), share=0.0), ValueError, r"share: a number in \(0, 1\] was expected, got 0.0"),
        (TemperatureAdvisor(Shrinking(), rows=3), ValueError, "rows: at least 20 were expected, got 3"),
    ],
)
def test_bad_arguments(advisor, error, message):
    with pytest.raises(error, match=message) as caught:
        advisor.fit(X)
    assert "\n" not in str(caught.value)


def test_too_little_data():
    with pytest.raises(ValueError, match="X: at least 20 rows were expected, got 19"):
        TemperatureAdvisor(Shrinking(), share=1.0).fit(X[:19])
