"""Contrastive losses on cosine similarities: NT-Xent, InfoNCE, the loss without temperature, and their hard forms.

A hard form keeps only the nearest negatives of each anchor (Wang and Liu, CVPR 2021, arXiv:2012.09740). With few of them
even a high temperature, or none at all, pushes neighbours rather than everything.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import softplus
from torch.utils.checkpoint import checkpoint

from nolabel.objectives.sphere import unit_rows
from nolabel.ops.info_nce import info_nce_losses, pairwise_logsumexp

_CHUNK = 2**22  # similarities in memory at a time where the hardest are looked for


def nt_xent(
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    *,
    temperature: float | Tensor = 0.1,
    negatives: Literal["all", "same_view"] = "all",
    hard_fraction: float | None = None,
) -> Float[Tensor, ""]:
    """Return SimCLR's loss: among 2n views, each must single out the other view of its own image.

    The mean over all 2n views of ``-log softmax(cosine / temperature)`` at the other view, a view itself left out. Rows
    are scaled to unit length here; memory stays linear in n.

    Parameters
    ----------
    z1, z2 : (n >= 2, d) projections of two views of the same n images.
    temperature : above 0; a float or a learnable scalar tensor.
    negatives : "all" views of other images, or only those in the anchor's own matrix, "same_view": where the two
        matrices differ in style, style then cannot tell the positive from the negatives.
    hard_fraction : in (0, 1], the share of an anchor's negatives that count: the nearest, rounded up. None: all.

    Raises
    ------
    ValueError
        Shapes that differ or are not (n >= 2, d), temperature not above 0, unknown negatives, a fraction out of range.

    References
    ----------
    Chen et al. 2020, arXiv:2002.05709; Wang and Liu 2021, arXiv:2012.09740 (hard).

    Examples
    --------
    >>> import torch
    >>> z = torch.eye(2)
    >>> round(float(nt_xent(z, z, temperature=1.0)), 4)  # log(e + 2) - 1
    0.5514
    >>> round(float(nt_xent(z, z, temperature=1.0, negatives="same_view")), 4)  # log(e + 1) - 1
    0.3133
    """
    if z1.shape != z2.shape:
        raise ValueError(f"z1 and z2 must have one shape (n, d), got {tuple(z1.shape)} and {tuple(z2.shape)}")
    if negatives not in ("all", "same_view"):
        raise ValueError(f"negatives must be 'all' or 'same_view', got {negatives!r}")
    first, second = unit_rows("z1", z1), unit_rows("z2", z2)
    if negatives == "all" and hard_fraction is None:
        return info_nce_losses(torch.cat([first, second]), temperature=temperature).mean()

    _check_temperature(temperature)
    n = len(first)
    if n < 2:
        raise ValueError(f"z1 and z2 must be views of at least 2 items, got {n}")
    first, second = first * temperature**-0.5, second * temperature**-0.5
    own = torch.arange(n, device=first.device).unsqueeze(1)  # (n, 1)
    if hard_fraction is None:
        total = torch.cat([pairwise_logsumexp(first), pairwise_logsumexp(second)])
    elif negatives == "same_view":
        total = torch.cat([_over_hardest(_logsumexp, z, z, own, hard_fraction) for z in (first, second)])
    else:
        both = torch.cat([first, second])
        views_of_own = torch.cat([own, own + n], dim=1).repeat(2, 1)  # (2n, 2)
        total = _over_hardest(_logsumexp, both, both, views_of_own, hard_fraction)
    positive = (first * second).sum(dim=1)
    return softplus(total - positive.repeat(2)).mean()  # log(e^positive + sum of negatives) - positive


def info_nce(
    queries: Float[Tensor, "n d"],
    keys: Float[Tensor, "n d"],
    *,
    temperature: float | Tensor = 0.1,
    negatives: Float[Tensor, "m d"] | None = None,
    symmetric: bool = False,
    hard_fraction: float | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Tensor:
    """Return the InfoNCE loss: each query must single out its own key among the others.

    The mean over queries of ``-log softmax(cosine / temperature)`` at their key. Rows are scaled to unit length here;
    memory stays linear in n and m.

    Parameters
    ----------
    queries, keys : (n, d); row i of one belongs to row i of the other.
    temperature : above 0; a float or a learnable scalar tensor.
    negatives : (m, d) a queue of other keys: candidates are then the own key and these (MoCo), not the batch's keys.
    symmetric : average with the loss of keys singling out their queries, as for image-text pairs.
    hard_fraction : in (0, 1], the share of a query's negatives that count: the nearest, rounded up. None: all. With a
        few hundred negatives out of the batch itself and a temperature above about 0.3, a small share makes the
        vectors collapse: take `negatives` from a memory bank or a queue.
    reduction : "mean" or "sum" over the queries, or "none": (n,) losses; with `symmetric` (2n,), those of the keys last.

    Raises
    ------
    ValueError
        Shapes that do not match, a single pair without negatives, temperature not above 0, symmetric with negatives,
        a fraction out of range, an unknown reduction.

    References
    ----------
    van den Oord et al. 2018, arXiv:1807.03748; He et al. 2020, arXiv:1911.05722 (queue); Zhang et al. 2020,
    arXiv:2010.00747, and Radford et al. 2021, arXiv:2103.00020 (symmetric); Wang and Liu 2021, arXiv:2012.09740 (hard).

    Examples
    --------
    >>> import torch
    >>> z = torch.eye(3)
    >>> round(float(info_nce(z, z, temperature=1.0, symmetric=True)), 4)  # log(e + 2) - 1
    0.5514
    >>> round(float(info_nce(z, z, temperature=1.0, hard_fraction=0.5)), 4)  # one negative of two: log(e + 1) - 1
    0.3133
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    queries, keys = unit_rows("queries", queries), unit_rows("keys", keys)
    others = None if negatives is None else unit_rows("negatives", negatives)
    if hard_fraction is None:
        losses = info_nce_losses(queries, keys, temperature=temperature, negatives=others, symmetric=symmetric)
    else:
        losses = _hard_info_nce(queries, keys, others, temperature, symmetric, hard_fraction)
    return losses if reduction == "none" else getattr(losses, reduction)()


