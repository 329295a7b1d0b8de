import pytest
import torch
from torch.nn.functional import max_pool2d

from nolabel.encoders.pooling import halved_maximum


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 7, 5), (1, 1, 200, 190)])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_max_pooling(shape, form, dtype):
    x = torch.randn(shape, dtype=dtype).contiguous(memory_format=form)
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours, theirs = halved_maximum(first), max_pool2d(second, 3, stride=2, padding=1)
    assert torch.equal(ours, theirs)
    weights = torch.randn_like(theirs)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    assert torch.equal(first.grad, second.grad)


def test_what_is_kept_for_the_backward_pass():
    kept = []
    x = torch.randn(1, 4, 16, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        halved_maximum(x)
    assert [(t.dtype, tuple(t.shape)) for t in kept] == [(torch.int16, (1, 4, 8, 8))]
