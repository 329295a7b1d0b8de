"""Alignment and uniformity: the two things a contrastive loss asks of a unit sphere."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nolabel.objectives.sphere import unit_rows
from nolabel.ops.info_nce import pairwise_logsumexp


def alignment(z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], *, power: float = 2) -> Float[Tensor, ""]:
    """Return the mean distance between the two views of an item, raised to a power; lower is better aligned.

    ``mean_i |z1_i - z2_i| ** power`` on rows scaled to unit length here: between 0 and 2 ** power.

    Parameters
    ----------
    z1, z2 : (n, d); row i of one and row i of the other are a positive pair.
    power : above 0.

    Raises
    ------
    ValueError
        Shapes that differ or are not (n, d); power not above 0.

    References
    ----------
    Wang and Isola 2020, arXiv:2005.10242.

    Examples
    --------
    >>> import torch
    >>> round(float(alignment(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]]))), 4)
    2.0
    """
    if z1.shape != z2.shape:
        raise ValueError(f"z1 and z2 must have one shape, got {tuple(z1.shape)} and {tuple(z2.shape)}")
    if not power > 0:
        raise ValueError(f"power must be above 0, got {power}")
    squared = (unit_rows("z1", z1) - unit_rows("z2", z2)).square().sum(dim=1)
    if power == 2:
        return squared.mean()
    # The root has no slope at 0: equal views take a gradient of 0 there.
    distance = torch.where(squared > 0, squared, 1).sqrt()
    return torch.where(squared > 0, distance**power, 0).mean()


def uniformity(z: Float[Tensor, "n d"], *, t: float = 2) -> Float[Tensor, ""]:
    """Return the logarithm of the mean Gaussian potential over all pairs; lower is more uniform.

    ``log mean_{i != j} exp(-t |z_i - z_j| ** 2)`` on rows scaled to unit length here: between -4 t and 0, where 0 is a
    collapse to one point. Pairs are visited in tiles, so memory stays linear in n.

    Parameters
    ----------
    z : (n >= 2, d).
    t : sharpness of the potential, above 0.

    Raises
    ------
    ValueError
        Not (n >= 2, d); t not above 0.

    References
    ----------
    Wang and Isola 2020, arXiv:2005.10242.

    Examples
    --------
    >>> import torch
    >>> round(float(uniformity(torch.eye(3))), 4)  # every pair at squared distance 2
    -4.0
    """
    if not t > 0:
        raise ValueError(f"t must be above 0, got {t}")
    z = unit_rows("z", z)
    # |x - y|^2 = 2 - 2 x.y on the sphere
    log_sum = pairwise_logsumexp(z * math.sqrt(2 * t)).logsumexp(dim=0) - 2 * t
    return log_sum - math.log(len(z) * (len(z) - 1))
