"""Which rows of a matrix hold NaN or infinity, at the cost of reading the matrix once."""

import numpy as np
from jaxtyping import Bool, Float

SMALL = 4096  # numbers; looking at each is then as quick


def finite_rows(matrix: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
    """Return which rows hold finite numbers only.

    One product with ones shows whatever is not finite in the sum of its row; rows whose sum overflows are looked at number
    by number.

    Examples
    --------
    >>> rows = np.repeat([[1.0], [np.nan], [1e308]], 2000, axis=1)
    >>> finite_rows(rows).tolist()
    [True, False, True]
    """
    if matrix.size < SMALL:
        small: np.ndarray = np.isfinite(matrix).all(axis=1)
        return small
    with np.errstate(invalid="ignore", over="ignore"):
        found: np.ndarray = np.isfinite(matrix @ np.ones(matrix.shape[1], matrix.dtype))
    doubtful = np.flatnonzero(~found)
    found[doubtful] = np.isfinite(matrix[doubtful]).all(axis=1)
    return found
