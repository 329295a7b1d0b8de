"""Bits in the forward pass, their sigmoid in the backward pass."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class _Binarise(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, logits: Tensor) -> Tensor:
        context.save_for_backward(logits)
        return (logits > 0).to(logits.dtype)

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> Tensor:
        (logits,) = context.saved_tensors
        share = logits.sigmoid()
        return slopes[0] * share * (1 - share)


def binarise(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return 1 where a logit is above 0 and 0 elsewhere, with the gradient of its sigmoid (straight-through estimator).

    Exactly 0 gives 0. Where ``|logit|`` is large the gradient is almost 0 and the bit stays.

    References
    ----------
    Krizhevsky and Hinton, ESANN 2011, "Using very deep autoencoders for content-based image retrieval"; Bengio, Léonard
    and Courville 2013, arXiv:1308.3432.

    >>> u = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    >>> code = binarise(u)
    >>> code.sum().backward()
    >>> code.tolist(), u.grad
    ([0.0, 0.0, 1.0], tensor([0.1966, 0.2500, 0.1050]))
    """
    found: Tensor = _Binarise.apply(logits)
    return found
