"""Criteria by which one adapted classifier is preferred to another: higher is better for all of them.

All but one look at outputs for unlabelled images of the target. `source_accuracy` needs labelled images of the source, kept
out of training; it says how good a model was there, and little of the target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import entr, softmax

from nolabel.assess.inputs import as_labels
from nolabel.assess.transfer import as_probabilities, mutual_information, transfer_score

#: Rows whose similarities to all others are held at once.
TILE = 1024


@dataclass(frozen=True)
class Outputs:
    """What one candidate makes of images.

    Attributes
    ----------
    features, logits : (n, d) and (n, k), of target images
    head_weight : (k, d) weights of the last layer
    source_logits, source_codes : (m, k) and (m,), of source images kept out of training and their class numbers
    """

    features: np.ndarray
    logits: np.ndarray
    head_weight: np.ndarray
    source_logits: np.ndarray | None = None
    source_codes: np.ndarray | None = None


def negative_entropy(probabilities: Any) -> float:
    """Minus the mean entropy, in nats, of predicted distributions (n, k): how sure a model is.

    Best, 0, for a model that calls everything one class.

    >>> round(negative_entropy([[0.5, 0.5], [1.0, 0.0]]), 4)
    -0.3466
    """
    return -float(entr(as_probabilities(None, probabilities)).sum(axis=1).mean())


def batch_nuclear_norm(probabilities: Any) -> float:
    """Nuclear norm of predicted distributions (n, k) over its largest possible value: in (0, 1].

    1 where every prediction is sure and all classes are predicted equally often.

    References
    ----------
    Cui et al., "Towards discriminability and diversity: batch nuclear-norm maximization", CVPR 2020, arXiv:2003.12237.

    >>> batch_nuclear_norm([[1.0, 0.0], [0.0, 1.0]]), round(batch_nuclear_norm([[1.0, 0.0], [1.0, 0.0]]), 4)
    (1.0, 0.7071)
    """
    p = as_probabilities(None, probabilities)
    return float(np.linalg.norm(p, "nuc") / np.sqrt(len(p) * min(p.shape)))


def soft_neighbourhood_density(probabilities: Any, *, temperature: float = 0.05) -> float:
    """Mean entropy, in nats, of how each prediction spreads over its neighbours: high where many are like it.

    With cosines s_ij of predicted distributions, ``mean_i entropy(softmax_{j != i}(s_ij / temperature))``; at most
    log (n - 1), and so largest of all for a model that calls everything one class.

    Parameters
    ----------
    probabilities : (n, k), at least 2 rows
    temperature : above 0; 0.05 in the paper

    References
    ----------
    Saito et al., "Tune it the right way: unsupervised validation of domain adaptation via soft neighborhood density", ICCV
    2021, arXiv:2108.10860.

    >>> round(soft_neighbourhood_density([[1.0, 0.0]] * 5), 4)  # log 4
    1.3863
    """
    p = as_probabilities(None, probabilities)
    if len(p) < 2:
        raise ValueError(f"probabilities: at least 2 rows were expected, got {len(p)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    unit = p / np.linalg.norm(p, axis=1, keepdims=True)
    total = 0.0
    for start in range(0, len(unit), TILE):
        rows = np.arange(start, min(start + TILE, len(unit)))
        cosines = unit[rows] @ unit.T / temperature  # (tile, n)
        cosines[rows - start, rows] = -np.inf  # not its own neighbour
        total += float(entr(softmax(cosines, axis=1)).sum())
    return total / len(unit)


def source_accuracy(logits: Any, codes: Any) -> float:
    """Share of source images, kept out of training, whose largest logit (m, k) is that of their class (m,).

    >>> source_accuracy([[2.0, 1.0], [0.0, 1.0]], [0, 0])
    0.5
    """
    told = as_probabilities(logits, None).argmax(axis=1)
    return float(np.mean(told == as_labels(codes, len(told), "codes")))


def _probabilities(outputs: Outputs) -> np.ndarray:
    return as_probabilities(outputs.logits, None)


def _transfer(outputs: Outputs) -> float:
    return transfer_score(outputs.features, outputs.logits, head_weight=outputs.head_weight).total


def _source(outputs: Outputs) -> float:
    if outputs.source_logits is None or outputs.source_codes is None:
        raise ValueError("source_accuracy: source_logits and source_codes were expected, got None")
    return source_accuracy(outputs.source_logits, outputs.source_codes)


CRITERIA: dict[str, Callable[[Outputs], float]] = {
    "transfer_score": _transfer,
    "mutual_information": lambda outputs: mutual_information(_probabilities(outputs)),
    "negative_entropy": lambda outputs: negative_entropy(_probabilities(outputs)),
    "soft_neighbourhood_density": lambda outputs: soft_neighbourhood_density(_probabilities(outputs)),
    "batch_nuclear_norm": lambda outputs: batch_nuclear_norm(_probabilities(outputs)),
    "source_accuracy": _source,
}
