"""Vectors told by their similarity to anchors."""

import numpy as np
import pytest
import torch

from nolabel.ops.relative import choose_anchors, relative

rng = np.random.default_rng(0)
Z, A = (torch.from_numpy(rng.normal(size=(n, 6))) for n in (20, 5))
TURN = torch.from_numpy(np.linalg.qr(rng.normal(size=(6, 6)))[0])
MAP = torch.from_numpy(rng.normal(size=(6, 6)))


def test_cosines_by_hand():
    z, anchors = torch.tensor([[3.0, 4.0], [-1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert relative(z, anchors).numpy() == pytest.approx(np.array([[0.6, 0.8], [-1.0, 0.0]]))
    assert relative(z, anchors, similarity="inner").numpy() == pytest.approx(
        np.array([[3.0, 8.0], [-1.0, 0.0]]) / 2**0.5
    )
    assert relative(z, anchors, similarity="basis").numpy() == pytest.approx(np.array([[3.0, 2.0], [-1.0, 0.0]]))


def test_what_leaves_them_alone():
    close = torch.testing.assert_close
    close(relative(3 * Z @ TURN, 0.5 * A @ TURN), relative(Z, A))
    close(relative(Z @ TURN, A @ TURN, similarity="inner"), relative(Z, A, similarity="inner"))
    full = torch.from_numpy(rng.normal(size=(6, 6)))
    close(relative(Z @ MAP, full @ MAP, similarity="basis"), relative(Z, full, similarity="basis"))
    assert not torch.allclose(relative(Z @ MAP, A @ MAP), relative(Z, A), atol=0.1)


def test_the_basis_gives_the_nearest_point_of_the_anchors_span():
    c = relative(Z, A, similarity="basis")
    left = Z - c @ A
    torch.testing.assert_close(left @ A.T, torch.zeros(20, 5, dtype=torch.float64), atol=1e-9, rtol=0)


def test_rounding_passes_the_gradient():
    z = Z.clone().requires_grad_(True)
    coarse = relative(z, A, bin_width=0.25)
    assert (coarse.detach() / 0.25 - (coarse.detach() / 0.25).round()).abs().max() < 1e-9
    coarse[:, 0].sum().backward()
    plain = Z.clone().requires_grad_(True)
    relative(plain, A)[:, 0].sum().backward()
    torch.testing.assert_close(z.grad, plain.grad)


def test_gradients_reach_the_anchors():
    anchors = A.clone().requires_grad_(True)
    relative(Z, anchors, norm="layer").square()[:, 0].sum().backward()
    assert (anchors.grad.norm(dim=1) > 0).all()


def test_blocks_are_compared_apart_and_rows_normalised():
    both = relative(Z, A, subspaces=2)
    torch.testing.assert_close(both[:, 5:], relative(Z[:, 3:], A[:, 3:]))
    layered = relative(Z, A, norm="layer")
    torch.testing.assert_close(layered.mean(dim=1), torch.zeros(20, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(layered.var(dim=1, correction=0), torch.ones(20, dtype=torch.float64), atol=1e-2, rtol=0)
    torch.testing.assert_close(relative(Z, A, norm="l2").norm(dim=1), torch.ones(20, dtype=torch.float64))


def test_bad_input():
    for message, change in (
        (r"\(20, 6\) and \(5, 4\)", {"anchors": A[:, :4]}),
        ("similarity is one of", {"similarity": "angle"}),
        ("norm one of", {"norm": "batch"}),
        ("bin_width must be above 0, got 0", {"bin_width": 0}),
        ("subspaces must divide the 6 coordinates, got 4", {"subspaces": 4}),
        ("anchors: row 1 is all zeros", {"anchors": A * torch.tensor([1.0, 0, 1, 1, 1])[:, None]}),
        ("at most as many anchors as coordinates, 6, got 7", {"anchors": Z[:7], "similarity": "basis"}),
    ):
        with pytest.raises(ValueError, match=message):
            relative(Z, **({"anchors": A} | change))


def test_anchors():
    z = np.concatenate([np.tile([1.0, 0.0, 0.0], (30, 1)), np.tile([0.0, 1.0, 0.0], (3, 1)), [[0.0, 0.0, 1.0]]])
    z += 0.01 * np.random.default_rng(1).normal(size=z.shape)
    for how in ("farthest", "kmeans"):
        rows = choose_anchors(z, 3, how)
        assert sorted(z[rows].argmax(axis=1).tolist()) == [0, 1, 2], how
    drawn = choose_anchors(z, 34, "uniform")
    assert drawn.tolist() == list(range(34))
    assert np.array_equal(choose_anchors(z, 5, "uniform", 3), choose_anchors(z, 5, "uniform", 3))
    assert len(np.unique(choose_anchors(np.ones((9, 2)), 9, "kmeans"))) == 9  # equal rows are still taken once
    with pytest.raises(ValueError, match="uniform, kmeans, farthest or row numbers, got 'best'"):
        choose_anchors(z, 3, "best")
