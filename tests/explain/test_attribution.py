"""Attribution on coefficients, against closed forms."""

import numpy as np
import pytest
import torch

from nolabel.explain.attribution import (
    ATTRIBUTIONS,
    gradient_input,
    hsic,
    integrated_gradients,
    occlusion,
    responses,
    rise,
    saliency,
    smooth_grad,
    sobol,
    var_grad,
)

WEIGHTS = torch.tensor([2.0, -1.0, 0.5, 0.0])
U = torch.tensor([[1.0, 2.0, 4.0, 3.0], [0.5, 0.0, 1.0, 7.0]])


def affine(u):
    return u @ WEIGHTS + 3.0


def squares(u):
    return (u.square() * WEIGHTS).sum(-1)


def test_an_affine_output_has_one_answer():
    expected = U * WEIGHTS
    for method in (gradient_input, integrated_gradients, occlusion):
        torch.testing.assert_close(method(affine, U), expected)
    torch.testing.assert_close(saliency(affine, U), WEIGHTS.abs().expand(2, 4))
    torch.testing.assert_close(smooth_grad(affine, U), WEIGHTS.expand(2, 4))
    assert var_grad(affine, U).abs().max() < 1e-10


def test_masks_of_an_affine_output():
    expected = U * WEIGHTS
    torch.testing.assert_close(rise(affine, U, draws=20_000), expected / 2, atol=0.05, rtol=0)
    # the variance of u_i w_i m_i with m uniform is (u_i w_i)^2 / 12: total indices are shares of the squares
    shares = expected.square() / expected.square().sum(1, keepdim=True)
    torch.testing.assert_close(sobol(affine, U, designs=4096), shares, atol=0.02, rtol=0)
    dependence = hsic(affine, U, draws=1000)
    # |u w| are 2, 2, 2, 0 and 1, 0, 0.5, 0
    assert dependence[1].argmax() == 0
    assert dependence[1].topk(2).indices.tolist() == [0, 2]
    assert (dependence[:, 3] < 0.1 * dependence.amax(1)).all()


def test_squares():
    torch.testing.assert_close(gradient_input(squares, U), 2 * U.square() * WEIGHTS)
    # on the way from 0 the gradient is half of that at the end: the parts add up to the whole
    torch.testing.assert_close(integrated_gradients(squares, U, steps=50), U.square() * WEIGHTS)
    torch.testing.assert_close(occlusion(squares, U), U.square() * WEIGHTS)
    torch.testing.assert_close(integrated_gradients(squares, U).sum(1), squares(U) - squares(torch.zeros_like(U)))


def test_jansen_by_hand():
    from scipy.stats import qmc

    masks = qmc.Sobol(4, seed=np.random.default_rng(3)).random(8).astype(np.float32)
    a, b = masks[:, :2], masks[:, 2:]

    def f(m):
        return (2 * (1 * m[:, 0]) ** 2) - (2 * m[:, 1]) ** 2

    def plain(u):
        return 2 * u[..., 0] ** 2 - u[..., 1] ** 2

    found = sobol(plain, U[:1, :2], designs=8, seed=3)
    for i in range(2):
        mixed = a.copy()
        mixed[:, i] = b[:, i]
        expected = ((f(a) - f(mixed)) ** 2).mean() / (2 * f(a).var(ddof=1))
        assert found[0, i] == pytest.approx(expected, rel=1e-4)


def test_hsic_by_the_definition():
    masks = (torch.rand((40, 4), generator=torch.Generator().manual_seed(5)) < 0.5).float()
    y = affine(U[0] * masks).numpy()
    distance = np.abs(y[:, None] - y[None])
    outputs = np.exp(-0.5 * (distance / float(torch.from_numpy(distance[distance > 0]).median())) ** 2)
    centring = np.eye(40) - 1 / 40
    expected = []
    for column in masks.numpy().T:
        same = (column[:, None] == column[None]).astype(float)
        expected.append(np.trace(same @ centring @ outputs @ centring) / 39**2)
    np.testing.assert_allclose(hsic(affine, U[:1], draws=40, seed=5)[0], expected, atol=1e-5)


def test_a_mask_hides_a_concept_at_all_places():
    maps = torch.rand(2, 3, 3, 4, generator=torch.Generator().manual_seed(0))

    def pooled(u):
        return u.mean((1, 2)) @ WEIGHTS

    torch.testing.assert_close(occlusion(pooled, maps), maps.mean((1, 2)) * WEIGHTS)
    torch.testing.assert_close(gradient_input(pooled, maps).sum((1, 2)), occlusion(pooled, maps))
    masks = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]])
    expected = torch.stack([pooled(maps), torch.zeros(2), (maps.mean((1, 2)) * WEIGHTS)[:, 0]], 1)
    torch.testing.assert_close(responses(pooled, maps, masks), expected)


@pytest.mark.parametrize("method", list(ATTRIBUTIONS))
def test_an_output_that_never_changes_rests_on_nothing(method):
    def constant(u):
        return 5.0 + 0.0 * u.sum(-1)

    assert ATTRIBUTIONS[method](constant, U).abs().max() < 1e-6


def test_seeds_repeat():
    for method in (smooth_grad, rise, sobol, hsic):
        assert torch.equal(method(squares, U, seed=4), method(squares, U, seed=4))
        assert not torch.equal(method(squares, U, seed=4), method(squares, U, seed=5))


def test_bad_input():
    def cut(u):
        return affine(u.detach())

    with pytest.raises(ValueError, match="decode is not differentiable.*use occlusion, rise, sobol or hsic"):
        gradient_input(cut, U)
    torch.testing.assert_close(occlusion(cut, U), U * WEIGHTS)
    with pytest.raises(ValueError, match="designs must be a power of two from 2, got 30"):
        sobol(affine, U, designs=30)
