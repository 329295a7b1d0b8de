"""A network with batch norm beside what it was, and how far and how alike both are: what adapting without a source needs."""

import copy
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from nolabel.data import fingerprint
from nolabel.data.sources import Skipped, checked_rows
from nolabel.encoders.batch_norm import Seen, Statistics, batch_norms, blend, replace_statistics, statistics
from nolabel.training.video import ClipNet

#: Weight of a new batch in the running statistics of the target.
MOMENTUM = 0.1


def transferability(source: Statistics, target: Statistics, eps: dict[str, float]) -> dict[str, Tensor]:
    """How alike each channel is at two sites: (c,) by layer, above 0, with mean 1 over all channels, without gradients.

    ``1 / (1 + |mean_s / sqrt(var_s + eps) - mean_t / sqrt(var_t + eps)|)``, scaled. Wang et al., "Transferable normalization",
    NeurIPS 2019, weigh the channels of one layer so; here those of a whole network are scaled together.

    Parameters
    ----------
    source, target : mean and variance (c,) by layer
    eps : what each layer adds to its variances

    >>> one = torch.ones(2)
    >>> alike = transferability({"norm": (0 * one, one)}, {"norm": (torch.tensor([0.0, 3.0]), one)}, {"norm": 0.0})
    >>> [round(value, 3) for value in alike["norm"].tolist()]  # 1 and 1 / (1 + 3), scaled
    [1.6, 0.4]
    """
    raw = {}
    for name, (mean, variance) in source.items():
        other, spread = target[name]
        distance = mean / (variance + eps[name]).sqrt() - other / (spread + eps[name]).sqrt()
        raw[name] = 1 / (1 + distance.detach().abs())
    scale = sum(map(len, raw.values())) / torch.cat(list(raw.values())).sum()
    return {name: scale * value for name, value in raw.items()}


def affine_distance(
    layers: dict[str, Any], source: dict[str, dict[str, Tensor]], weights: dict[str, Tensor] | None
) -> Tensor:
    """Mean over channels of ``(1 + weight) (|scale_s - scale| + |shift_s - shift|)``; of the bracket alone without weights.

    Parameters
    ----------
    layers : batch norm layers by name
    source : what ``weight`` and ``bias`` (c,) of those layers were; a layer that is left out does not count
    weights : (c,) by layer
    """
    found = []
    for name, kept in source.items():
        moved = torch.stack([(value - getattr(layers[name], part)).abs() for part, value in kept.items()]).sum(dim=0)
        found.append(moved if weights is None else (1 + weights[name]) * moved)
    return torch.cat(found).mean()


class Adaptation(ClipNet):
    """A copy of a network that is adapted, and what it was, in buffers: an interrupted run finds them again.

    The layers themselves remember the target's statistics as they are known so far. The network stays in evaluating mode.

    Parameters
    ----------
    model : network with batch norm; it stays as it is
    trainable : ``all`` its weights, only scales and shifts of batch norm (``bn``), or ``none``
    classes : that it tells apart
    """

    looked: Tensor
    told: Tensor

    def __init__(self, model: nn.Module, trainable: str, classes: int) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(trainable == "all")
        self.layers: dict[str, Any] = batch_norms(self.model)
        for number, layer in enumerate(self.layers.values()):
            for part in ("running_mean", "running_var", "weight", "bias"):
                value = getattr(layer, part)
                if value is not None:
                    self.register_buffer(f"source{number}_{part}", value.detach().clone())
                if isinstance(value, nn.Parameter) and trainable == "bn":
                    value.requires_grad_(True)
        self.register_buffer("looked", torch.zeros((), dtype=torch.bool))  # whether any batch was noted
        self.register_buffer("told", torch.zeros(classes, dtype=torch.long))  # classes since the last record
        self.share = self.entropy_weight = 0.0  # set before each step
        self.train()

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    @property
    def device(self) -> torch.device:
        return self.looked.device

    @property
    def eps(self) -> dict[str, float]:
        return {name: layer.eps for name, layer in self.layers.items()}

    @property
    def source(self) -> Statistics:
        """Statistics that the network was trained with."""
        parts = self._kept("running_mean", "running_var")
        return {name: (kept["running_mean"], kept["running_var"]) for name, kept in parts.items()}

    @property
    def source_affine(self) -> dict[str, dict[str, Tensor]]:
        """Scales and shifts that it was trained to, of the layers that have any."""
        return {name: kept for name, kept in self._kept("weight", "bias").items() if kept}

    def _kept(self, *parts: str) -> dict[str, dict[str, Tensor]]:
        found = {}
        for number, name in enumerate(self.layers):
            buffers = {part: getattr(self, f"source{number}_{part}", None) for part in parts}
            found[name] = {part: value for part, value in buffers.items() if value is not None}
        return found

    @property
    def transferability(self) -> dict[str, Tensor]:
        return transferability(self.source, statistics(self.layers), self.eps)

    @torch.no_grad()
    def note(self, seen: dict[str, Seen], codes: Tensor) -> None:
        """Take in what a batch showed: its statistics, of which the first batch's set the target's, and the classes told."""
        share = 1 - MOMENTUM if self.looked else 0.0
        known = statistics(self.layers)
        new = {name: blend(share, known[name], (one.mean, one.variance)) for name, one in seen.items()}
        replace_statistics(self.layers, new)
        self.looked.fill_(True)
        self.told += torch.bincount(codes.flatten(), minlength=len(self.told))

    def shares(self) -> list[float]:
        """Shares of the classes that were told since this was asked last."""
        found: list[float] = (self.told / self.told.sum().clamp(min=1)).tolist()
        self.told.zero_()
        return found


class Inputs:
    """Numbers of any shape (n, ...) as a network takes them: a source of batches.

    Raises
    ------
    TypeError
        Not an array or tensor of numbers.
    ValueError
        NaN or infinite values, or no second axis.
    """

    def __init__(self, values: Any) -> None:
        tensor = values.detach().cpu() if isinstance(values, Tensor) else None
        if tensor is None:
            array = np.asarray(values)
            if array.dtype.kind not in "biuf":
                raise TypeError(
                    f"X: numbers (n, ...) as the network takes them were expected, got {type(values).__name__}"
                )
            tensor = torch.from_numpy(np.ascontiguousarray(array))
        if tensor.ndim < 2:
            raise ValueError(f"X: inputs of a network (n, c, ...) were expected, got shape {tuple(tensor.shape)}")
        self.values = tensor if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.float()
        finite = torch.isfinite(self.values).flatten(1).all(dim=1)
        if not finite.all():
            bad, first = int((~finite).sum()), int(finite.int().argmin())
            raise ValueError(f"X: NaN or infinite values in {bad} of {len(finite)} rows, the first is row {first}")
        self.rows = np.arange(len(tensor))
        self.fingerprint = fingerprint(tensor.float())
        self.skipped: list[Skipped] = []

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, rows: Any) -> dict[str, Any]:
        """``image``: float (b, c, ...)."""
        return {"image": self.values[torch.from_numpy(checked_rows(rows, len(self)))]}
