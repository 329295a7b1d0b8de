"""The faster kernels give what PyTorch's usual ones give, and are left alone where they do not apply."""

import pytest
import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from nolabel.ops import cpu_encoding
from nolabel.ops.cpu_encoding import CpuEncoding


@pytest.fixture
def used(monkeypatch):
    """Which of the two kernels were called."""
    names = []
    for name in ("_convolved", "_attended"):
        kernel = getattr(cpu_encoding, name)
        monkeypatch.setattr(
            cpu_encoding, name, lambda *args, name=name, kernel=kernel: (names.append(name), kernel(*args))[1]
        )
    return names


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_is_the_same(used, bias):
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(3, 40, 48, generator=generator), torch.randn(64, 48, generator=generator)
    b = torch.randn(64, generator=generator) if bias else None
    with torch.inference_mode(), CpuEncoding():
        found = linear(x, weight, b)
        turned = linear(x.transpose(0, 1), weight, b)
    assert used == ["_convolved"] * 2
    assert found.is_contiguous()
    torch.testing.assert_close(found, linear(x, weight, b), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turned.transpose(0, 1), found, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((120, 48), torch.float32),
        ((1, 120, 48), torch.float32),
        ((3, 40, 48), torch.float64),
        ((2, 2, 48), torch.float32),
    ],
    ids=["no sequences", "one sequence", "double", "small"],
)
def test_other_layers_are_left_alone(used, shape, dtype):
    x, weight = torch.ones(shape, dtype=dtype), torch.ones(64, 48, dtype=dtype)
    with torch.no_grad(), CpuEncoding():
        assert linear(x, weight).eq(48).all()
    assert used == []


def test_nothing_changes_where_gradients_are_needed(used):
    layer, x = torch.nn.Linear(48, 64), torch.randn(3, 40, 48)
    with CpuEncoding():
        layer(x).sum().backward()
    assert used == []
    assert layer.weight.grad is not None


def attention_inputs(dtype=torch.bfloat16):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 9, 3, 16, generator=generator).to(dtype).transpose(1, 2) for _ in range(3)]


@pytest.mark.parametrize("mask", [None, "bool", "added"])
@pytest.mark.parametrize("scale", [None, 0.1])
def test_attention_is_the_same_within_bfloat16(used, mask, scale):
    q, k, v = attention_inputs()
    keep = torch.ones(2, 1, 1, 9, dtype=torch.bool)
    keep[1, ..., 5:] = False
    given = {
        None: None,
        "bool": keep,
        "added": torch.zeros(2, 1, 1, 9).masked_fill(~keep, torch.finfo(torch.float32).min),
    }[mask]
    exact = scaled_dot_product_attention(
        q.float(), k.float(), v.float(), attn_mask=None if mask is None else keep, scale=scale
    )
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), CpuEncoding():
        found = scaled_dot_product_attention(q, k, v, attn_mask=given, scale=scale)
    assert used == ["_attended"]
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, atol=0.02, rtol=0.02)
    if mask is not None:  # what is masked does not count at all
        v[1, :, 5:] = 100.0
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), CpuEncoding():
            again = scaled_dot_product_attention(q, k, v, attn_mask=given, scale=scale)
        assert torch.equal(again, found)


def test_other_attention_is_left_alone(used):
    q, k, v = attention_inputs()
    with torch.no_grad(), CpuEncoding():
        scaled_dot_product_attention(q, k, v, is_causal=True)
        scaled_dot_product_attention(*attention_inputs(torch.float32))
    assert used == []
