import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nolabel.ops.quaternions import (
    canonical_quaternion,
    quaternion_from_euler,
    quaternion_inverse,
    quaternion_product,
    relative_pose,
    relative_rotation,
    rotation_matrix,
)


def random_rotations(n, seed):
    rotations = Rotation.random(n, random_state=seed)
    return rotations, torch.from_numpy(rotations.as_quat())


def same(q, rotations):
    np.testing.assert_allclose(q.numpy(), rotations.as_quat(canonical=True), atol=1e-12)


def test_against_scipy():
    a, p = random_rotations(50, 0)
    b, q = random_rotations(50, 1)
    same(canonical_quaternion(p), a)
    same(canonical_quaternion(quaternion_product(p, q)), a * b)
    same(canonical_quaternion(quaternion_inverse(p)), a.inv())
    same(relative_rotation(p, q), a.inv() * b)
    np.testing.assert_allclose(rotation_matrix(p).numpy(), a.as_matrix(), atol=1e-12)
    angles = np.random.default_rng(2).uniform(-4, 4, (50, 3))
    same(quaternion_from_euler(torch.from_numpy(angles)), Rotation.from_euler("xyz", angles))


def test_relative_rotation_is_in_the_frame_of_the_first():
    """R1^-1 R2, which a turn of both by the same rotation from the left does not change; from the right it does."""
    (_, p), (_, q), (_, turn) = (random_rotations(20, seed) for seed in range(3))
    z = relative_rotation(p, q)
    torch.testing.assert_close(relative_rotation(quaternion_product(turn, p), quaternion_product(turn, q)), z)
    assert (relative_rotation(quaternion_product(p, turn), quaternion_product(q, turn)) - z).abs().max() > 0.1
    torch.testing.assert_close(canonical_quaternion(quaternion_product(p, z)), canonical_quaternion(q))


def test_sign_of_the_inputs_does_not_matter():
    (_, p), (_, q) = random_rotations(20, 3), random_rotations(20, 4)
    z = relative_rotation(p, q)
    assert (z[:, 3] >= 0).all()
    for first, second in ((-p, q), (p, -q), (-p, -q)):
        assert torch.equal(relative_rotation(first, second), z)


@pytest.mark.parametrize("axis", range(3))
def test_half_turns_have_one_sign_too(axis):
    q = torch.zeros(4)
    q[axis] = -1.0
    q[axis + 1 : 3] = 0.5  # does not matter after the first non-zero number
    assert canonical_quaternion(q)[axis] == 1
    assert torch.equal(canonical_quaternion(q), canonical_quaternion(-q))


def test_quarter_turn_by_hand():
    q = quaternion_from_euler(torch.tensor([[0.0, 0.0, math.pi / 2]], dtype=torch.float64))
    turned = rotation_matrix(q)[0] @ torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(turned, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))


def test_relative_poses_by_hand():
    first, second = torch.tensor([[3.0, 1.0, 0.2]]), torch.tensor([[-3.0, 1.5, 0.1]])
    expected = torch.tensor([[math.cos(6.0), -math.sin(6.0), 0.5, -0.1]])  # six radians back are 0.28 on
    torch.testing.assert_close(relative_pose(first, second, "so2"), expected)
    assert torch.equal(relative_pose(first, second, "vector"), second - first)
    (a, p), (b, q) = random_rotations(7, 5), random_rotations(7, 6)
    hue = torch.rand(2, 7, 2, dtype=torch.float64)
    z = relative_pose(torch.cat([p, hue[0]], 1), torch.cat([q, hue[1]], 1), "so3")
    same(z[:, :4], a.inv() * b)
    assert torch.equal(z[:, 4:], hue[1] - hue[0])


def test_gradients_flow():
    q = torch.nn.functional.normalize(torch.randn(3, 4), dim=1).requires_grad_()
    relative_rotation(q, torch.eye(4)[:3]).sum().backward()
    assert (q.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: canonical_quaternion(torch.zeros(3)),
            r"q must be floating-point quaternions \(..., 4\), got .* \(3,\)",
        ),
        (lambda: quaternion_inverse(torch.zeros(2, 4, dtype=torch.int64)), "torch.int64"),
        (lambda: rotation_matrix(torch.zeros(2, 3)), r"\(2, 3\)"),
        (lambda: quaternion_product(torch.zeros(4), torch.zeros(5)), r"second must be .*\(5,\)"),
        (lambda: quaternion_from_euler(torch.zeros(4)), r"angles must be floating-point \(..., 3\)"),
        (lambda: relative_pose(torch.zeros(2, 4), torch.zeros(2, 4), "se3"), "group must be one of so3, so2, vector"),
        (lambda: relative_pose(torch.zeros(2, 3), torch.zeros(2, 3), "so3"), r"\(n, 4 or more\) twice, got \(2, 3\)"),
        (lambda: relative_pose(torch.zeros(2, 1), torch.zeros(3, 1), "so2"), r"got \(2, 1\) and \(3, 1\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
