"""What a contrastive temperature does to an embedding, before a long run is spent on it: short runs side by side."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone

from nolabel.assess.contrastive import COLLAPSED, contrastive_diagnostics, neighbour_tolerance
from nolabel.assess.geometry import uniformity
from nolabel.assess.rank import rankme
from nolabel.assess.selection import shortened

logger = logging.getLogger(__name__)

NARROW, BLIND = 0.02, 0.9  # effective negatives, as a share of all
LOW_RANK = 0.5  # RankMe, relative to the best of the grid


@dataclass(frozen=True)
class TemperatureRun:
    """One temperature: what a short run made of the embedding, and what is suspicious about it.

    Attributes
    ----------
    temperature : of the run
    uniformity : lower is more uniform
    neighbour_tolerance : mean cosine of a row to its nearest tenth
    rankme : effective rank
    effective_negatives, negatives : how many of how many negatives share the push of the loss
    flags : ``collapsed`` (rows are alike to their nearest half), ``narrow`` (the push goes to a few nearest: alike images are
        torn apart), ``not hardness-aware`` (near and far are pushed alike) or ``low rank``; empty if nothing is suspicious
    """

    temperature: float
    uniformity: float
    neighbour_tolerance: float
    rankme: float
    effective_negatives: float
    negatives: int
    flags: tuple[str, ...]


@dataclass(frozen=True)
class TemperatureTable:
    """The runs by rising temperature; prints as a table. It says nothing about accuracy, which needs labels."""

    runs: tuple[TemperatureRun, ...]

    @property
    def unflagged(self) -> tuple[float, ...]:
        """Temperatures about which nothing is suspicious."""
        return tuple(run.temperature for run in self.runs if not run.flags)

    def __str__(self) -> str:
        lines = [
            f"{'temperature':>11} {'uniformity':>11} {'neighbours':>11} {'RankMe':>8} {'effective negatives':>20}  flags"
        ]
        for run in self.runs:
            effective = f"{run.effective_negatives:.1f} of {run.negatives}"
            lines.append(
                f"{run.temperature:11g} {run.uniformity:11.3f} {run.neighbour_tolerance:11.3f} {run.rankme:8.2f}"
                f" {effective:>20}  {', '.join(run.flags)}".rstrip()
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {"runs": [asdict(run) for run in self.runs], "unflagged": list(self.unflagged)}


class TemperatureAdvisor(BaseEstimator):
    """Try several temperatures in short runs and show what each does to the embedding, without labels.

    Use it to rule temperatures out: those that collapse, tear neighbours apart, or no longer see which negatives are
    near. It does not know which of the others is most accurate, and does not claim to. After Wang and Liu,
    "Understanding the behaviour of contrastive loss", CVPR 2021, arXiv:2012.09740.

    Parameters
    ----------
    learner : unfitted contrastive learner with a parameter ``temperature`` and ``transform(X, layer="embedding")``, such
        as ``SimCLR``; it is cloned, never changed.
    grid : temperatures to try, above 0.
    share : of the learner's training budget that each run gets, in (0, 1].
    rows : rows of the data, at most, that are measured.
    random_state : seed of the draw of these rows.

    Attributes
    ----------
    table_ : `TemperatureTable`

    Examples
    --------
    >>> class Scale(BaseEstimator):  # anything with a temperature
    ...     def __init__(self, temperature=0.1):
    ...         self.temperature = temperature
    ...     def fit(self, X, columns=None):
    ...         return self
    ...     def transform(self, X, columns=None, layer="representation"):
    ...         return X
    >>> X = np.random.default_rng(0).normal(size=(200, 8))
    >>> TemperatureAdvisor(Scale(), grid=(0.01, 0.3), share=1.0).fit(X).table_.unflagged
    (0.3,)
    """

    table_: TemperatureTable

    def __init__(
        self,
        learner: Any,
        grid: Sequence[float] = (0.05, 0.1, 0.2, 0.5, 1.0),
        *,
        share: float = 0.2,
        rows: int = 2000,
        random_state: int = 0,
    ) -> None:
        self.learner = learner
        self.grid = grid
        self.share = share
        self.rows = rows
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, *, columns: dict[str, str] | None = None) -> Self:
        """Train a copy of the learner at each temperature and measure its embedding of `X`.

        Parameters
        ----------
        X, columns : as in the learner's `fit`
        y : ignored; there for scikit-learn's sake

        Raises
        ------
        TypeError
            A learner without ``temperature`` or whose ``transform`` takes no layer.
        ValueError
            An empty grid, a temperature that is not above 0 or occurs twice, a share outside (0, 1], too few rows.
        """
        self._check()
        self.table_ = TemperatureTable(_ranked([self._run(float(t), X, columns) for t in sorted(self.grid)]))
        return self

    def _check(self) -> None:
        name = type(self.learner).__name__
        if "temperature" not in getattr(self.learner, "get_params", dict)():
            raise TypeError(f"learner: an estimator with a parameter 'temperature' was expected, got {name}")
        if "layer" not in inspect.signature(self.learner.transform).parameters:
            raise TypeError(f"learner: transform(X, layer='embedding') was expected, {name}.transform takes no layer")
        if not len(self.grid) or not all(t > 0 for t in self.grid) or len(set(self.grid)) < len(self.grid):
            raise ValueError(f"grid: different temperatures above 0 were expected, got {list(self.grid)}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share: a number in (0, 1] was expected, got {self.share!r}")
        if self.rows < 20:
            raise ValueError(f"rows: at least 20 were expected, got {self.rows!r}")

    def _run(self, temperature: float, X: Any, columns: dict[str, str] | None) -> TemperatureRun:
        learner = clone(self.learner).set_params(temperature=temperature)
        if self.share < 1:
            learner.set_params(**shortened(learner, self.share))
        z = learner.fit(X, columns=columns).transform(X, columns=columns, layer="embedding")
        if len(z) < 20:
            raise ValueError(f"X: at least 20 rows were expected, got {len(z)}")
        chosen = np.random.default_rng(self.random_state).permutation(len(z))[: self.rows]
        z = z[np.sort(chosen)]
        logger.info("temperature %g: %d rows measured", temperature, len(z))
        negatives = len(z) - 1
        effective = contrastive_diagnostics(z, z, temperature).effective_negatives
        found = {
            "collapsed": neighbour_tolerance(z, len(z) // 2) > COLLAPSED,
            "narrow": effective < NARROW * negatives,
            "not hardness-aware": effective > BLIND * negatives,
        }
        return TemperatureRun(
            temperature=temperature,
            uniformity=uniformity(z),
            neighbour_tolerance=neighbour_tolerance(z, len(z) // 10),
            rankme=rankme(z),
            effective_negatives=effective,
            negatives=negatives,
            flags=tuple(flag for flag, applies in found.items() if applies),
        )


def _ranked(runs: list[TemperatureRun]) -> tuple[TemperatureRun, ...]:
    """The runs, those of low rank among them flagged."""
    low = LOW_RANK * max(run.rankme for run in runs)
    return tuple(replace(run, flags=(*run.flags, "low rank")) if run.rankme < low else run for run in runs)
