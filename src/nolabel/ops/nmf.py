"""A table of counts as a product of two non-negative ones: what cells hold of each class, and classes of each domain."""

import warnings

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import nnls

#: Cells with less than this part of the median count say little of where a corner lies.
LEAST = 0.2


def nonnegative_weights(basis: Float[np.ndarray, "r k"], points: Float[np.ndarray, "n r"]) -> Float[np.ndarray, "n k"]:
    """Return for each point the weights v >= 0 with the least ``|basis v - point|``.

    >>> nonnegative_weights(np.eye(2), np.array([[0.7, -0.2]])).tolist()
    [[0.7, 0.0]]
    """
    if not len(points):
        return np.zeros((0, basis.shape[1]))
    return np.stack([nnls(basis, point)[0] for point in np.asarray(points, dtype=np.float64)])


def successive_projection(rows: Float[np.ndarray, "m r"], count: int) -> Int[np.ndarray, " count"]:
    """Return the numbers of rows that are the corners of all: the longest, then the longest of what it leaves over, and so on.

    Exact where every row is a mixture of some of the rows.

    Parameters
    ----------
    rows : (m, r)
    count : corners wanted, at most m and r

    Raises
    ------
    ValueError
        The rows span fewer dimensions than corners are wanted.

    References
    ----------
    Araújo et al., "The successive projections algorithm", 2001; on noise Gillis & Vavasis, 2014, arXiv:1208.1237.

    >>> successive_projection(np.array([[0.5, 0.5], [0.9, 0.1], [0.0, 1.0]]), 2).tolist()
    [2, 1]
    """
    left = np.array(rows, dtype=np.float64)
    scale = np.linalg.norm(left, axis=1).max(initial=0.0)
    found: list[int] = []
    for _ in range(count):
        lengths = np.linalg.norm(left, axis=1)
        best = int(lengths.argmax()) if len(lengths) else 0
        if not len(lengths) or lengths[best] <= 1e-9 * scale:
            raise ValueError(f"rows: they span {len(found)} dimensions, {count} corners were expected")
        found.append(best)
        direction = left[best] / lengths[best]
        left -= np.outer(left @ direction, direction)
    return np.array(found)


def mix_by_anchors(
    table: Float[np.ndarray, "m r"], counts: Int[np.ndarray, " m"], classes: int
) -> Float[np.ndarray, "k r"]:
    """Return p(class | domain), columns that sum to 1, from cells which hold one class alone.

    The rows of the table, each divided by its sum, are q(domain | cell): mixtures of the classes' q(domain | class), which
    are therefore the corners of all rows. How common a class is follows from q(domain) being uniform.

    Parameters
    ----------
    table : (m, r) q(cell | domain), columns that sum to 1
    counts : (m,) rows of data in each cell; cells with less than a fifth of the median are no corners
    classes : number of corners

    Raises
    ------
    ValueError
        Fewer cells are different from each other than there are classes.

    >>> table = np.array([[0.8, 0.1], [0.2, 0.9]])
    >>> mix_by_anchors(table, np.array([9, 11]), 2).round(3).tolist()  # each cell is a class
    [[0.8, 0.1], [0.2, 0.9]]
    """
    sums = table.sum(axis=1)
    there = np.flatnonzero(sums > 0)
    usual = there[counts[there] >= LEAST * np.median(counts[there])]
    used = usual if len(usual) >= classes else there
    points = table[used] / sums[used, None]  # (m', r), rows on the simplex
    corners = points[successive_projection(points, classes)].T  # (r, k), p(domain | class)
    shares = nnls(corners, np.full(len(corners), 1 / len(corners)))[0]  # (k,)
    mix: Float[np.ndarray, "k r"] = _columns(corners.T * shares[:, None])
    return mix


def mix_by_nmf(
    table: Float[np.ndarray, "m r"],
    classes: int,
    *,
    start: Float[np.ndarray, "k r"] | None = None,
    n_init: int = 1,
    random_state: int = 0,
) -> Float[np.ndarray, "k r"]:
    """Return p(class | domain), columns that sum to 1, from the factorisation of the table with the least squared error.

    The factors are in general not unique: other mixes may describe the table just as well.

    Parameters
    ----------
    table : (m, r) q(cell | domain), columns that sum to 1
    classes : rank of the product
    start : p(class | domain) to begin with; without it from random factors
    n_init : random beginnings, of which the one that ends with the least error counts
    random_state : seed of them
    """
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    best: tuple[float, Float[np.ndarray, "k r"]] | None = None
    for attempt in range(1 if start is not None else n_init):
        model = NMF(
            classes,
            init="random" if start is None else "custom",
            solver="cd",
            max_iter=2000,
            tol=1e-6,
            random_state=random_state + attempt,
        )
        given = {} if start is None else {"W": cells_by_mix(table, start), "H": np.array(start)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            cells = model.fit_transform(np.array(table), **given)  # (m, k)
        mix = _columns(cells.sum(axis=0)[:, None] * model.components_)
        if best is None or model.reconstruction_err_ < best[0]:
            best = model.reconstruction_err_, mix
    assert best is not None
    return best[1]


def cells_by_mix(table: Float[np.ndarray, "m r"], mix: Float[np.ndarray, "k r"]) -> Float[np.ndarray, "m k"]:
    """Return q(cell | class), columns that sum to 1, which with the mixes gives the table best.

    >>> mix = np.array([[1.0, 0.5], [0.0, 0.5]])
    >>> cells_by_mix(np.array([[1.0, 0.5], [0.0, 0.5]]), mix).round(6).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    cells: Float[np.ndarray, "m k"] = _columns(nonnegative_weights(mix.T, table))
    return cells


def _columns(table: np.ndarray) -> np.ndarray:
    """Columns divided by their sums; a column of zeros stays one."""
    sums = table.sum(axis=0)
    divided: np.ndarray = table / np.where(sums > 0, sums, 1)
    return divided
