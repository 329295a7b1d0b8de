"""Nested: any objective on embeddings, asked of their first coordinates too (Matryoshka representation learning)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nolabel.objectives.sphere import unit_rows


def halved(dim: int, least: int = 8) -> tuple[int, ...]:
    """Prefix sizes by repeated halving of `dim` down to `least`, rising; `dim` itself is always one of them.

    Raises
    ------
    ValueError
        `dim` or `least` below 1.

    >>> halved(384)
    (12, 24, 48, 96, 192, 384)
    """
    if dim < 1 or least < 1:
        raise ValueError(f"dim and least must be at least 1, got {dim} and {least}")
    sizes = [dim]
    while sizes[-1] // 2 >= least:
        sizes.append(sizes[-1] // 2)
    return tuple(reversed(sizes))


def rising_sizes(sizes: Any, name: str = "sizes") -> tuple[int, ...]:
    """Prefix sizes as a tuple of whole numbers, checked to start at 1 or above and to rise; `name` is for the errors.

    Raises
    ------
    TypeError
        Not a sequence of whole numbers.
    ValueError
        Empty, below 1, or not strictly rising.

    >>> rising_sizes([8, 16])
    (8, 16)
    """
    if isinstance(sizes, str) or not hasattr(sizes, "__iter__"):
        raise TypeError(f"{name} must be a sequence of whole numbers, got {sizes!r}")
    found = tuple(sizes)
    if not all(hasattr(size, "__index__") and not isinstance(size, bool) for size in found):
        raise TypeError(f"{name} must be whole numbers, got {found}")
    found = tuple(int(size) for size in found)
    if not found or found[0] < 1 or any(a >= b for a, b in zip(found, found[1:])):
        raise ValueError(f"{name} must be whole numbers from 1 that rise, each given once, got {found}")
    return found


class Nested:
    """The weighted sum of an objective over prefixes of its embeddings, so that each prefix is an embedding of its own.

    For sizes m with weights c_m: ``sum_m c_m objective(z_1[:, :m], z_2[:, :m], ...)``. Include the whole width: what
    lies beyond the last size would not be trained, so that is an error. The sum grows with the number of sizes, as in
    the paper; weights that add up to 1 keep a learning rate what it was.

    Use it when one embedding has to serve at several widths. It leaves the order of coordinates meaningful: do not
    rotate, whiten or shuffle them afterwards, and give every prefix unit length again before you compare cosines.

    Parameters
    ----------
    objective : callable from one or more (n, d) tensors to a scalar; keyword arguments are handed on to it.
    sizes : prefix widths, rising; the last is d (`halved` makes them).
    weights : one a size, 0 or above; None is 1 each, as in the paper.
    normalise : give the rows of each prefix unit length (float32), as contrastive objectives need it. Objectives on
        logits or on a covariance take prefixes as they are: False.

    Raises
    ------
    ValueError
        Sizes that do not rise or do not end at the width of the embeddings; weights of another number, or negative;
        with `normalise`, a row whose first ``sizes[0]`` coordinates are all 0 (it has no direction).
    TypeError
        Sizes that are not whole numbers, or nothing to call.

    References
    ----------
    Kusupati et al. 2022, arXiv:2205.13147.

    Examples
    --------
    >>> import torch
    >>> from nolabel.objectives import alignment
    >>> z = torch.tensor([[3.0, 4.0]])
    >>> energy = Nested(lambda z: z.square().sum(), sizes=(1, 2), normalise=False)
    >>> float(energy(z))  # 9 + 25
    34.0
    >>> float(Nested(alignment, sizes=(1, 2))(z, 2 * z))  # the same direction at every width
    0.0
    """

    def __init__(
        self,
        objective: Callable[..., Tensor],
        sizes: Sequence[int],
        weights: Sequence[float] | None = None,
        normalise: bool = True,
    ) -> None:
        if not callable(objective):
            raise TypeError(f"objective must be callable, got {type(objective).__name__}")
        self.objective = objective
        self.sizes = rising_sizes(sizes)
        self.weights = (1.0,) * len(self.sizes) if weights is None else tuple(float(weight) for weight in weights)
        if len(self.weights) != len(self.sizes):
            raise ValueError(f"weights must be one for each of {len(self.sizes)} sizes, got {len(self.weights)}")
        if not all(0 <= weight < float("inf") for weight in self.weights) or not any(self.weights):
            raise ValueError(f"weights must be 0 or above, finite and not all 0, got {self.weights}")
        self.normalise = normalise

    def __call__(self, *embeddings: Tensor, **options: Any) -> Tensor:
        """The sum over prefixes for embeddings (n, d) each; `options` go to the objective."""
        if not embeddings:
            raise TypeError("embeddings: expected at least one (n, d) tensor, got none")
        for number, z in enumerate(embeddings, 1):
            self._check(z, number)
        total: Tensor | None = None
        for size, weight in zip(self.sizes, self.weights):
            if weight == 0:
                continue
            prefixes = [z[:, :size] for z in embeddings]  # (n, size)
            if self.normalise:
                prefixes = [unit_rows(f"embeddings {number}", z) for number, z in enumerate(prefixes, 1)]
            term = weight * self.objective(*prefixes, **options)
            total = term if total is None else total + term
        assert total is not None  # some weight is above 0
        return total

    def _check(self, z: Tensor, number: int) -> None:
        if not isinstance(z, Tensor) or z.ndim != 2:
            came = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
            raise ValueError(f"embeddings {number} must be a (n, d) tensor, got {came}")
        if z.shape[1] != self.sizes[-1]:
            raise ValueError(
                f"sizes: the last must be {z.shape[1]}, the width of embeddings {number}, got {self.sizes[-1]}"
            )
        if self.normalise:  # a longer prefix of a row is 0 only if the shortest is
            empty = ~z.detach()[:, : self.sizes[0]].any(dim=1)
            if empty.any():
                row = int(torch.argmax(empty.int()))
                raise ValueError(
                    f"embeddings {number}: row {row} is all zeros in its first {self.sizes[0]} coordinates, "
                    "which have no direction: no ReLU on embeddings, or larger sizes"
                )
