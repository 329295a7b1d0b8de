import pytest
import torch

from nolabel.ops.gumbel_softmax import gumbel_noise, gumbel_softmax


def test_noise_by_hand_and_finite_at_the_ends():
    noise = gumbel_noise(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    expected = -torch.log(-torch.log(torch.tensor([1e-6, 0.5, 1 - 1e-6], dtype=torch.float64)))
    torch.testing.assert_close(noise, expected)
    assert torch.isfinite(gumbel_noise(torch.tensor([0.0, 1.0]))).all()  # also in single precision


def test_sample_by_hand():
    logits, noise = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 2.0]])
    expected = torch.tensor([[1.5, 2.0]]).div(0.5).exp()
    torch.testing.assert_close(gumbel_softmax(logits, 0.5, noise=noise), expected / expected.sum())


def test_choices_follow_the_softmax_at_any_temperature():
    logits = torch.tensor([0.0, 1.0, 2.0])
    for temperature in (0.1, 1.0, 5.0):
        generator = torch.Generator().manual_seed(0)
        drawn = gumbel_softmax(logits.expand(20000, 3), temperature, generator=generator)
        shares = torch.bincount(drawn.argmax(dim=1), minlength=3) / 20000
        torch.testing.assert_close(shares, logits.softmax(dim=0), atol=0.015, rtol=0)
        torch.testing.assert_close(drawn.sum(dim=1), torch.ones(20000))


def test_cold_samples_are_nearly_one_hot_and_warm_ones_nearly_even():
    logits = torch.zeros(1000, 3)
    for temperature, low, high in ((0.01, 0.97, 1.0), (100.0, 0.33, 0.36)):
        largest = gumbel_softmax(logits, temperature, generator=torch.Generator().manual_seed(0)).amax(dim=1).mean()
        assert low < largest <= high


def test_gradients_flow_and_the_seed_decides():
    logits = torch.zeros(4, 3, requires_grad=True)
    gumbel_softmax(logits, 0.7, generator=torch.Generator().manual_seed(1))[:, 0].sum().backward()
    assert logits.grad.abs().min() > 0
    one, other = (gumbel_softmax(logits, 0.7, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, other)


def test_bad_input():
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature must be above 0"):
            gumbel_softmax(torch.zeros(2, 2), temperature)
    with pytest.raises(ValueError, match=r"noise must have the shape \(2, 2\) of the logits, got \(2, 1\)"):
        gumbel_softmax(torch.zeros(2, 2), 1.0, noise=torch.zeros(2, 1))
