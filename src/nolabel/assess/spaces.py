"""Whether two representations tell the same things apart: compared through their similarities to common anchors.

Moschella et al., "Relative representations enable zero-shot latent space communication", ICLR 2023, arXiv:2209.15430.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from nolabel.assess.inputs import as_count, as_embeddings, as_pair
from nolabel.ops.neighbours import nearest
from nolabel.ops.relative import relative

#: Rows that are compared with all others, at most.
ROWS = 4000


@dataclass(frozen=True)
class Likeness:
    """How well rows of one space stand for the same rows of another.

    Attributes
    ----------
    jaccard : of the k rows nearest to a row within its space and across, common ones over all of them; a mean
    mrr : mean over rows of one over the rank at which its twin is found across
    cosine : mean of a row and its twin
    """

    jaccard: float
    mrr: float
    cosine: float


@dataclass(frozen=True)
class SpaceComparison:
    """What `compare_spaces` found: by similarities to anchors, and by the vectors as they are where widths agree."""

    relative: Likeness
    absolute: Likeness | None
    rows: int
    anchors: int
    k: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def as_anchor_rows(anchors: Any, rows: int) -> np.ndarray:
    """Row numbers of anchors, int64 (m,), each there and none twice; order is kept, for it has to agree across spaces.

    >>> as_anchor_rows([2, 0], 3).tolist()
    [2, 0]
    """
    found = np.asarray(anchors)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu":
        raise ValueError(f"anchors must be row numbers (m,), got shape {found.shape} of {found.dtype}")
    wrong = found[(found < 0) | (found >= rows)]
    if len(wrong):
        raise ValueError(f"anchors must lie in 0 to {rows - 1}, got {wrong[0]}")
    values, counts = np.unique(found, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"anchors: row {values[counts > 1][0]} comes twice")
    return found.astype(np.int64)


def relative_rows(Z: Any, anchors: Any, **options: Any) -> np.ndarray:
    """Similarities (n, m) of vectors (n, d) to anchors (m, d), float32; `options` as in `nolabel.ops.relative.relative`."""
    z, a = (
        torch.tensor(as_embeddings(X, name, at_least=1).copy(), dtype=torch.float32)
        for X, name in ((Z, "Z"), (anchors, "anchors"))
    )
    found: np.ndarray = relative(z, a, **options).numpy()
    return found


def compare_spaces(
    Z_a: Any, Z_b: Any, anchors: Any, *, k: int = 10, centre: bool = True, rows: int = ROWS, random_state: int = 0
) -> SpaceComparison:
    """Compare two embeddings of the same rows, of any widths, that were learned apart.

    Every row is told by its cosines to the anchors in its own space; then rows of the one space look for themselves among
    the rows of the other. Anchors are left out of the rows compared.

    Parameters
    ----------
    Z_a, Z_b : (n, d) and (n, e), the same rows in the same order
    anchors : (m,) row numbers, none twice; 100 to 500
    k : neighbours
    centre : take cosines around the mean of the anchors of each space, not around the origin as in the paper: vectors
        without negative coordinates all lie one way from there
    rows : compared, at most; drawn by `random_state`

    Raises
    ------
    ValueError
        Other numbers of rows, anchors that are not there or come twice, k not below the rows compared, rows of zeros.

    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(200, 8))
    >>> turned = z @ np.linalg.qr(rng.normal(size=(8, 8)))[0] * 5
    >>> found = compare_spaces(z, turned, np.arange(20))
    >>> round(found.relative.mrr, 3), found.absolute.mrr < 0.5
    (1.0, True)
    """
    a, b = as_pair(Z_a, Z_b, ("Z_a", "Z_b"), same_width=False)
    chosen = as_anchor_rows(anchors, len(a))
    others = np.setdiff1d(np.arange(len(a)), chosen)
    others = np.sort(np.random.default_rng(random_state).permutation(others)[:rows])
    as_count(k, "k", high=len(others) - 1, why=f"each of {len(others)} rows compared has {len(others) - 1} others")
    first, second = (z - z[chosen].mean(axis=0) if centre else z for z in (a, b))
    told = _likeness(relative_rows(first[others], first[chosen]), relative_rows(second[others], second[chosen]), k)
    plain = _likeness(a[others], b[others], k) if a.shape[1] == b.shape[1] else None
    return SpaceComparison(told, plain, len(others), len(chosen), k)


def _likeness(a: np.ndarray, b: np.ndarray, k: int) -> Likeness:
    units = [z / np.linalg.norm(z, axis=1, keepdims=True).clip(1e-12) for z in (a, b)]
    across = units[0] @ units[1].T  # (n, n)
    twin = across.diagonal().copy()
    above = (across > twin[:, None]).sum(axis=1)
    equal = (across == twin[:, None]).sum(axis=1) - 1  # of rows that are equally near, half come first
    rank = 1 + above + equal / 2
    np.fill_diagonal(across, -np.inf)  # a row is no neighbour of its own
    found = np.argpartition(-across, k - 1, axis=1)[:, :k]
    within = np.asarray(nearest(a, a, k, metric="cosine", exclude_self=True)[1])
    common = np.array([len(np.intersect1d(x, y)) for x, y in zip(within, found, strict=True)])
    return Likeness(float((common / (2 * k - common)).mean()), float((1 / rank).mean()), float(twin.mean()))


def space_quality(Z: Any, Z_reference: Any, anchors: Any) -> float:
    """Mean cosine of the rows of an embedding and of a good reference, both told by their cosines to the same anchors.

    Label-free: across models it goes up with accuracy where the reference is good (arXiv:2209.15430, section 4).

    Parameters
    ----------
    Z, Z_reference : (n, d) and (n, e), the same rows in the same order
    anchors : (m,) row numbers

    >>> z = np.random.default_rng(0).normal(size=(50, 4))
    >>> round(space_quality(z, -3 * z, np.arange(9)), 4)
    1.0
    """
    a, b = as_pair(Z, Z_reference, ("Z", "Z_reference"), same_width=False)
    chosen = as_anchor_rows(anchors, len(a))
    first, second = (relative_rows(z, z[chosen], norm="l2") for z in (a, b))
    return float((first * second).sum(axis=1).mean())
