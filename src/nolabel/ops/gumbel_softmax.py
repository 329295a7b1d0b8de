"""Soft samples of one choice among several, through which gradients flow."""

import torch
from jaxtyping import Float
from torch import Tensor

#: Uniform numbers stay this far from 0 and 1, where the noise would be infinite.
MARGIN = 1e-6


def gumbel_noise(uniform: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return Gumbel noise ``-log(-log u)`` of uniform numbers u in [0, 1).

    >>> gumbel_noise(torch.tensor([0.0, 0.5]))
    tensor([-2.6258,  0.3665])
    """
    uniform = uniform.clamp(MARGIN, 1 - MARGIN)
    return -torch.log(-torch.log(uniform))


def gumbel_softmax(
    logits: Float[Tensor, "*n k"],
    temperature: float,
    *,
    noise: Float[Tensor, "*n k"] | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*n k"]:
    """Return relaxed one-hot samples ``softmax((logits + g) / temperature)`` of the last axis, g Gumbel noise.

    The lower the temperature, the nearer to one-hot; the choice itself follows the softmax of the logits at any. For use in
    training: an evaluation takes the plain softmax.

    Parameters
    ----------
    logits : (..., k).
    temperature : above 0.
    noise : Gumbel noise of the same shape, such as from `gumbel_noise`; drawn here by default.
    generator : of the noise, on the device of the logits.

    Raises
    ------
    ValueError
        Temperature not above 0, noise of another shape.

    References
    ----------
    Maddison, Mnih and Teh, ICLR 2017, arXiv:1611.00712; Jang, Gu and Poole, ICLR 2017, arXiv:1611.01144.

    >>> draws = gumbel_softmax(torch.tensor([[0.0, 2.0]]).repeat(1000, 1), 0.1, generator=torch.Generator().manual_seed(0))
    >>> 0.85 < float((draws[:, 1] > 0.5).float().mean()) < 0.91  # the softmax says 0.88
    True
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if noise is None:
        noise = gumbel_noise(torch.rand(logits.shape, generator=generator, device=logits.device, dtype=logits.dtype))
    elif noise.shape != logits.shape:
        raise ValueError(f"noise must have the shape {tuple(logits.shape)} of the logits, got {tuple(noise.shape)}")
    return ((logits + noise) / temperature).softmax(dim=-1)
