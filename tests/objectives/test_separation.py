"""Losses of a split representation: closed forms, a double loop, and where the gradient goes."""

import math

import pytest
import torch

from nolabel.objectives.alignment_uniformity import alignment, uniformity
from nolabel.objectives.separation import (
    euclidean_alignment,
    euclidean_uniformity,
    kernel_joint_entropy,
    supervised_alignment,
)


def vectors(n: int = 9, d: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel(x: torch.Tensor, y: torch.Tensor, temperature: float) -> float:
    return math.exp(-float((x - y).square().sum()) / (2 * temperature))


@pytest.mark.parametrize("temperature", [0.5, 1.7])
def test_double_loops(temperature: float) -> None:
    a, b = vectors(seed=1), vectors(d=3, seed=2)
    n = len(a)
    pairs = [kernel(a[i], a[j], temperature) for i in range(n) for j in range(i)]
    expected = math.log(sum(pairs) / len(pairs))
    assert float(euclidean_uniformity(a, temperature=temperature)) == pytest.approx(expected)
    rows = [
        math.log(sum(kernel(a[i], a[j], temperature) * kernel(b[i], b[j], temperature) for j in range(n)) / n)
        for i in range(n)
    ]
    assert float(kernel_joint_entropy(a, b, temperature=temperature)) == pytest.approx(-sum(rows) / n)
    apart = [float((a[i] - vectors(seed=5)[i]).square().sum()) / (2 * temperature) for i in range(n)]
    got = euclidean_alignment(a, vectors(seed=5), temperature=temperature)
    assert float(got) == pytest.approx(sum(apart) / n)


def test_on_the_sphere_they_are_alignment_and_uniformity() -> None:
    first, second = (torch.nn.functional.normalize(vectors(seed=s), dim=1) for s in (1, 2))
    torch.testing.assert_close(euclidean_alignment(first, second, temperature=0.5), alignment(first, second))
    torch.testing.assert_close(euclidean_uniformity(first, temperature=0.5), uniformity(first, t=1))


def test_length_matters_and_place_does_not() -> None:
    z = vectors()
    assert euclidean_uniformity(10 * z) < euclidean_uniformity(z) - 1
    far = z.float() + 1000  # differences of large squares would be noise
    torch.testing.assert_close(euclidean_uniformity(far), euclidean_uniformity(z).float(), atol=2e-3, rtol=0)


def test_entropy_bounds_and_what_dependence_costs() -> None:
    same = torch.ones(8, 2)
    assert float(kernel_joint_entropy(same, same)) == pytest.approx(0, abs=1e-6)
    far = 100 * torch.eye(8)
    assert float(kernel_joint_entropy(far, same)) == pytest.approx(math.log(8))
    bits = 10 * torch.tensor([[0.0], [1.0]]).repeat(8, 1)
    others = 10 * torch.tensor([[0.0], [0.0], [1.0], [1.0]]).repeat(4, 1)
    assert float(kernel_joint_entropy(bits, bits)) == pytest.approx(math.log(2), abs=1e-5)  # one bit, told twice
    assert float(kernel_joint_entropy(bits, others)) == pytest.approx(math.log(4), abs=1e-5)  # two bits
    z = vectors()
    both = kernel_joint_entropy(z, vectors(seed=3))
    assert both > kernel_joint_entropy(z, torch.zeros(9, 1, dtype=torch.float64))
    order = torch.randperm(9)
    torch.testing.assert_close(kernel_joint_entropy(z[order], vectors(seed=3)[order]), both)


def test_supervised_alignment_by_loop_and_limits() -> None:
    z, y = vectors(6, 2), torch.rand(6, 2, dtype=torch.float64)
    expected = torch.zeros(2, dtype=torch.float64)
    for i in range(6):
        for j in range(i):
            for a in range(2):
                expected[a] += torch.exp(-((y[i, a] - y[j, a]) ** 2) / 0.05) * (z[i, a] - z[j, a]) ** 2 / 15
    torch.testing.assert_close(supervised_alignment(z, y, bandwidth=0.025), expected)
    everything = supervised_alignment(z, y, bandwidth=1e9)  # all pairs attract: twice the variance
    torch.testing.assert_close(everything, 2 * z.var(dim=0))
    classes = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [2, 2], [3, 3]])
    one_class = torch.tensor([[5.0, 1.0], [5.0, 2.0], [7.0, 1.0], [7.0, 2.0], [0.0, 0.0], [9.0, 9.0]])
    assert supervised_alignment(one_class, classes, bandwidth=1e-5).tolist() == [0, 0]


def test_gradients_are_those_of_finite_differences_also_where_vectors_coincide() -> None:
    z, other = vectors(5, 3).requires_grad_(), vectors(5, 2, seed=4).requires_grad_()
    assert torch.autograd.gradcheck(euclidean_uniformity, (z,))
    assert torch.autograd.gradcheck(kernel_joint_entropy, (z, other))
    assert torch.autograd.gradcheck(lambda x: supervised_alignment(x, vectors(5, 3, seed=7)), (z,))
    at_null = torch.cat([z[:2], torch.zeros(3, 3, dtype=torch.float64)])
    (gradient,) = torch.autograd.grad(euclidean_uniformity(at_null), z)
    assert torch.isfinite(gradient).all()
    assert (gradient[:2].abs().sum(1) > 0).all()


def test_half_precision_is_computed_in_float32() -> None:
    z = vectors().to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        got = euclidean_uniformity(z), kernel_joint_entropy(z, z), euclidean_alignment(z, z.roll(1, 0))
    expected = euclidean_uniformity(z.float()), kernel_joint_entropy(z.float(), z.float())
    assert all(value.dtype == torch.float32 for value in got)
    torch.testing.assert_close(got[:2], expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: euclidean_alignment(z, z[:3]), r"one shape, got \(9, 4\) and \(3, 4\)"),
        (lambda z: euclidean_alignment(z, z, temperature=0), "temperature must be above 0, got 0"),
        (lambda z: euclidean_uniformity(z[:1]), r"z must be a floating-point \(n >= 2, d\) matrix, got .*\(1, 4\)"),
        (lambda z: euclidean_uniformity(z, temperature=-1.0), "temperature must be above 0"),
        (lambda z: euclidean_uniformity(z.long()), "floating-point"),
        (lambda z: kernel_joint_entropy(z, z[:5]), "equally many rows, got 9 and 5"),
        (lambda z: kernel_joint_entropy(z[:1], z[:1]), r"first must be .*n >= 2"),
        (lambda z: kernel_joint_entropy(z, z[0]), "second must be"),
        (lambda z: kernel_joint_entropy(z, z, temperature=float("nan")), "temperature must be above 0"),
        (
            lambda z: supervised_alignment(z, z[:, :2]),
            r"attributes must be one number a coordinate.*\(9, 4\), got \(9, 2\)",
        ),
        (lambda z: supervised_alignment(z, z, bandwidth=0), "bandwidth must be above 0"),
        (lambda z: supervised_alignment(z[:1], z[:1]), "n >= 2"),
    ],
)
def test_bad_input(call, message) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call(vectors())
    assert "\n" not in str(caught.value)
