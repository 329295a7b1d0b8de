"""Funnel search over Matryoshka prefixes: which widths a query is compared at, and how many rows each width keeps.

The first stage compares every row by its first coordinates; each later stage ranks what is left by more of them. Two
stages, a narrow one over everything and the whole vector over a shortlist, are adaptive retrieval; more stages with
halving shortlists are the funnel (Kusupati et al., NeurIPS 2022, arXiv:2205.13147).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Stage(NamedTuple):
    """Rank by the first `dim` coordinates and keep the best `keep` rows."""

    dim: int
    keep: int


class Tally:
    """Multiply-adds of the comparisons made while some queries were answered."""

    def __init__(self) -> None:
        self.multiply_adds = 0.0

    def add(self, comparisons: float, dim: int) -> None:
        self.multiply_adds += comparisons * dim


def whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least `least`; ValueError names the argument."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return int(value)


def plan(
    k: int,
    width: int,
    dim: int | None = None,
    rescore: int | None = None,
    funnel: Sequence[tuple[int, int]] | None = None,
) -> list[Stage]:
    """The stages of a search for `k` rows among vectors of `width`; every wrong argument is a ValueError.

    >>> plan(10, 64, dim=16, rescore=200)
    [Stage(dim=16, keep=200), Stage(dim=64, keep=10)]
    >>> plan(10, 64, funnel=[(8, 100), (32, 50)])
    [Stage(dim=8, keep=100), Stage(dim=32, keep=50)]
    """
    whole("k", k, 1)
    if funnel is not None:
        if dim is not None or rescore is not None:
            raise ValueError("funnel: names its own dimensions, so dim= and rescore= are not taken")
        return _stages(funnel, k, width)
    if dim is not None and whole("dim", dim, 1) > width:
        raise ValueError(f"dim: the index holds vectors of dimension {width}, got {dim}")
    if rescore is None:
        return [Stage(dim or width, k)]
    if dim is None:
        raise ValueError("rescore: ranks what a prefix found again, so it needs dim=")
    if whole("rescore", rescore, 1) < k:
        raise ValueError(f"rescore: expected at least k = {k} rows, got {rescore}")
    return [Stage(dim, int(rescore)), Stage(width, k)]


def _stages(funnel: Any, k: int, width: int) -> list[Stage]:
    pairs = list(funnel) if hasattr(funnel, "__iter__") and not isinstance(funnel, str) else []
    if not pairs or any(not hasattr(pair, "__len__") or isinstance(pair, str) or len(pair) != 2 for pair in pairs):
        raise ValueError(
            f"funnel: expected pairs (dimension, rows to keep) such as [(16, 200), ({width}, {k})], got {funnel!r}"
        )
    stages = [Stage(whole("funnel: dimension", dim, 1), whole("funnel: rows to keep", keep, 1)) for dim, keep in pairs]
    dims, keeps = [stage.dim for stage in stages], [stage.keep for stage in stages]
    if any(a >= b for a, b in zip(dims, dims[1:])):
        raise ValueError(f"funnel: expected dimensions that rise, got {', '.join(map(str, dims))}")
    if dims[-1] > width:
        raise ValueError(f"funnel: the index holds vectors of dimension {width}, got {dims[-1]}")
    if any(a < b for a, b in zip(keeps, keeps[1:])):
        raise ValueError(f"funnel: no stage keeps more rows than the one before, got {', '.join(map(str, keeps))}")
    if keeps[-1] < k:
        raise ValueError(f"funnel: expected every stage to keep at least k = {k} rows, got {keeps[-1]}")
    return stages
