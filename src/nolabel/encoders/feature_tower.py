"""What stands on top of the embeddings of a table's columns: cross layers, perceptrons, a tower for a row's features."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nolabel.encoders.categorical import SPREAD, UnifiedEmbedding


class CrossLayers(nn.Module):
    """Layers ``x <- x0 * (W x + b) + x``, which multiply features with one another (Wang et al., DCN V2, WWW 2021,
    arXiv:2008.13535).

    >>> CrossLayers(6, 2)(torch.rand(3, 6)).shape
    torch.Size([3, 6])
    """

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))

    def forward(self, first: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        x = first
        for layer in self.layers:
            x = first * layer(x) + x
        return x


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers from width to width with ReLUs between them, without norms.

    >>> len(perceptron([8, 64, 64, 1]))
    5
    """
    parts: list[nn.Module] = []
    for before, after in zip(widths, widths[1:]):
        parts += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


class FeatureTower(nn.Module):
    """Features of a row as one vector: embeddings of the categories and scaled numbers side by side, then a perceptron.

    A feature that is masked gives way to a default of its own, which is learned; so does one that cannot be known: a single
    value without a row (mode ``full``), or a number that is missing.

    Parameters
    ----------
    embedding : of the columns of categories
    shift, scale : (m,) of the numbers; what goes in is ``(x - shift) / scale``
    hidden, dim : widths of the hidden layers and of the vector
    """

    def __init__(
        self, embedding: UnifiedEmbedding, shift: Tensor, scale: Tensor, *, hidden: Sequence[int], dim: int
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)
        widths = list(embedding.widths.values())
        self.defaults = nn.ParameterList(nn.Parameter(torch.empty(w).uniform_(-SPREAD, SPREAD)) for w in widths)
        self.number_defaults = nn.Parameter(torch.zeros(len(shift)))
        self.dim = dim
        self.layers = perceptron([sum(widths) + len(shift), *hidden, dim])

    def forward(self, batch: dict[str, Any], masked: Bool[Tensor, " k"] | None = None) -> Float[Tensor, "n d"]:
        """Vectors of the rows of a batch of a `FeatureTable`; features `masked` (categories, then numbers) are hidden."""
        return self.layers(self.features(batch, masked))

    def features(self, batch: dict[str, Any], masked: Bool[Tensor, " k"] | None = None) -> Float[Tensor, "n width"]:
        """What the perceptron sees."""
        keys = batch["categories"]
        parts = []
        for number, (name, vectors) in enumerate(self.embedding.embed(keys).items()):
            hidden = torch.zeros(len(vectors), dtype=torch.bool, device=vectors.device)
            if not isinstance(keys[name], dict):
                hidden |= ~self.embedding.known(name, keys[name])
            if masked is not None:
                hidden |= masked[number]
            parts.append(torch.where(hidden.unsqueeze(1), self.defaults[number], vectors))
        numbers = (batch["numbers"] - self.shift) / self.scale  # (b, m)
        gone = numbers.isnan()
        if masked is not None:
            gone = gone | masked[len(parts) :]
        return torch.cat([*parts, torch.where(gone, self.number_defaults, numbers)], dim=1)
