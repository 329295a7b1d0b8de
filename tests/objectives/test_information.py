import pytest
import torch
from torch.nn.functional import cosine_similarity

from nolabel.objectives import information_bound, scaled_cosine_error


def test_bound_is_the_diagonal_less_the_mean():
    torch.manual_seed(0)
    a, b = torch.randn(7, 3), torch.randn(7, 3)
    s = cosine_similarity(a[:, None], b[None], dim=2) / 0.2
    assert information_bound(a, b).item() == pytest.approx((s.diagonal().mean() - s.mean()).item(), abs=1e-5)


def test_bound_of_views_that_tell_nothing_is_zero():
    torch.manual_seed(0)
    constant = torch.ones(6, 3)
    assert information_bound(torch.randn(6, 3), constant).item() == pytest.approx(0.0, abs=1e-6)
    matched = torch.eye(4)
    assert information_bound(matched, matched) > information_bound(matched, matched.roll(1, dims=0))


def test_bound_and_error_do_not_depend_on_lengths():
    torch.manual_seed(0)
    a, b = torch.randn(7, 3), torch.randn(7, 3)
    scale = torch.rand(7, 1) + 0.1
    assert information_bound(a * scale, b).item() == pytest.approx(information_bound(a, b).item(), abs=1e-6)
    assert scaled_cosine_error(a * scale, b).item() == pytest.approx(scaled_cosine_error(a, b).item(), abs=1e-6)


def test_error_by_hand():
    prediction = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.0, 0.0]])
    target = torch.tensor([[3.0, 0.0], [0.0, -1.0], [1.0, 0.0], [1.0, 0.0]])
    parts = [0.0, 2.0, 1 - 2**-0.5, 1.0]
    assert scaled_cosine_error(prediction, target).item() == pytest.approx(sum(parts) / 4, abs=1e-6)
    assert scaled_cosine_error(prediction, target, power=2).item() == pytest.approx(
        sum(p**2 for p in parts) / 4, abs=1e-6
    )


def test_gradients_flow_to_both():
    for function in (information_bound, scaled_cosine_error):
        a, b = (torch.randn(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
        assert torch.autograd.gradcheck(function, (a, b))


def test_bad_input():
    a, b = torch.rand(3, 2), torch.rand(4, 2)
    with pytest.raises(ValueError, match=r"a and b must have one shape \(n, d\), got \(3, 2\) and \(4, 2\)"):
        information_bound(a, b)
    with pytest.raises(ValueError, match="prediction and target must have one shape"):
        scaled_cosine_error(a, b)
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        information_bound(a, a, temperature=0)
    with pytest.raises(ValueError, match="power must be at least 1, got 0.5"):
        scaled_cosine_error(a, a, power=0.5)
