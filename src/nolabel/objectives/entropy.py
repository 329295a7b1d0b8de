"""Entropy of predicted distributions: how far from certain a network is."""

from jaxtyping import Float
from torch import Tensor

#: Inside the logarithm, so that a probability of 0 has a gradient.
EPSILON = 1e-5


def mean_entropy(probabilities: Float[Tensor, "*n k"]) -> Float[Tensor, ""]:
    """Return the mean entropy, in nats, of distributions over the last axis.

    As a term of a loss, a positive weight pushes to certain choices, a negative one to even ones.

    Parameters
    ----------
    probabilities : (..., k) that sum to 1, such as a softmax.

    >>> import torch
    >>> round(float(mean_entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))), 3)
    0.347
    """
    return -(probabilities * (probabilities + EPSILON).log()).sum(dim=-1).mean()
