import torch

from nolabel.ops.straight_through import binarise


def test_forward_is_exact():
    u = torch.tensor([-30.0, -1e-30, 0.0, 1e-30, 0.3, 30.0])
    assert binarise(u).tolist() == [0, 0, 0, 1, 1, 1]
    assert binarise(u.double()).dtype == torch.float64


def test_backward_is_that_of_the_sigmoid():
    u = torch.linspace(-6, 6, 25).double().requires_grad_()
    weights = torch.randn(25, generator=torch.Generator().manual_seed(0)).double()
    (mine,) = torch.autograd.grad((binarise(u) * weights).sum(), u)
    (theirs,) = torch.autograd.grad((u.sigmoid() * weights).sum(), u)
    torch.testing.assert_close(mine, theirs)


def test_saturated_logits_hardly_move():
    u = torch.tensor([0.0, 4.0, 8.0], requires_grad=True)
    binarise(u).sum().backward()
    assert u.grad[0] == 0.25
    assert u.grad[1] < 0.02
    assert u.grad[2] < 0.001
