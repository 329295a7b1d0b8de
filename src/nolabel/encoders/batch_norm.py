"""The statistics that batch norm remembers: read, replace, blend with those of a batch, estimate anew.

A layer normalises channel c as ``weight_c (x - mean_c) / sqrt(var_c + eps) + bias_c``. Its mean and variance are properties of
the data that it has seen, so they can be those of other data, without a label and without the data of before. Variances are
unbiased throughout, as batch norm remembers them: a batch's own is scaled by n / (n - 1).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

#: Mean and unbiased variance (c,) by the name of a layer.
Statistics = dict[str, tuple[Tensor, Tensor]]


class Seen(NamedTuple):
    """What a layer saw of one batch, without gradients: mean and unbiased variance (c,), and values a channel."""

    mean: Tensor
    variance: Tensor
    values: int


def batch_norms(net: nn.Module) -> dict[str, Any]:
    """The batch norm layers of a network by name, in its own order; each layer once.

    Raises
    ------
    ValueError
        There is none (the norm layers that there are instead are named), or one that remembers no statistics.

    >>> list(batch_norms(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))))
    ['1']
    """
    found = {name: module for name, module in net.named_modules() if isinstance(module, _BatchNorm)}
    if not found:
        others = sorted(
            {
                type(module).__name__
                for module in net.modules()
                if isinstance(module, _NormBase | nn.GroupNorm | nn.LayerNorm | nn.LocalResponseNorm)
                or type(module).__name__.endswith("Norm")
            }
        )
        raise ValueError(
            f"model: expected batch norm layers, found {'only ' + ', '.join(others) if others else 'none'}"
        )
    for name, layer in found.items():
        if layer.running_mean is None or layer.running_var is None:
            raise ValueError(
                f"model: the batch norm {name!r} has track_running_stats=False, so it remembers no statistics of the source"
            )
    return found


def statistics(layers: Mapping[str, Any]) -> Statistics:
    """Copies of what layers remember."""
    return {name: (layer.running_mean.clone(), layer.running_var.clone()) for name, layer in layers.items()}


@torch.no_grad()
def replace_statistics(layers: Mapping[str, Any], new: Statistics) -> None:
    """Let layers remember other statistics.

    >>> layers = batch_norms(nn.Sequential(nn.BatchNorm1d(1)))
    >>> replace_statistics(layers, {"0": (torch.tensor([3.0]), torch.tensor([2.0]))})
    >>> statistics(layers)["0"][0].item()
    3.0
    """
    for name, (mean, variance) in new.items():
        layers[name].running_mean.copy_(mean)
        layers[name].running_var.copy_(variance)


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance (c,) over all but the second axis of (n, c, ...), float32, with their gradients.

    Raises
    ------
    ValueError
        One value a channel, whose variance is undefined.

    >>> [values.item() for values in batch_statistics(torch.tensor([[1.0], [3.0]]))]
    [2.0, 2.0]
    """
    count = x.numel() // max(1, x.shape[1])
    if count < 2:
        raise ValueError(
            f"a batch of shape {tuple(x.shape)} has {count} value{'' if count == 1 else 's'} a channel: the variance needs 2 "
            "and more; give a larger batch"
        )
    axes = [axis for axis in range(x.ndim) if axis != 1]
    variance, mean = torch.var_mean(x.float(), dim=axes, correction=1)
    return mean, variance


def blend(share: float, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Means and variances, `share` of the first and the rest of the second."""
    mean, variance = (share * a + (1 - share) * b for a, b in zip(first, second, strict=True))
    return mean, variance


def normalised(layer: Any, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """What a batch norm layer makes of `x` (n, c, ...) with statistics from elsewhere."""
    scale = (variance + layer.eps).rsqrt()
    if layer.weight is not None:
        scale = scale * layer.weight
    shift = -mean * scale if layer.bias is None else layer.bias - mean * scale
    shape = [1, -1] + [1] * (x.ndim - 2)
    return (x * scale.view(shape) + shift.view(shape)).to(x.dtype)


@contextmanager
def blended(layers: Mapping[str, Any], share: float, source: Statistics) -> Iterator[dict[str, Seen]]:
    """Inside, layers normalise by `share` of the source's statistics and the rest of the batch's own.

    Whether the network is in training or not: what layers remember stays untouched, and gradients flow through the batch's
    statistics. What is yielded fills, forward by forward, with the last batch's own; a layer that is called several times in
    one forward leaves those of its last call.

    >>> net = nn.Sequential(nn.BatchNorm1d(1, affine=False, eps=0.0))
    >>> layers = batch_norms(net)
    >>> with blended(layers, 0.5, statistics(layers)) as seen:  # halfway from N(0, 1) to N(2, 2)
    ...     net(torch.tensor([[1.0], [3.0]])).flatten().tolist()
    [0.0, 1.6329929828643799]
    >>> float(seen["0"].mean), float(seen["0"].variance), seen["0"].values
    (2.0, 2.0, 2)
    """
    seen: dict[str, Seen] = {}

    def taken(name: str, layer: Any) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            layer._check_input_dim(x)
            mean, variance = batch_statistics(x)
            seen[name] = Seen(mean.detach(), variance.detach(), x.numel() // x.shape[1])
            return normalised(layer, x, *blend(share, source[name], (mean, variance)))

        return forward

    for name, layer in layers.items():
        layer.forward = taken(name, layer)  # of the object, which hides that of its class
    try:
        yield seen
    finally:
        for layer in layers.values():
            del layer.forward


@torch.no_grad()
def estimated(
    net: Callable[[Any], Any],
    layers: Mapping[str, Any],
    batches: Iterable[Any],
    shares: Callable[[int], float],
    source: Statistics,
) -> Statistics:
    """Statistics of all batches together: AdaBN (Li et al., 2016, arXiv:1603.04779) where `shares` is 0 throughout.

    Layer by layer the moments of the batches are pooled, each batch normalised by its own statistics blended with `shares(k)`
    of the source's; the last share is also the source's part in the result.

    Parameters
    ----------
    net : called with each batch
    layers : batch norm layers within it
    batches : inputs, each of two and more values a channel; not sorted by class, which would skew what deeper layers see
    shares : from the number of a batch to a share in [0, 1]
    source : statistics that the layers were trained with
    """
    whole: dict[str, tuple[Any, Any, int]] = {}
    share = 0.0
    for k, batch in enumerate(batches):
        share = shares(k)
        if not 0 <= share <= 1:
            raise ValueError(f"the source's share at step {k} must lie in [0, 1], got {share}")
        with blended(layers, share, source) as seen:
            net(batch)
        for name, (mean, variance, n) in seen.items():
            m, v = mean.double(), variance.double()
            first, second, count = whole.get(name, (0.0, 0.0, 0))
            whole[name] = first + n * m, second + (n - 1) * v + n * m**2, count + n
    found = {}
    for name, (first, second, count) in whole.items():
        mean = first / count
        variance = (second - count * mean**2).clamp(min=0) / (count - 1)
        like = source[name][0]
        found[name] = blend(share, source[name], (mean.to(like), variance.to(like)))
    return found
