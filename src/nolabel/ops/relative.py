"""Vectors told by their similarity to anchors, and the choice of anchors.

Moschella et al., "Relative representations enable zero-shot latent space communication", ICLR 2023, arXiv:2209.15430.
"""

import math
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import layer_norm, normalize

Similarity = Literal["cosine", "inner", "basis"]
SIMILARITIES = ("cosine", "inner", "basis")
NORMS = (None, "l2", "layer")


def relative(
    z: Float[Tensor, "n d"],
    anchors: Float[Tensor, "m d"],
    *,
    similarity: Similarity = "cosine",
    bin_width: float | None = None,
    subspaces: int = 1,
    norm: Literal["l2", "layer"] | None = None,
) -> Float[Tensor, "n m"]:
    """Similarity of each row to each anchor, with gradients to both.

    Parameters
    ----------
    z, anchors : (n, d) and (m, d), of one space.
    similarity : ``cosine``, which no rotation and no scaling of the space changes; ``inner`` product over the root of d,
        which no rotation changes; ``basis``: coefficients c with the least ``|anchors.T @ c - z|``, which no invertible
        linear map changes if the anchors are independent, m at most d.
    bin_width : round similarities to multiples of it, with the gradient of the unrounded ones.
    subspaces : cut the d coordinates into so many blocks and compare by each: (n, subspaces * m).
    norm : of a row of the result: ``l2`` to unit length, ``layer`` to mean 0 and variance 1. Similarities of one space are
        all alike in size, so what is trained on them wants one of the two.

    Raises
    ------
    ValueError
        Widths that differ, more anchors than coordinates for a basis, rows of zeros under the cosine, bad options.

    >>> relative(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0]])).tolist()
    [[1.0, 0.0]]
    """
    if z.ndim != 2 or anchors.ndim != 2 or z.shape[1] != anchors.shape[1]:
        raise ValueError(f"z and anchors must be (n, d) and (m, d), got {tuple(z.shape)} and {tuple(anchors.shape)}")
    if similarity not in SIMILARITIES or norm not in NORMS:
        raise ValueError(
            f"similarity is one of {SIMILARITIES} and norm one of {NORMS}, got {similarity!r} and {norm!r}"
        )
    if bin_width is not None and not bin_width > 0:
        raise ValueError(f"bin_width must be above 0, got {bin_width}")
    if subspaces < 1 or z.shape[1] % subspaces:
        raise ValueError(f"subspaces must divide the {z.shape[1]} coordinates, got {subspaces}")
    pairs = zip(z.chunk(subspaces, dim=1), anchors.chunk(subspaces, dim=1), strict=True)
    found = torch.cat([_similarities(rows, to, similarity) for rows, to in pairs], dim=1)
    if bin_width is not None:
        found = found + (torch.round(found / bin_width) * bin_width - found).detach()
    if norm == "l2":
        return normalize(found, dim=1)
    return layer_norm(found, found.shape[1:]) if norm == "layer" else found


def _similarities(z: Tensor, anchors: Tensor, similarity: str) -> Tensor:
    if similarity == "inner":
        return z @ anchors.T / math.sqrt(z.shape[1])
    if similarity == "cosine":
        for name, rows in (("z", z), ("anchors", anchors)):
            empty = (rows == 0).all(dim=1)
            if empty.any():
                raise ValueError(f"{name}: row {int(empty.nonzero()[0])} is all zeros and has no direction")
        return normalize(z, dim=1) @ normalize(anchors, dim=1).T
    if len(anchors) > z.shape[1]:
        raise ValueError(f"a basis has at most as many anchors as coordinates, {z.shape[1]}, got {len(anchors)}")
    return z @ torch.linalg.pinv(anchors)  # (n, m)


def choose_anchors(z: Any, n: int, how: str, random_state: int = 0) -> Int64[np.ndarray, " n"]:
    """Rows of an embedding (rows, d) to be anchors, none twice, in rising order.

    ``uniform`` draws them, ``kmeans`` takes the rows nearest to the centres of so many clusters, ``farthest`` begins with a
    draw and adds the row that is least like those it has, by cosine.

    >>> choose_anchors(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), 2, "farthest").tolist() in ([0, 2], [1, 2])
    True
    """
    rng = np.random.default_rng(random_state)
    if how == "uniform":
        return np.sort(rng.choice(len(z), n, replace=False))
    unit = z / np.linalg.norm(z, axis=1, keepdims=True).clip(1e-12)
    if how == "farthest":
        chosen = [int(rng.integers(len(z)))]
        nearest = unit @ unit[chosen[0]]
        while len(chosen) < n:
            nearest[chosen] = np.inf
            chosen.append(int(nearest.argmin()))
            nearest = np.maximum(nearest, unit @ unit[chosen[-1]])
        return np.sort(np.array(chosen))
    if how != "kmeans":
        raise ValueError(f"anchors must be uniform, kmeans, farthest or row numbers, got {how!r}")
    from sklearn.cluster import KMeans

    centres = KMeans(n, n_init=1, random_state=random_state).fit(unit).cluster_centers_
    free, found = np.ones(len(z), dtype=bool), []
    for order in np.argsort(-(centres @ unit.T), axis=1):  # of a centre, its rows by likeness
        found.append(int(order[free[order]][0]))
        free[found[-1]] = False
    return np.sort(np.array(found))
