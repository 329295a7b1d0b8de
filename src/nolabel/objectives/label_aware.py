"""The contrastive loss that knows labels: every item of an anchor's class is a positive of it."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nolabel.objectives.sphere import unit_rows


def label_contrast(
    anchors: Float[Tensor, "n d"],
    candidates: Float[Tensor, "m d"],
    anchor_labels: Int64[Tensor, " n"],
    candidate_labels: Int64[Tensor, " m"],
    *,
    temperature: float = 0.2,
) -> Float[Tensor, ""]:
    """Return the mean over anchors of ``-mean_j log softmax(cosine / temperature)`` at the candidates j of their class.

    The softmax is over all candidates. With labels that all differ and candidates in the order of the anchors, it is
    `info_nce`. An anchor without a candidate of its class has no say. The matrix of all similarities is held in memory.

    Parameters
    ----------
    anchors, candidates : (n, d) and (m, d), such as two views of one batch; rows are scaled to unit length here.
    anchor_labels, candidate_labels : (n,) and (m,) numbers of classes.
    temperature : above 0.

    Raises
    ------
    ValueError
        Shapes that do not match, temperature not above 0.

    References
    ----------
    Khosla et al., "Supervised contrastive learning", NeurIPS 2020, arXiv:2004.11362 (the mean outside the logarithm).

    Examples
    --------
    >>> z = torch.eye(2)
    >>> round(float(label_contrast(z, z, torch.tensor([0, 1]), torch.tensor([0, 1]), temperature=1.0)), 4)  # log(e + 1) - 1
    0.3133
    >>> round(float(label_contrast(z, z, torch.tensor([0, 0]), torch.tensor([0, 0]), temperature=1.0)), 4)
    0.8133
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    first, second = unit_rows("anchors", anchors), unit_rows("candidates", candidates)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"anchors and candidates must have one width, got {first.shape[1]} and {second.shape[1]}")
    for name, labels, rows in (("anchor_labels", anchor_labels, first), ("candidate_labels", candidate_labels, second)):
        if labels.shape != (len(rows),):
            raise ValueError(f"{name} must be ({len(rows)},), one a row, got {tuple(labels.shape)}")
    with torch.autocast(first.device.type, enabled=False):
        log_p = (first @ second.T / temperature).log_softmax(dim=1)  # (n, m)
    positive = anchor_labels.unsqueeze(1) == candidate_labels.unsqueeze(0)
    count = positive.sum(dim=1)
    losses = -(log_p * positive).sum(dim=1) / count.clamp(min=1)
    return losses.sum() / (count > 0).sum().clamp(min=1)
