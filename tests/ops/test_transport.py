import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from nolabel.ops.transport import barycentric_map, transport


def cost_of(n, m, seed=0, dtype=torch.float64):
    return torch.rand(n, m, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def slow(cost, source, target, epsilon, iterations, relaxation=None):
    """Potentials in logarithms, one sum at a time."""
    n, m = cost.shape
    f, g = np.zeros(n), np.zeros(m)
    pull = 1 if relaxation is None else relaxation / (relaxation + epsilon)
    for _ in range(iterations):
        for j in range(m):
            g[j] = pull * (np.log(target[j]) - np.logaddexp.reduce(f - cost[:, j] / epsilon))
        for i in range(n):
            f[i] = np.log(source[i]) - np.logaddexp.reduce(g - cost[i] / epsilon)
    return np.exp(f[:, None] + g - cost / epsilon)


@pytest.mark.parametrize("relaxation", [None, 0.02, 1.0])
@pytest.mark.parametrize("epsilon", [1.0, 0.05, 0.002])
def test_slow_recomputation(epsilon, relaxation):
    """Small epsilons drive the scales far, so that the matrix is made anew on the way."""
    cost, weights = cost_of(7, 5) * 3, np.random.default_rng(0).random(12) + 0.2
    source, target = weights[:7] / weights[:7].sum(), weights[7:] / weights[7:].sum()
    plan = transport(
        cost, torch.tensor(weights[:7]), torch.tensor(weights[7:]), epsilon=epsilon, iterations=40, tolerance=0.0,
        target_relaxation=relaxation,
    )  # fmt: skip
    expected = slow(cost.numpy(), source, target, epsilon, 40, relaxation)
    np.testing.assert_allclose(plan.numpy(), expected, rtol=1e-9, atol=1e-14)
    single = transport(
        cost.float(), torch.tensor(weights[:7]), torch.tensor(weights[7:]), epsilon=epsilon, iterations=40,
        tolerance=0.0, target_relaxation=relaxation,
    )  # fmt: skip
    np.testing.assert_allclose(single.numpy(), expected, atol=1e-4)


def test_two_by_two_in_closed_form():
    """Equal weights and cost c off the diagonal: the diagonal has 1 / (1 + exp(-c / epsilon)) of the mass."""
    plan = transport(torch.tensor([[0.0, 0.3], [0.3, 0.0]], dtype=torch.float64), epsilon=0.1)
    diagonal = 0.5 / (1 + np.exp(-3.0))
    np.testing.assert_allclose(plan.diagonal().numpy(), diagonal, rtol=1e-9)
    np.testing.assert_allclose(plan[0, 1].item(), 0.5 - diagonal, rtol=1e-9)


def test_totals():
    source, target = torch.tensor([3.0, 1.0, 4.0]), torch.tensor([1.0, 1.0])
    plan = transport(cost_of(3, 2), source, target, epsilon=0.05, tolerance=1e-10)
    torch.testing.assert_close(plan.sum(dim=1), source.double() / 8)
    torch.testing.assert_close(plan.sum(dim=0), target.double() / 2)


def test_small_epsilon_is_the_assignment():
    cost = cost_of(6, 6)
    rows, columns = linear_sum_assignment(cost.numpy())
    plan = transport(cost, epsilon=1e-3, iterations=5000, tolerance=1e-9)
    expected = np.zeros((6, 6))
    expected[rows, columns] = 1 / 6
    np.testing.assert_allclose(plan.numpy(), expected, atol=1e-3)


def test_large_epsilon_forgets_the_cost():
    plan = transport(cost_of(3, 4), torch.tensor([1.0, 2.0, 1.0]), epsilon=1e6)
    torch.testing.assert_close(plan, torch.tensor([0.25, 0.5, 0.25]).double()[:, None].expand(3, 4) / 4)


def test_tiny_epsilon_does_not_overflow_in_single_precision():
    plan = transport(cost_of(20, 10, dtype=torch.float32), epsilon=1e-5, iterations=50)
    assert torch.isfinite(plan).all()
    torch.testing.assert_close(plan.sum(), torch.tensor(1.0))


def test_invariances():
    cost = cost_of(6, 4)
    plan = transport(cost, epsilon=0.1, tolerance=1e-9)
    torch.testing.assert_close(transport(cost + 1000, epsilon=0.1, tolerance=1e-9), plan)
    torch.testing.assert_close(transport(cost * 7, epsilon=0.7, tolerance=1e-9), plan)
    torch.testing.assert_close(transport(cost.T, epsilon=0.1, tolerance=1e-9).T, plan, rtol=1e-5, atol=1e-9)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(transport(cost[order], epsilon=0.1, tolerance=1e-9), plan[order])


def test_relaxation_trades_totals_against_cost():
    """Columns that cost less get more, the more so the cheaper the difference; a high price gives the exact totals."""
    cost = torch.tensor([[0.0, 1.0], [0.1, 1.0], [0.2, 1.0]], dtype=torch.float64)
    shares = [
        float(transport(cost, epsilon=0.05, target_relaxation=price)[:, 0].sum()) for price in (1e5, 1.0, 0.1, 0.01)
    ]
    assert shares[0] == pytest.approx(0.5, abs=1e-3)
    assert all(more > less for less, more in itertools.pairwise(shares))
    assert shares[-1] > 0.99


def test_stopping():
    """It stops at the first iteration in which the sources' potentials change by less than the tolerance in total."""
    cost, epsilon, count = cost_of(8, 6), 0.2, 40
    plans = [transport(cost, epsilon=epsilon, iterations=i, tolerance=0.0) for i in range(1, count)]
    f, g, changes = np.zeros(8), np.zeros(6), []
    for _ in range(1, count):
        g = -np.log(6) - np.logaddexp.reduce(f[:, None] - cost.numpy() / epsilon, axis=0)
        before, f = f, -np.log(8) - np.logaddexp.reduce(g - cost.numpy() / epsilon, axis=1)
        changes.append(epsilon * np.abs(f - before).sum())
    for tolerance in (1e-1, 1e-3, 1e-5):
        last = next(i for i, change in enumerate(changes) if i > 0 and change < tolerance)
        torch.testing.assert_close(
            transport(cost, epsilon=epsilon, tolerance=tolerance), plans[last], rtol=1e-9, atol=0
        )
        assert not torch.allclose(plans[last - 1], plans[last], rtol=1e-9, atol=0)


def test_half_precision_and_gradient():
    cost = cost_of(4, 3, dtype=torch.float32).requires_grad_()
    plan = transport(cost.to(torch.bfloat16), epsilon=0.1)
    assert plan.dtype == torch.float32
    assert not transport(cost, epsilon=0.1).requires_grad


def test_barycentric_map():
    plan = torch.tensor([[0.2, 0.2, 0.0], [0.0, 0.1, 0.3]])
    points = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 8.0]])
    torch.testing.assert_close(barycentric_map(plan, points), torch.tensor([[2.0, 0.0], [1.0, 6.0]]))
    with pytest.raises(ValueError, match="mass, got none in row 1"):
        barycentric_map(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), points[:2])
    with pytest.raises(ValueError, match=r"plan must be \(n, m\) and points \(m, d\), got \(2, 3\) and \(2, 2\)"):
        barycentric_map(plan, points[:2])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"cost": torch.zeros(3)}, r"cost must be a floating-point .* got torch.float32 \(3,\)"),
        ({"cost": torch.zeros(3, 2, dtype=torch.int64)}, "cost must be a floating-point .* got torch.int64"),
        ({"cost": torch.tensor([[0.0, torch.nan]])}, "cost must be finite, got 1 values that are not"),
        ({"epsilon": 0.0}, "epsilon must be a number above 0, got 0.0"),
        ({"epsilon": -1.0}, "epsilon must be a number above 0, got -1.0"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"tolerance": float("nan")}, "tolerance must be at least 0, got nan"),
        ({"target_relaxation": 0.0}, "target_relaxation must be None or a number above 0, got 0.0"),
        ({"source": torch.ones(2)}, r"source must hold one weight for each of 3, got shape \(2,\)"),
        ({"target": torch.tensor([1.0, 0.0])}, "target must hold finite weights above 0, got 0 as the least"),
        ({"target": torch.tensor([1.0, torch.inf])}, "target must hold finite weights above 0"),
    ],
)
def test_bad_input(params, message):
    with pytest.raises(ValueError, match=message) as caught:
        transport(**{"cost": torch.zeros(3, 2), "epsilon": 0.1, **params})
    assert "\n" not in str(caught.value)