def _hard_info_nce(
    queries: Tensor,
    keys: Tensor,
    others: Tensor | None,
    temperature: float | Tensor,
    symmetric: bool,
    hard_fraction: float,
) -> Float[Tensor, " anchors"]:
    """The losses of `info_nce` over the hardest negatives; rows of unit length."""
    _check_temperature(temperature)
    if symmetric and others is not None:
        raise ValueError("symmetric must be False with negatives: the keys of a queue have no queries")
    losses = []
    for a, b in ((queries, keys), (keys, queries))[: 1 + symmetric]:
        candidates, own = _candidates(a, b, others)
        a = a / temperature
        total = _over_hardest(_logsumexp, a, candidates, own, hard_fraction)
        losses.append(softplus(total - (a * b).sum(dim=1)))
    return torch.cat(losses)


def simple_contrastive(
    queries: Float[Tensor, "n d"],
    keys: Float[Tensor, "n d"],
    *,
    weight: float = 1.0,
    hard_fraction: float | None = None,
    negatives: Float[Tensor, "m d"] | None = None,
) -> Float[Tensor, ""]:
    """Return the contrastive loss without temperature: attract the own key, repel the mean of the negatives.

    The mean over queries of ``-cosine to the own key + weight * mean cosine to the negatives``: up to a constant and a
    factor, InfoNCE at an infinite temperature. All negatives are repelled alike, near or far, which separates badly;
    with a small `hard_fraction` only the nearest are, which does not.

    Parameters
    ----------
    queries, keys : (n, d); row i of one belongs to row i of the other. Rows are scaled to unit length here.
    weight : above 0; the paper's factor on the sum of the negatives is this over their number.
    hard_fraction : in (0, 1], the share of a query's negatives that count: the nearest, rounded up. None: all.
    negatives : (m, d) the keys to repel, such as a memory bank; None: the other rows of `keys`.

    Raises
    ------
    ValueError
        Shapes that do not match, a single pair without negatives, weight not above 0, a fraction out of range.

    References
    ----------
    Wang and Liu 2021, arXiv:2012.09740.

    Examples
    --------
    >>> import torch
    >>> z = torch.eye(3)
    >>> float(simple_contrastive(z, z)), float(simple_contrastive(z, z, negatives=z, hard_fraction=0.3))
    (-1.0, 0.0)
    """
    if not weight > 0:
        raise ValueError(f"weight must be above 0, got {weight}")
    queries, keys = unit_rows("queries", queries), unit_rows("keys", keys)
    others = None if negatives is None else unit_rows("negatives", negatives)
    candidates, own = _candidates(queries, keys, others)
    positive = (queries * keys).sum(dim=1)
    if hard_fraction is not None:
        repelled = _over_hardest(_mean, queries, candidates, own, hard_fraction)
    elif others is None:
        repelled = ((queries * keys.sum(dim=0)).sum(dim=1) - positive) / (len(keys) - 1)
    else:
        repelled = (queries * others.mean(dim=0)).sum(dim=1)
    return (weight * repelled - positive).mean()


