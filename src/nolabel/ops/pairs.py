"""Pairs of rows that belong together: two views of one object, two visits of one user."""

from typing import Any

import numpy as np


def pair_rows(groups: Any, rng: np.random.Generator) -> np.ndarray:
    """Pair the rows of each group at random; no row comes twice, and one row of an odd group stays out.

    Parameters
    ----------
    groups : (n,) numbers or texts, the same for rows that belong together
    rng : decides who meets whom, who comes first, and the order of the pairs

    Returns
    -------
    int64 (pairs, 2) row numbers

    Raises
    ------
    ValueError
        `groups` is not one-dimensional.

    >>> sorted(sorted(pair) for pair in pair_rows(["a", "b", "a", "b"], np.random.default_rng(0)).tolist())
    [[0, 2], [1, 3]]
    """
    groups = np.asarray(groups)
    if groups.ndim != 1:
        raise ValueError(f"groups must be one value a row, got shape {groups.shape}")
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    order = rng.permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]  # group after group, each in random order
    sizes = np.bincount(codes)
    place = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within the group
    leads = np.flatnonzero((place % 2 == 0) & (place + 1 < np.repeat(sizes, sizes)))
    return rng.permutation(np.stack([order[leads], order[leads + 1]], axis=1))
