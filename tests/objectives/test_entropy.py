import numpy as np
import pytest
import torch

from nolabel.objectives.entropy import mean_entropy


def test_by_hand():
    p = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]])
    expected = (np.log(2) - 0.9 * np.log(0.9) - 0.1 * np.log(0.1)) / 2
    assert float(mean_entropy(p)) == pytest.approx(expected, abs=1e-4)
    assert float(mean_entropy(torch.full((1, 8), 1 / 8))) == pytest.approx(np.log(8), abs=1e-3)


def test_sign():
    """A negative weight rewards even choices, and its gradient leads there."""
    even, certain = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.99, 0.01]])
    assert -0.1 * mean_entropy(even) < -0.1 * mean_entropy(certain) < 0
    logits = torch.tensor([[1.0, 0.0]], requires_grad=True)
    (-0.1 * mean_entropy(logits.softmax(dim=1))).backward()
    assert logits.grad[0, 0] > 0 > logits.grad[0, 1]


def test_certain_choices_have_finite_gradients():
    p = torch.tensor([[1.0, 0.0]], requires_grad=True)
    mean_entropy(p).backward()
    assert torch.isfinite(p.grad).all()
