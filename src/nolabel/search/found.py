"""What a search found before it is told as `Hits`: positions in a snapshot and how near they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

Matches = list[tuple[str | int, float]]


class Found(NamedTuple):
    """Rows found by one query, best first.

    `scores` are larger the nearer a row is, so distances come negated. `explain` takes positions (m,) and gives what
    matched in each; None where nothing can be named.
    """

    scores: Float32[np.ndarray, " k"]
    positions: Int64[np.ndarray, " k"]
    multiply_adds: int = 0
    explain: Callable[[Int64[np.ndarray, " m"]], list[Matches]] | None = None
