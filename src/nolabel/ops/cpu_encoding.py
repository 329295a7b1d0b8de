"""Transformers on the CPU by the faster of PyTorch's kernels.

* Linear layers in float32: PyTorch multiplies matrices by MKL, which takes half of the width of AMD's vector units. A linear
  layer is a convolution with a kernel of 1 x 1, and convolutions go to oneDNN: 2.5 times as fast on such a processor.
* Attention in bfloat16: two batched products and a softmax between them are 1.2 to 2 times as fast as the fused kernel
  while sequences are short.

In float32 vectors differ from PyTorch's usual ones in the order of summation only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

_LEAST = 2**18  # multiplications from which a detour over a convolution pays
_SHORT = 512  # tokens up to which all scores of a sequence are held at once


class CpuEncoding(TorchFunctionMode):
    """A context for `torch.no_grad` in which transformers on the CPU take the faster kernels; elsewhere nothing changes.

    >>> layer, x = torch.nn.Linear(64, 64), torch.randn(4, 32, 64)
    >>> with torch.no_grad(), CpuEncoding():
    ...     wide = layer(x)
    >>> bool(torch.allclose(wide, layer(x), atol=1e-5))
    True
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not torch.is_grad_enabled():
            if func is linear and not kwargs and _suits(*args[:2]):
                return _convolved(*args)
            if func is scaled_dot_product_attention and len(args) == 3 and _short(*args, **kwargs):
                return _attended(*args, kwargs.get("attn_mask"), kwargs.get("scale"))
        return func(*args, **kwargs)


def _suits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.ndim == 3
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and len(x) > 1  # of one sequence PyTorch makes no use of oneDNN
        and x.shape[0] * x.shape[1] * weight.numel() >= _LEAST
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (b, l, d) seen as an image of l x 1 with d channels, the channels last."""
    image = x.unsqueeze(2).permute(0, 3, 1, 2)
    return conv2d(image, weight[:, :, None, None], bias).permute(0, 2, 3, 1).reshape(*x.shape[:2], len(weight))


def _short(q: Tensor, k: Tensor, v: Tensor, **more: Any) -> bool:
    plain = not more.get("dropout_p") and not more.get("is_causal") and not more.get("enable_gqa")
    fits = q.ndim == 4 and q.shape[:2] == k.shape[:2] and max(q.shape[2], k.shape[2]) <= _SHORT
    return plain and fits and q.device.type == "cpu" and q.dtype == k.dtype == v.dtype == torch.bfloat16


def _attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """softmax(scale q k^T + mask) v for q (b, h, l, d) and k, v (b, h, m, d)."""
    b, h, l, d = q.shape  # noqa: E741
    with torch.autocast("cpu", enabled=False):  # the softmax rounds its result, not what it sums up
        scores = torch.baddbmm(
            q.new_zeros(1, 1, 1).expand(b * h, l, k.shape[2]), q.reshape(b * h, l, d), k.reshape(b * h, -1, d).mT,
            beta=0, alpha=d**-0.5 if scale is None else scale,
        ).view(b, h, l, -1)  # fmt: skip
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.to(q.dtype)
        weights = scores.softmax(dim=-1).view(b * h, l, -1)
        return torch.bmm(weights, v.reshape(b * h, -1, d)).view(b, h, l, d)
