"""What a loss on corrected labels is made of."""

import numpy as np
import pytest
import torch

from nolabel.objectives.corrected_labels import blended_cross_entropy, sharpened, unbalance


def test_sharpening():
    p = torch.tensor([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(sharpened(p, 2.0), p**2 / (p**2).sum(dim=1, keepdim=True))
    torch.testing.assert_close(sharpened(p, 1.0), p)


def test_blended_cross_entropy_by_hand():
    logits = torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0]])  # softmax 1/2 1/2, 3/4 1/4
    targets = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    weights, partner = torch.tensor([1.0, 0.25]), torch.tensor([1, 0])
    own = [np.log(2), -0.5 * np.log(3 / 4) - 0.5 * np.log(1 / 4)]
    crossed = [np.log(2), -np.log(3 / 4)]  # each image against the other's target, with the other's weight
    expected = 0.7 * (own[0] + 0.25 * own[1]) / 1.25 + 0.3 * (0.25 * crossed[0] + crossed[1]) / 1.25
    found = blended_cross_entropy(logits, targets, weights, partner, 0.7)
    assert float(found) == pytest.approx(expected, abs=1e-6)
    nothing = blended_cross_entropy(logits, targets, torch.zeros(2), partner, 0.7)
    assert float(nothing) == 0.0


def test_even_use_of_classes():
    even, biased = torch.tensor([[20.0, 0.0], [0.0, 20.0]]), torch.log(torch.tensor([[0.75, 0.25]]))
    assert float(unbalance(even)) == pytest.approx(0.0, abs=1e-6)
    assert float(unbalance(biased)) == pytest.approx(-0.5 * np.log(0.75 * 0.25 * 4), abs=1e-6)
