"""What clustering under latent label shift accepts, checked in one place: domains of rows, probabilities of domains."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nolabel.assess.inputs import as_array, as_labels

#: How far the sum of a row of probabilities may be from 1.
SLACK = 1e-3


def as_domains(domain: Any, rows: int) -> np.ndarray:
    """Domains (n,), integers or texts; whole numbers that came as floats, as pandas makes them, count.

    Raises
    ------
    ValueError
        Another length, a missing domain, or a number that is not whole: the row is named.
    """
    array = as_array(domain, "domain")
    if array.ndim != 1 or len(array) != rows:
        raise ValueError(f"domain: one for each of {rows} rows was expected, got shape {array.shape}")
    if array.dtype.kind == "O":
        missing = [row for row, value in enumerate(array) if value is None or value != value]
        if missing:
            raise ValueError(f"domain: row {missing[0]} has none ({len(missing)} of {rows} rows); leave it out")
        array = np.array(array.tolist())
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (array == np.floor(array))
        if not whole.all():
            row = int(np.argmin(whole))
            raise ValueError(f"domain: integers or texts were expected, row {row} is {array[row]}")
        array = array.astype(np.int64)
    return as_labels(array, rows, "domain")


def domain_codes(domains: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """The different domains, sorted, and the number of each row's (n,); each has at least two rows.

    >>> domain_codes(np.array(["b", "a", "b", "a"]))
    (['a', 'b'], array([1, 0, 1, 0]))
    """
    names, codes, counts = np.unique(domains, return_inverse=True, return_counts=True)
    if (counts < 2).any():
        which = names[counts < 2]
        raise ValueError(f"domain: {which[0].item()!r} has 1 row, at least 2 of each domain were expected")
    return names.tolist(), codes


def known_codes(domains: np.ndarray, names: Sequence[Any]) -> np.ndarray:
    """The numbers of domains (n,) among the sorted `names`.

    >>> known_codes(np.array(["b", "c"]), ["a", "b"])
    Traceback (most recent call last):
    ValueError: domain: 'c' of row 1 was not among those of fit: a, b
    """
    sorted_names = np.asarray(names)
    comparable = (domains.dtype.kind == "U") == (sorted_names.dtype.kind == "U")
    known = np.isin(domains, sorted_names) if comparable else np.zeros(len(domains), dtype=bool)
    if not known.all():
        row = int(np.argmin(known))
        shown = ", ".join(map(str, names[:10])) + (", ..." if len(names) > 10 else "")
        raise ValueError(f"domain: {domains[row].item()!r} of row {row} was not among those of fit: {shown}")
    return np.searchsorted(sorted_names, domains)


def held_out(codes: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Row numbers of about a `share` of each domain, at least one, and not all.

    >>> codes = np.array([0] * 10 + [1] * 2)
    >>> np.bincount(codes[held_out(codes, 0.2, 0)]).tolist()
    [2, 1]
    """
    rng = np.random.default_rng(seed)
    found = []
    for code in range(codes.max() + 1):
        own = rng.permutation(np.flatnonzero(codes == code))
        found.append(own[: min(max(round(share * len(own)), 1), len(own) - 1)])
    return np.sort(np.concatenate(found))


def as_probabilities(values: Any) -> np.ndarray:
    """Rows of probabilities (n, r), non-negative and with sums of 1 within 0.001, float64.

    >>> as_probabilities([[0.5, 0.6]])
    Traceback (most recent call last):
    ValueError: X: rows were expected to sum to 1, row 0 sums to 1.1
    """
    array = as_array(values, "X")
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not len(array):
        raise ValueError(f"X: probabilities of domains (n, r) were expected, got {array.dtype} of shape {array.shape}")
    array = array.astype(np.float64)
    bad = ~(array >= 0).all(axis=1)  # written so that NaN fails
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"X: probabilities of at least 0 were expected, row {row} holds {array[row].min():g}")
    sums = array.sum(axis=1)
    off = np.abs(sums - 1) > SLACK
    if off.any():
        row = int(np.argmax(off))
        raise ValueError(f"X: rows were expected to sum to 1, row {row} sums to {sums[row]:g}")
    return array / sums[:, None]


def matched_mix_error(class_mix: np.ndarray, clusters: np.ndarray, labels: np.ndarray, codes: np.ndarray) -> float:
    """Mean difference of mixes (r, k) from the true ones, clusters matched to classes by the rows that they share.

    Parameters
    ----------
    class_mix : (r, k) estimated
    clusters, labels, codes : (n,) cluster, true class and domain number of each row

    >>> rows = np.array([0, 0, 1, 1]), np.array(["x", "x", "y", "y"]), np.array([0, 0, 0, 1])
    >>> round(matched_mix_error(np.array([[0.6, 0.4], [0.0, 1.0]]), *rows), 3)  # the true one of domain 0: 2/3, 1/3
    0.033
    """
    from scipy.optimize import linear_sum_assignment

    names, classes = np.unique(labels, return_inverse=True)
    domains, k = class_mix.shape
    if len(names) != k:
        raise ValueError(f"y: {k} classes were expected, as many as n_classes, got {len(names)}")
    shared, true = np.zeros((k, k)), np.zeros((domains, k))
    np.add.at(shared, (classes, clusters), 1)
    np.add.at(true, (codes, classes), 1)
    true /= np.maximum(true.sum(axis=1, keepdims=True), 1)
    matches = linear_sum_assignment(shared, maximize=True)[1]
    return float(np.abs(class_mix[:, matches] - true).mean())
