import pytest
from sklearn.base import clone

from nolabel.training import Training
from nolabel.training.settings import HOUSE


def test_gaps_are_filled_by_the_recipe_then_the_house():
    given = Training(lr=0.7)
    filled = given.resolve({"lr": 0.3, "batch_size": 64})
    assert (filled.lr, filled.batch_size, filled.epochs) == (0.7, 64, HOUSE["epochs"])
    assert given.batch_size is None  # the argument itself stays
    assert clone(given).get_params() == given.get_params()


def test_a_zero_is_not_a_gap():
    assert Training(weight_decay=0.0, warmup=0.0).resolve({"warmup": 0.3}).get_params()["warmup"] == 0.0


def test_two_budgets_and_unknown_recipes():
    with pytest.raises(ValueError, match=r"training.steps and training.minutes are two budgets: give one of them"):
        Training(steps=3, minutes=1.0).resolve({})
    with pytest.raises(ValueError, match="a recipe may set epochs, .*; got momentum"):
        Training().resolve({"momentum": 0.9})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0), ("epochs", True), ("batch_size", 1.5), ("steps", -1), ("devices", 0), ("nodes", "2"),
        ("lr", 0), ("lr", "fast"), ("lr", float("nan")), ("weight_decay", -0.1), ("minutes", 0), ("checkpoint_seconds", -1),
        ("clip", -1.0), ("warmup", -0.1), ("warmup", 1.0), ("optimiser", "sgdd"), ("random_state", -1), ("random_state", None),
    ],
)  # fmt: skip
def test_values_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=rf"training\.{name}") as caught:
        Training(**{name: value}).resolve({})
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)
