"""Views of rows of features: complementary halves of the features hidden, and values of a feature dropped.

Two views of a row hide complementary sets of its k features: what the first does not show, the second does. Random feature
masking (RFM) splits at random. Correlated feature masking (CFM) hides a feature together with those that share most
information with it, so that no view can guess what the other hides from a twin that it shows:

    seed f uniform;  hidden = {f} and the n features of highest MI(f, .),  n = k / 2.

The set is drawn once a batch and holds for all its rows.

Yao, Yi, Cheng, Yu, Chen, Menon, Hong, Chi, Tjoa, Kang & Ettinger, "Self-supervised learning for large-scale item
recommendations", CIKM 2021, arXiv:2007.12865.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def random_mask(features: int, generator: torch.Generator) -> Bool[Tensor, " k"]:
    """Which of k features the first of two views hides: half of them (rounded down), at random.

    >>> int(random_mask(5, torch.Generator().manual_seed(0)).sum())
    2
    """
    if features < 2:
        raise ValueError(f"two views that hide complementary features need at least 2, got {features}")
    order = torch.randperm(features, generator=generator, device=generator.device)
    hidden = torch.zeros(features, dtype=torch.bool, device=generator.device)
    hidden[order[: features // 2]] = True
    return hidden


def correlated_mask(
    information: Float[Tensor, "k k"], generator: torch.Generator, *, companions: int | None = None
) -> Bool[Tensor, " k"]:
    """Which of k features the first of two views hides: one and those that share most information with it.

    A feature whose row of `information` is not a number belongs to no group, such as an id that determines everything
    else: it is hidden or not at random. Each view shows at least one feature.

    Parameters
    ----------
    information : (k, k) such as from `nolabel.ops.mutual_information.adjusted_information`, k at least 3
    companions : features hidden with the seed; half of those that can be grouped by default

    Raises
    ------
    ValueError
        Fewer than 3 features, or `companions` below 1.

    >>> shared = torch.tensor([[1.0, 0.9, 0.1, 0.0], [0.9, 1.0, 0.0, 0.1], [0.1, 0.0, 1.0, 0.8], [0.0, 0.1, 0.8, 1.0]])
    >>> hidden = correlated_mask(shared, torch.Generator().manual_seed(0), companions=1)
    >>> hidden.tolist() in ([True, True, False, False], [False, False, True, True])
    True
    """
    k = len(information)
    if information.shape != (k, k) or k < 3:
        raise ValueError(
            f"information must be (k, k) of at least 3 features, got {tuple(information.shape)}: with fewer, "
            "one view would hide everything or nothing"
        )
    if companions is not None and companions < 1:
        raise ValueError(f"companions must be at least 1, got {companions}")
    device = generator.device
    information = information.to(device)
    grouped = (~information.diagonal().isnan()).nonzero()[:, 0]
    hidden = torch.rand(k, generator=generator, device=device) < 0.5
    if len(grouped):
        size = min(1 + (len(grouped) // 2 if companions is None else companions), max(len(grouped) - 1, 1))
        seed = int(torch.randint(len(grouped), (), generator=generator, device=device))
        shared = information[grouped[seed], grouped].clone()
        shared[seed] = torch.inf
        hidden[grouped] = False
        hidden[grouped[shared.argsort(descending=True, stable=True)[:size]]] = True
    if hidden.all() or not hidden.any():
        flipped = int(torch.randint(k, (), generator=generator, device=device))
        hidden[flipped] = ~hidden[flipped]
    return hidden


def drop_values(
    keys: Int64[Tensor, " v"], lengths: Int64[Tensor, " n"], p: float, generator: torch.Generator
) -> dict[str, Any]:
    """Drop each value of a feature of several values with probability `p`.

    Parameters
    ----------
    keys : the values of all rows, one row after the other
    lengths : how many belong to each row

    Returns
    -------
    ``{"keys": ..., "lengths": ...}`` of the values that are left; a row may lose all of them

    >>> left = drop_values(torch.arange(6), torch.tensor([4, 0, 2]), 0.0, torch.Generator())
    >>> left["lengths"].tolist()
    [4, 0, 2]
    """
    if not 0 <= p < 1:
        raise ValueError(f"p must lie in [0, 1), got {p}")
    kept = torch.rand(keys.shape, generator=generator, device=keys.device) >= p
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=keys.device), lengths)
    return {"keys": keys[kept], "lengths": torch.zeros_like(lengths).index_add_(0, owner, kept.long())}
