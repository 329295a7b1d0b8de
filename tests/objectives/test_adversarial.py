"""Adversarial noise on embeddings: lengths, padding, directions, and a loss that is 0 without noise."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import kl_div, log_softmax

from nolabel.objectives.adversarial import (
    adversarial_noise,
    mean_norm,
    scaled,
    symmetric_divergence,
    virtual_adversarial,
)

MASK = torch.tensor([[True, True, True, False], [True, True, False, False]])


@pytest.fixture
def e():
    return torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def head():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 9))


def logits_of(net):
    return lambda e: net(e)[MASK]


def test_mean_norm_leaves_padding_out(e):
    by_hand = e.norm(dim=2)[MASK].mean()
    e[~MASK] = 1e6
    assert mean_norm(e, MASK) == pytest.approx(float(by_hand))


def test_scaled_has_the_length_of_the_radius_on_real_tokens_only(e):
    found = scaled(e, MASK, 0.3)
    assert torch.allclose(found.norm(dim=2), 0.3 * MASK.float(), atol=1e-6)
    assert torch.allclose(found[MASK] / 0.3, nn.functional.normalize(e, dim=2)[MASK], atol=1e-6)
    assert float(scaled(torch.zeros(1, 1, 3), MASK[:1, :1], 1.0).abs().sum()) == 0.0


def test_symmetric_divergence_by_hand():
    p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1]])
    there = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    back = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert float(symmetric_divergence(p.log(), q.log() + 3.0)) == pytest.approx(there + back, rel=1e-5)
    both = symmetric_divergence(torch.cat([p, p]).log(), torch.cat([q, p]).log())
    assert float(both) == pytest.approx((there + back) / 2, rel=1e-5)


def test_symmetric_divergence_has_the_gradients_of_two_divergences_to_constants():
    logits = [torch.randn(5, 7, requires_grad=True, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]
    p, q = (log_softmax(one, dim=1) for one in logits)
    slow = kl_div(q, p.detach(), log_target=True, reduction="sum") + kl_div(
        p, q.detach(), log_target=True, reduction="sum"
    )
    wanted = torch.autograd.grad(slow / 5, logits)
    fast = symmetric_divergence(*logits)
    assert float(fast.detach()) == pytest.approx(float(slow.detach()) / 5, rel=1e-5)
    for a, b in zip(wanted, torch.autograd.grad(fast, logits)):
        assert torch.allclose(a, b, atol=1e-6)


def test_without_noise_the_loss_is_nothing(e, head):
    loss, finite = virtual_adversarial(logits_of(head), e, MASK, radius=0.0)
    assert float(loss.detach()) == 0.0
    assert bool(finite)
    assert float(virtual_adversarial(logits_of(head), e, MASK, radius=0.5).loss.detach()) > 0.0


def test_dropout_alone_would_make_a_loss(e, head):
    noisy = nn.Sequential(head, nn.Dropout(0.5))
    assert float(virtual_adversarial(logits_of(noisy), e, MASK, radius=0.0).loss.detach()) > 0.0
    assert float(virtual_adversarial(logits_of(noisy.eval()), e, MASK, radius=0.0).loss.detach()) == 0.0


def test_noise_has_length_and_stays_off_the_padding(e, head):
    found = adversarial_noise(logits_of(head), e, MASK, head(e)[MASK], radius=0.25, rounds=3)
    unit = float(mean_norm(e, MASK))
    assert torch.allclose(found.noise.norm(dim=2), 0.25 * unit * MASK.float(), atol=1e-5)
    assert not found.noise.requires_grad


def test_one_step_is_the_formula(e, head):
    """Against a slow computation: the gradient of the divergence at the first noise."""
    clean, unit = head(e)[MASK].detach(), mean_norm(e, MASK)
    start = 1e-2 * torch.randn(e.shape, generator=torch.Generator().manual_seed(3)) * MASK.unsqueeze(2)
    start.requires_grad_(True)
    moved = log_softmax(head(e + unit * start)[MASK], dim=1)
    divergence = kl_div(moved, log_softmax(clean, dim=1), log_target=True, reduction="sum") / 2
    (slope,) = torch.autograd.grad(divergence, start)
    wanted = unit * scaled((start + 7.0 * slope).detach(), MASK, 0.5)
    generator = torch.Generator().manual_seed(3)
    found = adversarial_noise(logits_of(head), e, MASK, clean, radius=0.5, step=7.0, start=1e-2, generator=generator)
    assert torch.allclose(found.noise, wanted, atol=1e-5)


def test_large_steps_are_adversarial_and_small_ones_random(e, head):
    clean = head(e)[MASK].detach()

    def harm(step):
        values = []
        for seed in range(8):
            generator = torch.Generator().manual_seed(seed)
            noise = adversarial_noise(logits_of(head), e, MASK, clean, radius=0.1, step=step, generator=generator).noise
            values.append(float(symmetric_divergence(clean, head(e + noise)[MASK]).detach()))
        return sum(values) / len(values)

    assert harm(1e6) > 1.5 * harm(1e-9)


def test_gradients_reach_weights_and_embeddings_but_not_through_the_noise(e, head):
    e.requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    loss, _ = virtual_adversarial(logits_of(head), e, MASK, radius=0.5, generator=generator)
    found = torch.autograd.grad(loss, [e, *head.parameters()])
    assert all(float(g.abs().sum()) > 0 for g in found[:-1])
    assert float(found[0][~MASK].abs().sum()) == 0.0
    noise = adversarial_noise(
        logits_of(head), e, MASK, head(e)[MASK], radius=0.5, generator=torch.Generator().manual_seed(0)
    ).noise
    constant = symmetric_divergence(head(e)[MASK], head(e + noise)[MASK])
    assert torch.allclose(found[0], torch.autograd.grad(constant, e)[0], atol=1e-6)


def test_a_gradient_that_is_not_finite_is_told_and_leaves_no_noise(e):
    def broken(x):  # the values are right, the gradients infinite
        return (x.sum(dim=2, keepdim=True).repeat(1, 1, 3) + torch.sqrt((x * 0).sum()))[MASK]

    found = adversarial_noise(broken, e, MASK, broken(e), radius=1.0)
    assert not bool(found.finite)
    assert float(found.noise.abs().sum()) == 0.0
    loss, finite = virtual_adversarial(broken, e, MASK, radius=1.0)
    assert (float(loss.detach()), bool(finite)) == (0.0, False)


def test_repeats_with_the_generator_and_not_without(e, head):
    clean = head(e)[MASK]
    same = [
        adversarial_noise(logits_of(head), e, MASK, clean, generator=torch.Generator().manual_seed(s)).noise
        for s in (4, 4, 5)
    ]
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], same[2])


def test_searches_in_32_bits_under_autocast(e, head):
    seen = []

    def logits(x):
        found = head(x)[MASK]
        seen.append(found.dtype)
        return found

    with torch.autocast("cpu", dtype=torch.bfloat16):
        virtual_adversarial(logits, e, MASK, radius=0.5)
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"radius": -1.0}, "radius must be at least 0, got -1.0"),
        ({"step": 0.0}, "step must be above 0, got 0.0"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"start": 0.0}, "start must be above 0, got 0.0"),
    ],
)
def test_arguments_out_of_range(e, head, wrong, message):
    with pytest.raises(ValueError, match=message):
        virtual_adversarial(logits_of(head), e, MASK, **wrong)


def test_shapes_that_do_not_fit(e, head):
    with pytest.raises(ValueError, match=r"mask \(b, l\)"):
        virtual_adversarial(logits_of(head), e, MASK[:1])
    with pytest.raises(ValueError, match="logits of one shape"):
        symmetric_divergence(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="logits of one shape"):
        symmetric_divergence(torch.zeros(0, 3), torch.zeros(0, 3))
