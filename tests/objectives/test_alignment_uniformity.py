import math

import pytest
import torch
from torch.nn.functional import normalize

from nolabel.objectives import alignment, uniformity


def vectors(n, d=5, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_alignment_equals_the_formula(power):
    z1, z2 = vectors(9, seed=1), vectors(9, seed=2)
    expected = sum((a / a.norm() - b / b.norm()).norm() ** power for a, b in zip(z1, z2)) / 9
    torch.testing.assert_close(alignment(z1, z2, power=power), expected)


def test_uniformity_equals_the_formula():
    z = vectors(9)
    unit = [row / row.norm() for row in z]
    pairs = [(i, j) for i in range(9) for j in range(9) if i != j]
    potentials = [math.exp(-3 * float((unit[i] - unit[j]).square().sum())) for i, j in pairs]
    assert float(uniformity(z, t=3)) == pytest.approx(math.log(sum(potentials) / len(potentials)))


def test_uniformity_equals_the_formula_over_several_tiles():
    z = vectors(1500, 8).float()
    expected = torch.pdist(normalize(z, dim=1)).square().mul(-2).exp().mean().log()
    torch.testing.assert_close(uniformity(z), expected)


def test_extremes():
    pole = torch.tensor([[0.0, 2.0]] * 3)
    assert float(alignment(pole, pole)) == 0
    assert float(alignment(pole, -pole)) == pytest.approx(4)
    assert float(alignment(pole, -pole, power=1)) == pytest.approx(2)
    assert float(uniformity(pole)) == pytest.approx(0, abs=1e-6)  # a collapse
    assert float(uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))) == pytest.approx(-8)  # opposite poles


def test_scale_order_and_rotation_do_not_matter():
    z1, z2 = vectors(9, seed=1), vectors(9, seed=2)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    rotation, _ = torch.linalg.qr(vectors(5))
    scale = torch.arange(1.0, 10.0).unsqueeze(1)
    for a, b in ((z1[order], z2[order]), (z1 @ rotation, z2 @ rotation), (scale * z1, z2 / scale)):
        torch.testing.assert_close(alignment(a, b, power=1), alignment(z1, z2, power=1))
        torch.testing.assert_close(uniformity(a), uniformity(z1))


@pytest.mark.parametrize("power", [1, 2, 3])
def test_gradients(power):
    z1, z2 = vectors(4, seed=1).requires_grad_(), vectors(4, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: alignment(a, b, power=power), (z1, z2))
    assert torch.autograd.gradcheck(uniformity, (z1,))


@pytest.mark.parametrize("power", [0.5, 1, 2, 3])
def test_equal_views_take_a_finite_gradient(power):
    z = vectors(4).requires_grad_()
    alignment(z, z.detach(), power=power).backward()
    assert (z.grad == 0).all()


def test_descent_on_uniformity_spreads_a_cluster():
    z = (torch.tensor([1.0, 0.0, 0.0]) + 0.1 * vectors(30, 3).float()).requires_grad_()
    optimiser = torch.optim.SGD([z], lr=1)
    start = float(uniformity(z).detach())
    for _ in range(30):
        optimiser.zero_grad()
        uniformity(z).backward()
        optimiser.step()
    assert start > -0.2
    assert float(uniformity(z).detach()) < -1.5  # log((1 - exp(-8)) / 8) = -2.08 for the whole sphere


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: alignment(torch.ones(3, 2), torch.ones(2, 2)), r"one shape, got \(3, 2\) and \(2, 2\)"),
        (lambda: alignment(torch.ones(3), torch.ones(3)), "z1 must be a floating-point"),
        (lambda: alignment(torch.ones(3, 2), torch.ones(3, 2), power=0), "power must be above 0, got 0"),
        (lambda: uniformity(torch.ones(1, 2)), "at least 2 rows, got 1"),
        (lambda: uniformity(torch.ones(3)), "z must be a floating-point"),
        (lambda: uniformity(torch.ones(3, 2), t=0), "t must be above 0, got 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
