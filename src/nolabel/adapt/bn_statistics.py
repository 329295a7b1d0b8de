"""AdaBN: batch norm with the statistics of another site, and nothing else."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nolabel.adapt.osuda import SourceFreeAdapter


def adapt_bn_statistics(
    model: Any,
    X: Any,
    momentum_schedule: Callable[[int], float] | float = 0.0,
    *,
    columns: dict[str, str] | None = None,
    batch_size: int = 16,
    random_state: int = 0,
) -> Any:
    """A copy of a model whose batch norm remembers the statistics of other inputs; nothing is trained.

    Parameters
    ----------
    model, X, columns : as in `SourceFreeAdapter`
    momentum_schedule : share in [0, 1] of the source's statistics, or a function from the number of a batch to it; the last
        batch's is also the source's part in the result. 0 throughout is AdaBN (Li et al., 2016, arXiv:1603.04779)
    batch_size : rows a batch, at least; they are drawn in random order
    random_state : seed of that order

    >>> from torch import nn
    >>> net = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 2))
    >>> adapted = adapt_bn_statistics(net, [[1.0], [3.0]])
    >>> adapted[0].running_mean.item(), adapted[0].running_var.item(), net[0].running_mean.item()
    (2.0, 2.0, 0.0)
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
    adapter = SourceFreeAdapter(model, trainable="none")
    source = adapter.open(X, columns)
    if len(source) < 2:
        raise ValueError(f"X: at least 2 rows were expected, got {len(source)}")
    net: Any = adapter.build(source.batch(np.arange(2)))
    schedule = momentum_schedule if callable(momentum_schedule) else lambda step: float(momentum_schedule)
    adapter.recompute(net, source, schedule, batch_size, random_state)
    net.model.requires_grad_(True)
    return adapter.like_model(net)
