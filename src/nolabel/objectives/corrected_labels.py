"""What a loss on corrected labels is made of: sharper guesses, weights, blended targets, even use of the classes.

As in PLS: Albert, Arazo, Krishna, O'Connor & McGuinness, WACV 2023, arXiv:2210.04578.
"""

import math

from torch import Tensor
from torch.nn.functional import log_softmax


def sharpened(probabilities: Tensor, power: float) -> Tensor:
    """Distributions (n, k) to a power, summing to 1 again: the probable becomes more so.

    >>> import torch
    >>> sharpened(torch.tensor([[0.8, 0.2]]), 2.0)
    tensor([[0.9412, 0.0588]])
    """
    return (power * probabilities.clamp(min=1e-12).log()).softmax(dim=1)


def blended_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor, partner: Tensor, share: float) -> Tensor:
    """Cross-entropy of blended images: the weighted mean for their own targets, and that for their partners' ones.

    Parameters
    ----------
    logits, targets : (n, k) of the blended images, and distributions of the unblended ones
    weights : (n,) at least 0; each part is divided by the sum of its weights
    partner, share : as in `nolabel.views.mixing.Mixed`

    >>> import torch
    >>> logits = torch.tensor([[0.0, 0.0]])
    >>> round(float(blended_cross_entropy(logits, torch.eye(2)[:1], torch.ones(1), torch.tensor([0]), 0.7)), 4)  # log 2
    0.6931
    """
    log_p = log_softmax(logits, dim=1)

    def part(rows: Tensor | slice) -> Tensor:
        w = weights[rows]
        return -((targets[rows] * log_p).sum(dim=1) * w).sum() / w.sum().clamp(min=1e-12)

    return share * part(slice(None)) + (1 - share) * part(partner)


def unbalance(logits: Tensor) -> Tensor:
    """Divergence of the batch's mean prediction from even use of all classes, ``KL(uniform || mean softmax)``.

    >>> import torch
    >>> unbalance(torch.tensor([[9.0, 0.0], [0.0, 9.0]])).abs().round(decimals=4)
    tensor(0.)
    """
    mean = logits.softmax(dim=1).mean(dim=0)
    return -(mean.clamp(min=1e-12).log() + math.log(len(mean))).mean()
