"""Sampled softmax: cross-entropy over a large vocabulary that looks at a few words only.

A set S of words is drawn, word w with probability pi_w of being in it. For a target t with logits l,

    loss = log sum_{w in S or w = t} exp(l_w - log pi_w)  -  (l_t - log pi_t).

Without the correction by log pi frequent words, which are drawn most, are pushed down most. The words of S are all
different here: a target that was drawn by accident is then already in the sum, and must not be counted twice.

Jean, Cho, Memisevic & Bengio, "On using very large target vocabulary for neural machine translation", ACL 2015,
arXiv:1412.2007.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def inclusion_probabilities(probabilities: Float[Tensor, " v"], size: int) -> Float[Tensor, " v"]:
    """Probability of each word to be among `size` different words drawn in proportion to `probabilities`.

    ``min(1, c q_w)`` with the c that makes them sum to `size`; all 1 where `size` is not below v.

    Raises
    ------
    ValueError
        Probabilities that are not positive, or a size below 1.

    >>> inclusion_probabilities(torch.tensor([0.7, 0.2, 0.1]), 2)
    tensor([1.0000, 0.6667, 0.3333])
    """
    if probabilities.ndim != 1 or not (probabilities > 0).all():
        raise ValueError(f"probabilities must be positive numbers (v,), got shape {tuple(probabilities.shape)}")
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if size >= len(probabilities):
        return torch.ones_like(probabilities)
    falling, order = probabilities.double().sort(descending=True)
    rest = falling.flip(0).cumsum(0).flip(0)  # of this word and all after it
    certain = torch.arange(len(falling), device=falling.device)
    scale = (size - certain) / rest  # c if the words before this one are drawn for sure
    first = int((scale * falling < 1).nonzero()[0])
    found = torch.ones_like(falling)
    found[first:] = scale[first] * falling[first:]
    return torch.empty_like(found).scatter_(0, order, found).to(probabilities.dtype)


def draw_negatives(inclusion: Float[Tensor, " v"], generator: torch.Generator | None = None) -> Int[Tensor, " s"]:
    """Different words, each with its own probability: systematic sampling, so their number is always the same.

    Points one apart, with a random beginning, fall on the cumulated probabilities.

    Parameters
    ----------
    inclusion : float64 (v,) in (0, 1], such as from `inclusion_probabilities`; their sum, a whole number, is how many are drawn.
    generator : on the device of `inclusion`.

    >>> draw_negatives(torch.tensor([1.0, 0.5, 0.5]).double(), torch.Generator().manual_seed(0)).tolist()[0]
    0
    """
    if (inclusion >= 1).all():
        return torch.arange(len(inclusion), device=inclusion.device)
    edges = inclusion.double().cumsum(0)
    size = round(float(edges[-1]))
    beginning = torch.rand((), generator=generator, device=edges.device, dtype=torch.float64)
    points = beginning + torch.arange(size, device=edges.device)
    return torch.searchsorted(edges, points, right=True).clamp_(max=len(edges) - 1)


def sampled_softmax(
    true_logits: Float[Tensor, " n"],
    negative_logits: Float[Tensor, "m s"],
    targets: Int[Tensor, " n"],
    negatives: Int[Tensor, " s"],
    log_inclusion: Float[Tensor, " v"],
    *,
    rows: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of targets against shared negatives, corrected for how often each is drawn.

    Several targets may share one hidden vector, such as the words of one document; its negative logits are then
    computed once.

    Parameters
    ----------
    true_logits : (n,) of each target.
    negative_logits : (m, s) of the negatives for each hidden vector.
    targets : (n,) ids in [0, v).
    negatives : (s,) different ids, such as from `draw_negatives`.
    log_inclusion : (v,) log of the probability of each id to be among them; 0 everywhere with all ids as negatives is the
        full softmax.
    rows : (n,) the hidden vector of each target, in [0, m); target i has vector i by default.

    Raises
    ------
    ValueError
        Shapes that do not fit.

    >>> full = sampled_softmax(torch.zeros(1), torch.zeros(1, 4), torch.tensor([2]), torch.arange(4), torch.zeros(4))
    >>> round(float(full), 4) == round(math.log(4), 4)
    True
    """
    n, s = len(targets), len(negatives)
    if true_logits.shape != (n,) or negative_logits.ndim != 2 or negative_logits.shape[1] != s:
        came = f"{tuple(true_logits.shape)} and {tuple(negative_logits.shape)}"
        raise ValueError(f"logits must be ({n},) and (m, {s}) for {n} targets and {s} negatives, got {came}")
    if len(negative_logits) != n if rows is None else rows.shape != (n,):
        raise ValueError(f"rows must name the hidden vector of each of {n} targets, got {_shape(rows)}")
    true = true_logits.float() - log_inclusion[targets]
    others = (negative_logits.float() - log_inclusion[negatives]).logsumexp(dim=1)  # (m,)
    if rows is not None:
        others = others.index_select(0, rows)
    drawn = torch.zeros(len(log_inclusion), dtype=torch.bool, device=targets.device).index_fill_(0, negatives, True)
    own = true.masked_fill(drawn[targets], -math.inf)  # accidental hits are in the sum already
    return (torch.logaddexp(others, own) - true).mean()


def _shape(rows: Tensor | None) -> str:
    return "none" if rows is None else str(tuple(rows.shape))
