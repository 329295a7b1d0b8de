"""Losses of forgetting: values worked out by hand, bounds, slopes."""

import math

import pytest
import torch

from nolabel.objectives.forgetting import bounded_error, extractor_unlearning, representation_alignment, turned


def test_bounded_error_by_hand_and_its_slope():
    errors = torch.tensor([0.0, 1.0, 3.0, 1e6], requires_grad=True)
    rho = bounded_error(errors)
    assert rho.tolist() == pytest.approx([1.0, math.exp(0.5), math.exp(0.75), math.e], rel=1e-5)
    rho.sum().backward()
    expected = [1.0, math.exp(0.5) / 4, math.exp(0.75) / 16]
    assert errors.grad[:3].tolist() == pytest.approx(expected, rel=1e-5)
    assert errors.grad[3] < 1e-11  # gone where errors are large: why embeddings are standardised


def test_unlearning_keeps_and_drives_away():
    retained, forgotten = (torch.tensor(x, requires_grad=True) for x in ([1.0, 0.0], [3.0]))
    loss = extractor_unlearning(retained, forgotten)
    assert loss.item() == pytest.approx(math.exp(0.5) + 1 - math.exp(0.75), rel=1e-6)
    loss.backward()
    assert (retained.grad > 0).all()
    assert (forgotten.grad < 0).all()


def test_alignment_by_hand():
    retained, forgotten = torch.tensor([0.1, 0.3]), torch.tensor([1.0, 2.0])
    crowd = math.log(math.exp(1 / 4) + math.exp(2 / 4))
    assert representation_alignment(retained, forgotten, 4.0).item() == pytest.approx(0.4 - 2 * crowd, rel=1e-6)
    huge = representation_alignment(retained, torch.tensor([2.0, 2.0]), 1e-3)  # exp(2000) is no float
    assert huge.item() == pytest.approx(0.4 - 2 * (2000 + math.log(2)), rel=1e-6)
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        representation_alignment(retained, forgotten, 0.0)


def test_turned_does_not_see_lengths():
    new = torch.tensor([[3.0, 0.0], [0.0, 5.0], [-2.0, 0.0]])
    old = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert turned(new, old).tolist() == [0.0, 1.0, 2.0]
    assert turned(7 * new, old).tolist() == [0.0, 1.0, 2.0]
