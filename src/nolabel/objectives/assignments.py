"""Agreement on prototypes: views predict how a target network assigns another view of their image."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import log_softmax

from nolabel.ops.sinkhorn import sinkhorn


@torch.no_grad()
def sharpened(scores: Float[Tensor, "n k"], *, temperature: float = 0.025, iterations: int = 3) -> Float[Tensor, "n k"]:
    """Return assignments of targets to prototypes: a softmax at a low temperature, spread evenly over the prototypes.

    No gradient flows through them.

    Parameters
    ----------
    scores : (n, k) similarities of n targets to k prototypes.
    temperature : above 0; below that of the predictions, which so become more certain.
    iterations : rounds of `sinkhorn` that even the use of prototypes out; 0 leaves the softmax as it is.

    Raises
    ------
    ValueError
        Scores that are not finite (n, k >= 2), temperature not above 0, iterations below 0.

    References
    ----------
    Assran et al., ECCV 2022, arXiv:2204.07141.

    >>> sharpened(torch.tensor([[0.9, 0.8], [0.9, 0.1]]), iterations=0).argmax(dim=1).tolist()
    [0, 0]
    >>> sharpened(torch.tensor([[0.9, 0.8], [0.9, 0.1]])).argmax(dim=1).tolist()
    [1, 0]
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if iterations < 0:
        raise ValueError(f"iterations must be at least 0, got {iterations}")
    if scores.ndim != 2 or len(scores) < 1 or scores.shape[1] < 2:
        raise ValueError(f"scores must be (n >= 1, k >= 2 prototypes), got shape {tuple(scores.shape)}")
    if not torch.isfinite(scores).all():
        raise ValueError("non-finite prototype scores, expected finite numbers")
    logits = log_softmax(scores.float() / temperature, dim=1)
    return sinkhorn(logits, epsilon=1.0, iterations=iterations) if iterations else logits.exp()


def assignment_agreement(
    anchors: Sequence[Float[Tensor, "b k"]],
    targets: Sequence[Float[Tensor, "b k"]],
    *,
    temperature: float = 0.1,
    target_temperature: float = 0.025,
    iterations: int = 3,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the two terms of masked siamese networks: agreement with the targets, and how unevenly prototypes are used.

    With p = softmax(scores / temperature) of the anchors and q the `sharpened` assignments of the targets, the first is the
    mean cross-entropy ``-sum_k q_k log p_k`` over the pairs of a target i and an anchor other than i; the second is
    ``log K - H(mean p)``, H the entropy and the mean that over all anchors: 0 when all prototypes are used alike.

    Parameters
    ----------
    anchors : one (b, k) matrix a view: similarities of its projections to k prototypes. The first ``len(targets)`` of them
        are the views of which `targets` are; they do not predict themselves.
    targets : (b, k) each, from the target network; they receive no gradient.
    temperature, target_temperature : above 0.
    iterations : of `sinkhorn` on each target; 0 for none.

    Raises
    ------
    ValueError
        Fewer than 2 anchors, more targets than anchors or none, shapes that differ, parameters out of range.

    References
    ----------
    Assran et al., ECCV 2022, arXiv:2204.07141.

    Examples
    --------
    >>> views = [torch.eye(2), torch.eye(2)]
    >>> agreement, unevenness = assignment_agreement(views, views, temperature=1.0, target_temperature=0.01)
    >>> round(float(agreement), 4), round(float(unevenness), 4)  # log(e + 1) - 1
    (0.3133, 0.0)
    """
    if len(anchors) < 2:
        raise ValueError(f"anchors must hold at least 2 views, got {len(anchors)}")
    if not 1 <= len(targets) <= len(anchors):
        raise ValueError(f"targets must be from 1 to {len(anchors)} of the views, got {len(targets)}")
    shapes = list(dict.fromkeys(tuple(each.shape) for each in (*anchors, *targets)))
    if len(shapes) > 1:
        raise ValueError(f"anchors and targets must share one shape (b, k), got {shapes}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    predictions = [log_softmax(scores.float() / temperature, dim=1) for scores in anchors]
    losses = []
    for i, scores in enumerate(targets):  # each target by itself: its views may share a style
        assigned = sharpened(scores.detach(), temperature=target_temperature, iterations=iterations)
        losses += [-(assigned * log_p).sum(dim=1).mean() for v, log_p in enumerate(predictions) if v != i]
    used = torch.cat(predictions).exp().mean(dim=0)  # (k,)
    unevenness = (used * (used * len(used)).clamp(min=1e-12).log()).sum()
    return torch.stack(losses).mean(), unevenness
