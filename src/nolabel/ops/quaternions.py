"""Rotations in space as unit quaternions (x, y, z, w), and what leads from one pose to another.

A rotation has two quaternions, q and -q. Wherever this library compares or learns from rotations it uses the one with
w >= 0: to a network they are different numbers.
"""

import torch
from jaxtyping import Float
from torch import Tensor

#: How poses are written, see `relative_pose`.
GROUPS = ("so3", "so2", "vector")


def _checked(q: Tensor, name: str) -> Tensor:
    if q.ndim < 1 or q.shape[-1] != 4 or not q.is_floating_point():
        raise ValueError(f"{name} must be floating-point quaternions (..., 4), got {q.dtype} {tuple(q.shape)}")
    return q


def canonical_quaternion(q: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Of q and -q, which are the same rotation, the one with w >= 0 (with w = 0: whose first non-zero number is positive).

    Raises
    ------
    ValueError
        Not floating-point (..., 4).

    >>> canonical_quaternion(torch.tensor([0.0, 0.6, 0.0, -0.8])).tolist()
    [-0.0, -0.6000000238418579, -0.0, 0.800000011920929]
    """
    _checked(q, "q")
    order = torch.tensor([8.0, 4.0, 2.0, 16.0], dtype=q.dtype, device=q.device)  # each outweighs all after it
    negative = (q.sign() * order).sum(dim=-1, keepdim=True) < 0
    return torch.where(negative, -q, q)


def quaternion_product(first: Float[Tensor, "*n 4"], second: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """The Hamilton product: as a rotation of column vectors, `second` and then `first`.

    Raises
    ------
    ValueError
        Not floating-point (..., 4).

    >>> i, j = torch.eye(4)[0], torch.eye(4)[1]
    >>> quaternion_product(i, j).tolist()  # ij = k
    [0.0, 0.0, 1.0, 0.0]
    """
    u, a = _checked(first, "first")[..., :3], first[..., 3:]
    v, b = _checked(second, "second")[..., :3], second[..., 3:]
    u, v = torch.broadcast_tensors(u, v)
    vector = a * v + b * u + torch.linalg.cross(u, v)
    return torch.cat([vector, a * b - (u * v).sum(dim=-1, keepdim=True)], dim=-1)


def quaternion_inverse(q: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """The opposite rotation of unit quaternions: their conjugate.

    Raises
    ------
    ValueError
        Not floating-point (..., 4).

    >>> quaternion_inverse(torch.tensor([0.6, 0.0, 0.0, 0.8])).tolist()
    [-0.6000000238418579, -0.0, -0.0, 0.800000011920929]
    """
    return torch.cat([-_checked(q, "q")[..., :3], q[..., 3:]], dim=-1)


def quaternion_from_euler(angles: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 4"]:
    """Quaternions of turns about the fixed axes x, then y, then z (extrinsic ``xyz``), with canonical sign.

    Parameters
    ----------
    angles : radians, (..., 3)

    Raises
    ------
    ValueError
        Not floating-point (..., 3).

    >>> quaternion_from_euler(torch.tensor([0.0, 0.0, torch.pi / 2]).double()).round(decimals=3).tolist()
    [0.0, 0.0, 0.707, 0.707]
    """
    if angles.ndim < 1 or angles.shape[-1] != 3 or not angles.is_floating_point():
        raise ValueError(f"angles must be floating-point (..., 3), got {angles.dtype} {tuple(angles.shape)}")
    x, y, z = (_about(axis, angles[..., axis]) for axis in range(3))
    return canonical_quaternion(quaternion_product(z, quaternion_product(y, x)))


def _about(axis: int, angle: Tensor) -> Tensor:
    zero = torch.zeros_like(angle)
    parts = [zero, zero, zero, (angle / 2).cos()]
    parts[axis] = (angle / 2).sin()
    return torch.stack(parts, dim=-1)


def rotation_matrix(q: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 3 3"]:
    """The matrices that rotate column vectors as unit quaternions do.

    Raises
    ------
    ValueError
        Not floating-point (..., 4).

    >>> rotation_matrix(torch.tensor([0.0, 0.0, 0.0, 1.0])).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    x, y, z, w = _checked(q, "q").unbind(dim=-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], dim=-1),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], dim=-1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def relative_rotation(first: Float[Tensor, "*n 4"], second: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """The rotation R1^-1 R2 between two orientations, as unit quaternions with canonical sign.

    Raises
    ------
    ValueError
        Not floating-point (..., 4).

    >>> quarter = quaternion_from_euler(torch.tensor([0.0, 0.0, torch.pi / 2]))
    >>> relative_rotation(quarter, quarter).round(decimals=3).tolist()
    [0.0, 0.0, 0.0, 1.0]
    """
    return canonical_quaternion(quaternion_product(quaternion_inverse(first), second))


def relative_pose(first: Float[Tensor, "n p"], second: Float[Tensor, "n p"], group: str) -> Float[Tensor, "n g"]:
    """The transformation that leads from one pose to another.

    Parameters
    ----------
    first, second : poses (n, p). In the group ``so3`` the first four numbers are a unit quaternion, in ``so2`` the first
        one is an angle in radians; ``vector`` has neither. All further numbers (a hue, a shift) count by their difference.
    group : ``so3``, ``so2`` or ``vector``

    Returns
    -------
    (n, g): the relative rotation, or cosine and sine of the difference of angles, followed by the differences.

    Raises
    ------
    ValueError
        An unknown group, or poses that are not (n, p) or too short for it.

    >>> relative_pose(torch.tensor([[0.0, 5.0]]), torch.tensor([[torch.pi, 7.0]]), "so2").round(decimals=3).tolist()
    [[-1.0, -0.0, 2.0]]
    """
    if group not in GROUPS:
        raise ValueError(f"group must be one of {', '.join(GROUPS)}, got {group!r}")
    least = 4 if group == "so3" else 1
    if first.ndim != 2 or first.shape != second.shape or first.shape[1] < least:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"poses of the group {group} must be (n, {least} or more) twice, got {shapes}")
    if group == "vector":
        return second - first
    if group == "so3":
        return torch.cat([relative_rotation(first[:, :4], second[:, :4]), second[:, 4:] - first[:, 4:]], dim=1)
    turned = second[:, :1] - first[:, :1]
    return torch.cat([turned.cos(), turned.sin(), second[:, 1:] - first[:, 1:]], dim=1)
