import math

import pytest
import torch

from nolabel.objectives import relative_speed_loss


def at(*degrees):
    """Unit vectors of the plane."""
    radians = torch.tensor(degrees, dtype=torch.float64) * (math.pi / 180)
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_by_hand():
    query, same, other = at(0, 0, 0), at(60, 60, 90), at(90, 0, 0)  # leads 0.5, -0.5, -1
    expected = ((2 - 0.5 / 0.5) + (2 + 0.5 / 0.5) + (2 + 1 / 0.5)) / 3
    assert float(relative_speed_loss(query, same, other, margin=2.0, temperature=0.5)) == pytest.approx(expected)


def test_the_margin_is_one_of_divided_cosines():
    query, same, other = at(0), at(math.degrees(math.acos(0.9))), at(math.degrees(math.acos(0.76)))
    assert float(relative_speed_loss(query, same, other)) == pytest.approx(0.0, abs=1e-6)  # 0.14 / 0.07 is the margin
    assert float(relative_speed_loss(query, same, other, temperature=0.14)) == pytest.approx(1.0, abs=1e-6)


def test_a_video_in_which_nothing_moves_stays_at_the_margin_and_teaches_nothing():
    query, key = at(10, 20).requires_grad_(), at(30, 70)
    loss = relative_speed_loss(query, key, key, margin=1.5)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.5)
    assert float(query.grad.abs().max()) < 1e-12


def test_length_plays_no_part():
    torch.manual_seed(0)
    query, same, other = torch.randn(3, 6, 4).unbind()
    torch.testing.assert_close(
        relative_speed_loss(3 * query, 5 * same, other / 7), relative_speed_loss(query, same, other)
    )


def test_gradient_turns_the_query_towards_its_speed():
    query = at(0).requires_grad_()
    relative_speed_loss(query, at(80), at(-80)).backward()
    assert query.grad[0, 1] < 0  # descending turns it up, towards the same speed
    met = at(80).requires_grad_()
    relative_speed_loss(met, at(80), at(-80)).backward()
    assert float(met.grad.abs().max()) == 0.0  # beyond the margin


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"other": torch.ones(2, 3)}, "one shape"),
        ({"margin": -0.1}, "margin must be at least 0"),
        ({"margin": math.nan}, "margin must be at least 0"),
        ({"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_bad_arguments(arguments, message):
    given = {"query": torch.ones(2, 4), "same": torch.ones(2, 4), "other": torch.ones(2, 4), **arguments}
    with pytest.raises(ValueError, match=message):
        relative_speed_loss(given.pop("query"), given.pop("same"), given.pop("other"), **given)
    with pytest.raises(ValueError, match="query must be a floating-point"):
        relative_speed_loss(*torch.ones(3, 2, 4, dtype=torch.int64).unbind())
