"""Labels as they stand in a table, as numbers of classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def class_names(labels: Any) -> list[Any]:
    """The different labels in order, as plain values; at least two.

    >>> class_names(["dog", "cat", "dog"])
    ['cat', 'dog']
    """
    names: list[Any] = np.unique(np.asarray(labels)).tolist()
    if len(names) < 2:
        raise ValueError(f"label: at least 2 classes were expected, got only {', '.join(map(repr, names)) or 'none'}")
    return names


def class_codes(labels: Any, names: Sequence[Any]) -> Tensor:
    """Numbers of classes, int64 (n,), of the labels of a batch; all of them are among the sorted `names`.

    >>> class_codes(["dog", "cat"], ["cat", "dog"]).tolist()
    [1, 0]
    """
    given = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    codes = torch.from_numpy(np.searchsorted(np.asarray(names), given))
    return codes.to(labels.device) if isinstance(labels, Tensor) else codes
