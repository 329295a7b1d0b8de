"""Means and covariances of embeddings that are never all in memory: computed part by part, and added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nolabel.assess.geometry import unit_rows
from nolabel.assess.inputs import as_embeddings


@dataclass(frozen=True)
class Moments:
    """First and second moments of rows, and of their directions; those of two parts add up to those of the whole.

    Attributes
    ----------
    rows : how many
    mean : (d,)
    scatter : (d, d), sum of (z - mean)(z - mean)^T
    unit_mean : (d,), of the rows scaled to unit length
    unit_scatter : (d,), sum of the squared deviations from it

    >>> z = np.random.default_rng(0).normal(size=(50, 4))
    >>> whole, parts = Moments.of(z), Moments.of(z[:7]) + Moments.of(z[7:])
    >>> np.allclose(whole.scatter, parts.scatter), parts.rows
    (True, 50)
    """

    rows: int
    mean: np.ndarray
    scatter: np.ndarray
    unit_mean: np.ndarray
    unit_scatter: np.ndarray

    @classmethod
    def of(cls, z: Any) -> Moments:
        """Of embeddings (n, d); n may be 1. A row of zeros has no direction and is a ValueError."""
        x = as_embeddings(z, at_least=1).astype(np.float64)
        unit = unit_rows(x, "embeddings")
        mean, unit_mean = x.mean(axis=0), unit.mean(axis=0)
        centred = x - mean
        return cls(len(x), mean, centred.T @ centred, unit_mean, ((unit - unit_mean) ** 2).sum(axis=0))

    def __add__(self, other: Moments) -> Moments:
        rows = self.rows + other.rows
        share, weight = other.rows / rows, self.rows * other.rows / rows
        apart, unit_apart = other.mean - self.mean, other.unit_mean - self.unit_mean
        return Moments(
            rows,
            self.mean + share * apart,
            self.scatter + other.scatter + weight * np.outer(apart, apart),
            self.unit_mean + share * unit_apart,
            self.unit_scatter + other.unit_scatter + weight * unit_apart**2,
        )

    def spread(self) -> np.ndarray:
        """`nolabel.assess.spread` of all rows, (d,)."""
        return np.sqrt(self.unit_scatter / self.rows * len(self.mean))

    def alike(self) -> np.ndarray:
        """(4 d, d): few rows with the mean and covariance of all, for measures that see nothing else, such as RankMe."""
        values, vectors = np.linalg.eigh(self.scatter / self.rows)
        steps = np.sqrt(len(values) * values.clip(min=0))[:, None] * vectors.T
        return np.tile(np.concatenate([self.mean + steps, self.mean - steps]), (2, 1))
