"""Items that two runs have in common, with the vectors that each made of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: Columns that say which item a row is, where the runs did not learn from the same data.
NAMES = ("path", "url", "video", "node", "text")
FEWEST = 20


@dataclass(frozen=True)
class Common:
    """The same items in two indices.

    Attributes
    ----------
    ids : (n,) ids in the first run's index
    first, second : (n, d) and (n, e) vectors
    by : how the items were matched
    """

    ids: np.ndarray
    first: np.ndarray
    second: np.ndarray
    by: str


def common_items(first: Path, second: Path) -> Common:
    """Match the rows of two runs: by their number where both learned from the same data, else by path, address or text."""
    from nolabel.search import Index
    from nolabel.training import load

    runs = [first, second]
    indices = [Index.open(run) for run in runs]
    for run, index in zip(runs, indices):
        if not index.dim:
            raise ValueError(f"{run} has no dense vectors to compare: it is searched by {', '.join(index.modes)}")
    columns = [set(index.info()["columns"]) for index in indices]
    same = len({load(run).fingerprint_ for run in runs}) == 1
    by = "row" if same else next((name for name in NAMES if all(name in have for have in columns)), None)
    if by is None:
        raise ValueError(
            f"{first} and {second} learned from different data whose items have no column in common to tell them by: "
            f"{', '.join(NAMES)}"
        )
    tables = [index.rows(columns=["id", "vector", by]) for index in indices]
    places = [_once(table[by].to_pylist()) for table in tables]
    both = [name for name in places[0] if name in places[1]]
    if len(both) < FEWEST:
        raise ValueError(
            f"{first} and {second} have {len(both)} items in common (by {by!r}); at least {FEWEST} are needed to compare them"
        )
    at = [[where[name] for name in both] for where in places]
    mine, theirs = (_matrix(table, rows) for table, rows in zip(tables, at))
    return Common(tables[0]["id"].to_numpy()[at[0]], mine, theirs, by)


def drawn(common: Common, count: int, seed: int = 0) -> np.ndarray:
    """Positions of at most so many of the common items, as anchors."""
    order = np.random.default_rng(seed).permutation(len(common.ids))
    return np.sort(order[:count])


def _once(values: list[Any]) -> dict[Any, int]:
    """Where each value stands that is there and comes but once."""
    counts: dict[Any, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return {value: at for at, value in enumerate(values) if value is not None and counts[value] == 1}


def _matrix(table: Any, rows: list[int]) -> np.ndarray:
    found = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
    return np.ascontiguousarray(found[rows], dtype=np.float32)
