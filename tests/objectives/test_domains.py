"""Losses between domains: by hand, by loops, and where gradients go."""

import math

import pytest
import torch

from nolabel.objectives.domains import coral, domain_adversarial, multi_kernel_mmd, reverse_gradient


def rows(n=7, d=3, seed=0, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def test_coral_by_loop_and_without_means():
    s, t = rows(), rows(5, seed=1)
    expected = (torch.cov(s.T) - torch.cov(t.T)).square().sum() / (4 * 9)
    torch.testing.assert_close(coral(s, t), expected)
    torch.testing.assert_close(coral(s + 100, t - 7), expected)
    torch.testing.assert_close(coral(t, s), expected)
    assert float(coral(s, s + 3)) == pytest.approx(0, abs=1e-12)


def test_mmd_by_loops():
    s, t = rows(4), rows(5, seed=1, shift=1.0)
    both = torch.cat([s, t])
    pairs = [float((both[i] - both[j]).square().sum()) for i in range(9) for j in range(9) if i != j]
    width = sum(pairs) / len(pairs)

    def k(x, y):
        squared = float((x - y).square().sum())
        return sum(math.exp(-squared / (2 * scale * width)) for scale in (0.5, 2.0)) / 2

    within_s = [k(s[i], s[j]) for i in range(4) for j in range(4) if i != j]
    within_t = [k(t[i], t[j]) for i in range(5) for j in range(5) if i != j]
    between = [k(x, y) for x in s for y in t]
    expected = sum(within_s) / 12 + sum(within_t) / 20 - 2 * sum(between) / 20
    assert float(multi_kernel_mmd(s, t, scales=(0.5, 2.0))) == pytest.approx(expected)


def test_mmd_is_unbiased_and_scale_free():
    same = [float(multi_kernel_mmd(rows(20, seed=2 * i), rows(20, seed=2 * i + 1))) for i in range(200)]
    assert abs(sum(same) / 200) < 0.01
    assert min(same) < 0  # unbiased, so at times below
    s, t = rows(), rows(seed=1, shift=2.0)
    torch.testing.assert_close(multi_kernel_mmd(9 * s, 9 * t), multi_kernel_mmd(s, t))
    torch.testing.assert_close(multi_kernel_mmd(s - 4, t - 4), multi_kernel_mmd(s, t))
    torch.testing.assert_close(multi_kernel_mmd(t, s), multi_kernel_mmd(s, t))
    nearer, farther = (float(multi_kernel_mmd(s, s.flip(0) + gap)) for gap in (0.5, 5.0))
    assert nearer < farther


def test_equal_rows_have_a_gradient_that_is_a_number():
    s = torch.ones(3, 2, requires_grad=True)
    multi_kernel_mmd(s, torch.ones(4, 2)).backward()
    assert torch.isfinite(s.grad).all()


@pytest.mark.parametrize("loss", [coral, multi_kernel_mmd])
def test_descent_brings_domains_together(loss):
    s, t = rows(30), 3 * rows(30, seed=1)
    t.requires_grad_(True)
    before = float(loss(s, t.detach()))
    gradient = torch.autograd.grad(loss(s, t), t)[0]
    assert float(loss(s, t.detach() - gradient / gradient.norm())) < before


def test_the_reversed_gradient_is_minus_strength():
    x = rows().requires_grad_(True)
    y = reverse_gradient(x, 0.3)
    assert torch.equal(y, x)
    y.square().sum().backward()
    torch.testing.assert_close(x.grad, -0.3 * 2 * x.detach())


def test_discriminator_down_encoder_up():
    s, t = rows(shift=1.0).requires_grad_(True), rows(seed=1)
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    loss = domain_adversarial(reverse_gradient(s) @ weight, t @ weight)
    own, turned = torch.autograd.grad(loss, [weight, s])
    plain = torch.autograd.grad(domain_adversarial(s @ weight, t @ weight), [weight, s])
    torch.testing.assert_close(own, plain[0])
    torch.testing.assert_close(turned, -plain[1])


def test_the_logistic_loss_by_hand():
    source, target = torch.tensor([2.0, -1.0]), torch.tensor([0.5])
    sigma = lambda v: 1 / (1 + math.exp(-v))  # noqa: E731
    expected = (-(math.log(sigma(2)) + math.log(sigma(-1))) / 2 - math.log(1 - sigma(0.5))) / 2
    assert float(domain_adversarial(source, target)) == pytest.approx(expected)
    assert float(domain_adversarial(torch.full((3,), 99.0), torch.full((3,), -99.0))) < 1e-40
    assert torch.isfinite(domain_adversarial(torch.tensor([-1e6]), torch.tensor([1e6])))


@pytest.mark.parametrize("loss", [coral, multi_kernel_mmd])
def test_bad_input(loss):
    with pytest.raises(ValueError, match=r"source must be a matrix \(n, d\) of at least 2 rows, got shape \(1, 3\)"):
        loss(rows(1), rows())
    with pytest.raises(ValueError, match=r"target must be a matrix .*got shape \(7,\)"):
        loss(rows(), rows()[:, 0])
    with pytest.raises(ValueError, match="source and target must have one width, got 3 and 2"):
        loss(rows(), rows(d=2))


@pytest.mark.parametrize("scales", [(), (1.0, 0.0), (-1.0,)])
def test_bad_scales(scales):
    with pytest.raises(ValueError, match="scales must be numbers above 0, at least one"):
        multi_kernel_mmd(rows(), rows(), scales=scales)
