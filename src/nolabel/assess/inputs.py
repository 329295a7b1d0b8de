"""What every measure accepts, checked in one place: float matrices and label vectors, as NumPy arrays.

A measure receives a NumPy array, a tensor (any device, any float precision) or a nested list of floats. It always
computes on a NumPy array that is two-dimensional, finite and of floating type; anything else is refused by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nolabel.ops.finite import finite_rows


def as_array(values: Any, name: str) -> np.ndarray:
    """Bring a tensor, an array or a nested list to a NumPy array; bfloat16 and float16 become float32.

    >>> as_array([[1.0, 2.0]], "embeddings").shape
    (1, 2)
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
    if hasattr(values, "tocsr"):
        raise TypeError(f"{name}: a dense matrix was expected, got the sparse {type(values).__name__}; use .toarray()")
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def as_embeddings(values: Any, name: str = "embeddings", *, at_least: int = 2) -> np.ndarray:
    """Check an embedding matrix: 2-D, floats, finite, at least `at_least` rows and one column.

    Parameters
    ----------
    values : array, tensor or nested list, (n, d).
    name : what the errors call it.
    at_least : the smallest number of rows that makes sense to the measure.

    Returns
    -------
    float32 or float64 array (n, d).

    Raises
    ------
    TypeError
        Not floating numbers, or a sparse matrix.
    ValueError
        Not 2-D, too few rows, no columns, or a NaN or infinite value (the first such row is named).

    >>> as_embeddings([[1.0, float("nan")], [0.0, 1.0]])
    Traceback (most recent call last):
    ValueError: embeddings: row 0 has non-finite values (1 of 2 rows has)
    """
    array = as_array(values, name)
    if array.dtype.kind != "f":
        raise TypeError(f"{name}: floating-point embeddings were expected, got dtype {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name}: a matrix (n, d) was expected, got shape {array.shape}")
    if len(array) < at_least or array.shape[1] < 1:
        rows = "row" if at_least == 1 else "rows"
        raise ValueError(f"{name}: at least {at_least} {rows} and 1 column were expected, got shape {array.shape}")
    finite = finite_rows(array)
    if not finite.all():
        bad = int((~finite).sum())
        row, verb = int(np.argmin(finite)), "has" if bad == 1 else "have"
        raise ValueError(f"{name}: row {row} has non-finite values ({bad} of {len(array)} rows {verb})")
    return array


def as_labels(values: Any, rows: int, name: str = "labels") -> np.ndarray:
    """Check a label vector: 1-D, one integer, boolean or string a row.

    Raises
    ------
    TypeError
        Labels that are floats or objects other than strings.
    ValueError
        Not 1-D, or not of length `rows`.

    >>> as_labels(["cat", "dog"], 2).tolist()
    ['cat', 'dog']
    """
    array = as_array(values, name)
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat):
        array = array.astype(str)
    if array.ndim != 1 or len(array) != rows:
        raise ValueError(f"{name}: one label a row was expected, shape ({rows},), got shape {array.shape}")
    if array.dtype.kind not in "iubU":
        raise TypeError(f"{name}: integers, booleans or strings were expected, got dtype {array.dtype}")
    return array


def as_pair(first: Any, second: Any, names: tuple[str, str], *, same_width: bool) -> tuple[np.ndarray, np.ndarray]:
    """Check two embedding matrices of the same rows; with `same_width` also of the same space.

    Raises
    ------
    ValueError
        Different numbers of rows, or of columns where one space is meant.

    >>> as_pair([[1.0], [2.0]], [[1.0], [2.0], [3.0]], ("z1", "z2"), same_width=True)
    Traceback (most recent call last):
    ValueError: z1 and z2: the same rows were expected in both, got shapes (2, 1) and (3, 1)
    """
    a, b = as_embeddings(first, names[0]), as_embeddings(second, names[1])
    if len(a) != len(b):
        text = f"{names[0]} and {names[1]}: the same rows were expected in both, got shapes {a.shape} and {b.shape}"
        raise ValueError(text)
    if same_width and a.shape[1] != b.shape[1]:
        text = f"{names[0]} and {names[1]}: the same width was expected, got shapes {a.shape} and {b.shape}"
        raise ValueError(text)
    return a, b


def as_count(value: Any, name: str, *, low: int = 1, high: int | None = None, why: str = "") -> int:
    """Check an integer argument that lies in [low, high].

    >>> as_count(30, "k", high=9, why="there are 9 keys")
    Traceback (most recent call last):
    ValueError: k: an integer in [1, 9] was expected (there are 9 keys), got 30
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        span = f"at least {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{name}: an integer {span} was expected{f' ({why})' if why else ''}, got {value!r}")
    return int(value)