def _check_temperature(temperature: float | Tensor) -> None:
    if isinstance(temperature, Tensor) and temperature.numel() != 1:
        raise ValueError(f"temperature must be a number or a scalar tensor, got shape {tuple(temperature.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {float(temperature)}")


def _candidates(queries: Tensor, keys: Tensor, negatives: Tensor | None) -> tuple[Tensor, Tensor]:
    """The vectors among which a query's negatives lie, and per query the rows of these that are none: (n, 0 or 1)."""
    n, d = queries.shape
    if keys.shape != queries.shape:
        raise ValueError(f"keys must have the shape of queries {(n, d)}, got {tuple(keys.shape)}")
    own = torch.arange(n, device=queries.device).unsqueeze(1)
    if negatives is None:
        if n < 2:
            raise ValueError(f"queries must have at least 2 rows to have negatives, got {n}")
        return keys, own
    if negatives.shape[1] != d:
        raise ValueError(f"negatives must be (m >= 1, {d}), got {tuple(negatives.shape)}")
    return negatives, own[:, :0]


def _logsumexp(hardest: Tensor) -> Tensor:
    return hardest.logsumexp(dim=1)


def _mean(hardest: Tensor) -> Tensor:
    return hardest.mean(dim=1)


def _over_hardest(
    reduce: Callable[[Tensor], Tensor],
    anchors: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    left_out: Int64[Tensor, "n e"],
    fraction: float,
) -> Float[Tensor, " n"]:
    """Reduce each anchor's highest inner products with the candidates that are not left out.

    Exactly ``ceil(fraction * (m - e))`` are kept, whatever ties there are. A chunk of anchors at a time, computed again in
    the backward pass.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"hard_fraction must lie in (0, 1], got {fraction}")
    share = fraction * (len(candidates) - left_out.shape[1])
    kept = max(1, math.ceil(round(share, 9)))  # 0.07 * 100 is a little above 7

    def reduced(chunk: Tensor, candidates: Tensor, columns: Tensor) -> Tensor:
        with torch.autocast(chunk.device.type, enabled=False):
            similarity = (chunk @ candidates.T).scatter(1, columns, -torch.inf)
            return reduce(similarity.topk(kept, dim=1, sorted=False).values)

    rows = max(1, _CHUNK // len(candidates))
    parts = [
        checkpoint(reduced, chunk, candidates, columns, use_reentrant=False, preserve_rng_state=False)
        for chunk, columns in zip(anchors.split(rows), left_out.split(rows))
    ]
    return torch.cat(parts)
