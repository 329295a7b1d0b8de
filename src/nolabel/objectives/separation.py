"""Losses of a representation split in two: what varies in every image, and what varies only in some of them.

Here lie the Euclidean counterparts of `alignment` and `uniformity`, whose vectors are not scaled to unit length, a kernel
estimate of the entropy of two parts together, and the alignment of one coordinate with a known attribute. All share the
Gaussian kernel ``k(x, y) = exp(-|x - y| ** 2 / (2 temperature))``.

Louiset, Duchesnay, Grigis & Gori, ICLR 2024, arXiv:2402.11928.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def euclidean_alignment(
    z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], *, temperature: float = 0.5
) -> Float[Tensor, ""]:
    """Return ``mean_i |z1_i - z2_i| ** 2 / (2 temperature)``; 0 where both views agree.

    Parameters
    ----------
    z1, z2 : (n, d), at any length; row i of one and row i of the other belong together. A `z2` of zeros pulls to the
        origin.
    temperature : above 0.

    Raises
    ------
    ValueError
        Shapes that differ or are not (n, d); temperature not above 0.

    Examples
    --------
    >>> float(euclidean_alignment(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)))
    25.0
    """
    _require_positive("temperature", temperature)
    first, second = _matrix("z1", z1), _matrix("z2", z2)
    if first.shape != second.shape:
        raise ValueError(f"z1 and z2 must have one shape, got {tuple(z1.shape)} and {tuple(z2.shape)}")
    return (first - second).square().sum(dim=1).mean() / (2 * temperature)


def euclidean_uniformity(z: Float[Tensor, "n d"], *, temperature: float = 0.5) -> Float[Tensor, ""]:
    """Return ``log mean_{i != j} k(z_i, z_j)``: 0 where all vectors coincide, without bound below.

    Longer vectors alone lower it: balance it with `euclidean_alignment`.

    Parameters
    ----------
    z : (n >= 2, d), at any length.
    temperature : above 0; its square root is the distance at which two vectors cease to see each other.

    Raises
    ------
    ValueError
        Not (n >= 2, d); temperature not above 0.

    Examples
    --------
    >>> round(float(euclidean_uniformity(torch.tensor([[0.0], [2.0]]))), 4)
    -4.0
    """
    _require_positive("temperature", temperature)
    z = _matrix("z", z, at_least=2)
    kernel = _log_kernel(z, temperature).fill_diagonal_(-torch.inf)
    return kernel.flatten().logsumexp(dim=0) - math.log(len(z) * (len(z) - 1))


def kernel_joint_entropy(
    first: Float[Tensor, "n d"], second: Float[Tensor, "n e"], *, temperature: float = 0.5
) -> Float[Tensor, ""]:
    """Return the kernel estimate of the entropy of two parts of one representation together, in nats.

    ``-mean_i log mean_j k(first_i, first_j) k(second_i, second_j)``, j = i included: between 0, where all rows coincide,
    and log n. With the entropy of either part held up by other losses, raising it lowers what one part tells about the
    other.

    Parameters
    ----------
    first, second : (n, d) and (n, e); row i of one and row i of the other describe one item.
    temperature : above 0.

    Raises
    ------
    ValueError
        Not matrices of equally many rows, fewer than 2 of them; temperature not above 0.

    Examples
    --------
    >>> apart = 100 * torch.arange(4.0)[:, None]
    >>> round(float(kernel_joint_entropy(apart, torch.zeros(4, 1))), 4)  # log 4
    1.3863
    """
    _require_positive("temperature", temperature)
    parts = [_matrix("first", first, at_least=2), _matrix("second", second, at_least=2)]
    if len(parts[0]) != len(parts[1]):
        raise ValueError(f"first and second must have equally many rows, got {len(first)} and {len(second)}")
    # A product of Gaussian kernels is that of the vectors put end to end.
    kernel = _log_kernel(torch.cat(parts, dim=1), temperature)
    return math.log(len(first)) - kernel.logsumexp(dim=1).mean()


def supervised_alignment(
    z: Float[Tensor, "n a"], attributes: Float[Tensor, "n a"], *, bandwidth: float = 0.025
) -> Float[Tensor, " a"]:
    """Return, for each attribute, how far apart its coordinate holds items of like value; 0 is aligned.

    ``mean_{i < j} exp(-(y_i - y_j) ** 2 / (2 bandwidth)) (z_i - z_j) ** 2`` with one coordinate of `z` an attribute.

    Parameters
    ----------
    z : (n >= 2, a), one coordinate for each of a attributes.
    attributes : (n, a) numbers, continuous ones scaled to about [0, 1].
    bandwidth : above 0; 0.025 for continuous attributes, 1e-5 for classes, where only equal values attract.

    Returns
    -------
    (a,); sum or weigh it.

    Raises
    ------
    ValueError
        Shapes that differ or are not (n >= 2, a); bandwidth not above 0.

    Examples
    --------
    >>> z = torch.tensor([[0.0], [3.0], [9.0]])
    >>> supervised_alignment(z, torch.tensor([[1], [1], [2]]), bandwidth=1e-5)  # one equal pair of three: 9 / 3
    tensor([3.])
    """
    _require_positive("bandwidth", bandwidth)
    z = _matrix("z", z, at_least=2)
    if attributes.shape != z.shape:
        raise ValueError(
            f"attributes must be one number a coordinate of z, shape {tuple(z.shape)}, got {tuple(attributes.shape)}"
        )
    i, j = torch.triu_indices(len(z), len(z), offset=1, device=z.device)
    values = attributes.to(z)
    likeness = torch.exp(-(values[i] - values[j]).square() / (2 * bandwidth))  # (pairs, a)
    return (likeness * (z[i] - z[j]).square()).mean(dim=0)


def _log_kernel(z: Float[Tensor, "n d"], temperature: float) -> Float[Tensor, "n n"]:
    # Not by the expanded square: lengths are free here, and differences of large squares lose their digits.
    distance = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.square() / (-2 * temperature)


def _matrix(name: str, z: Tensor, at_least: int = 1) -> Tensor:
    if z.ndim != 2 or len(z) < at_least or not z.is_floating_point():
        raise ValueError(f"{name} must be a floating-point (n >= {at_least}, d) matrix, got {z.dtype} {tuple(z.shape)}")
    return z if z.dtype == torch.float64 else z.float()


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}")
