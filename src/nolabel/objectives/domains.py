"""How far apart two batches of features lie: losses that bring a target domain to a source domain.

`coral` compares covariances, `multi_kernel_mmd` whole distributions through kernels, and `domain_adversarial` asks a
discriminator, whose gradient `reverse_gradient` turns round before it reaches the encoder.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

#: Of the bandwidths: from an eighth of the mean squared distance to twice it.
SCALES = (0.125, 0.25, 0.5, 1.0, 2.0)


def coral(source: Float[Tensor, "n d"], target: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """Return ``|C_source - C_target|_F ** 2 / (4 d ** 2)`` with C the covariance of the features; means do not matter.

    Parameters
    ----------
    source, target : (n, d) and (m, d), at least 2 rows each.

    Raises
    ------
    ValueError
        Not matrices of one width with at least 2 rows.

    References
    ----------
    Sun & Saenko, "Deep CORAL", ECCV 2016 workshops, arXiv:1607.01719.

    >>> source, target = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[5.0, 0.0], [5.0, 2.0]])
    >>> float(coral(source, target))  # covariances diag(2, 0) and diag(0, 2): 8 / 16
    0.5
    """
    _check(source, target)
    apart = _covariance(source) - _covariance(target)
    return apart.square().sum() / (4 * source.shape[1] ** 2)


def multi_kernel_mmd(
    source: Float[Tensor, "n d"], target: Float[Tensor, "m d"], *, scales: Sequence[float] = SCALES
) -> Float[Tensor, ""]:
    """Return the squared maximum mean discrepancy under a mean of Gaussian kernels: 0 in expectation for one distribution.

    ``mean_{i != j} k(s_i, s_j) + mean_{i != j} k(t_i, t_j) - 2 mean_{ij} k(s_i, t_j)``, unbiased and so at times below 0, with
    ``k(x, y) = mean_u exp(-|x - y| ** 2 / (2 scale_u w))`` and w the mean squared distance of two rows of the batch, as a
    constant. The paper learns the weights of the kernels; here, as in the common practice, they are equal.

    Parameters
    ----------
    source, target : (n, d) and (m, d), at least 2 rows each.
    scales : of the kernels, above 0.

    Raises
    ------
    ValueError
        Not matrices of one width with at least 2 rows; no scale, or one not above 0.

    References
    ----------
    Long et al., "Learning transferable features with deep adaptation networks", ICML 2015, arXiv:1502.02791.

    >>> near, far = torch.tensor([[0.0], [1.0]]), torch.tensor([[9.0], [10.0]])
    >>> bool(multi_kernel_mmd(near, far) > 0.8)
    True
    """
    _check(source, target)
    if not scales or not all(scale > 0 for scale in scales):
        raise ValueError(f"scales must be numbers above 0, at least one, got {tuple(scales)}")
    rows = torch.cat([source, target])
    squares = rows.square().sum(dim=1)
    distances = (squares[:, None] + squares[None] - 2 * rows @ rows.T).clamp_min(0)  # (n + m, n + m)
    distances = distances.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), 0)
    width = distances.detach().sum() / (len(rows) * (len(rows) - 1))
    width = width.clamp_min(torch.finfo(width.dtype).tiny)  # of rows that are all equal
    kernel = torch.stack([torch.exp(-distances / (2 * scale * width)) for scale in scales]).mean(dim=0)
    n = len(source)
    within = [_off_diagonal(kernel[:n, :n]), _off_diagonal(kernel[n:, n:])]
    return within[0] + within[1] - 2 * kernel[:n, n:].mean()


class _Reversal(torch.autograd.Function):
    """The identity, whose gradient is multiplied by minus `strength`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(x: Float[Tensor, "*shape"], strength: float = 1.0) -> Float[Tensor, "*shape"]:
    """Return `x` as it is; in the backward pass its gradient is multiplied by ``-strength``.

    References
    ----------
    Ganin et al., "Domain-adversarial training of neural networks", JMLR 2016, arXiv:1505.07818.

    >>> x = torch.ones(2, requires_grad=True)
    >>> reverse_gradient(x, 0.5).sum().backward()
    >>> x.grad.tolist()
    [-0.5, -0.5]
    """
    reversed_: Tensor = _Reversal.apply(x, strength)
    return reversed_


def domain_adversarial(source: Float[Tensor, " n"], target: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """Return the logistic loss of a discriminator that should give source rows high and target rows low logits.

    ``(mean log(1 + exp(-source)) + mean log(1 + exp(target))) / 2``: log 2 where it cannot tell them apart.

    Parameters
    ----------
    source, target : logits of the discriminator, (n,) and (m,) or with a last axis of 1.

    >>> round(float(domain_adversarial(torch.zeros(3), torch.zeros(2))), 4)
    0.6931
    """
    return (softplus(-source).mean() + softplus(target).mean()) / 2


def _covariance(x: Tensor) -> Tensor:
    centred = x - x.mean(dim=0)
    return centred.T @ centred / (len(x) - 1)  # (d, d)


def _off_diagonal(kernel: Tensor) -> Tensor:
    n = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))


def _check(source: Tensor, target: Tensor) -> None:
    for name, x in (("source", source), ("target", target)):
        if x.ndim != 2 or len(x) < 2:
            raise ValueError(f"{name} must be a matrix (n, d) of at least 2 rows, got shape {tuple(x.shape)}")
    if source.shape[1] != target.shape[1]:
        raise ValueError(f"source and target must have one width, got {source.shape[1]} and {target.shape[1]}")
