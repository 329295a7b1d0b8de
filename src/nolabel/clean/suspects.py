"""The samples to look at: ranked, with what their label should be, and of which kind they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Above this confidence in the suggested label, a suspect is held to be of that class.
SURE = 0.5


@dataclass(frozen=True)
class Suspect:
    """A sample whose label is probably wrong.

    Attributes
    ----------
    row : of the table that was given to `fit`
    given, suggested : label as given, and the most probable one
    kind : ``wrong label`` or ``stranger``, which belongs to no class
    loss : cross-entropy of the given label, by which suspects are ranked
    loss_probability, linear_probability : of noise, by the two detectors
    confidence : that the suggestion is right
    """

    row: int
    given: Any
    suggested: Any
    kind: str
    loss: float
    loss_probability: float
    linear_probability: float
    confidence: float


def suspects_among(
    names: Sequence[Any],
    *,
    rows: np.ndarray,
    given: np.ndarray,
    suggested: np.ndarray,
    noisy: np.ndarray,
    losses: np.ndarray,
    noise_scores: np.ndarray,
    confidence: np.ndarray,
) -> list[Suspect]:
    """Suspects by falling loss: the noisy samples without those whose suggestion is the given label and is sure.

    With a confidence above one half a suspect is a ``wrong label``, else a ``stranger``. A network is certain of a wrongly
    labelled image, and stays so under another view, by what it learned from the rest of its true class; of an image of no class
    it has nothing to be certain of (the pseudo-loss of Albert et al., WACV 2023, arXiv:2210.04578). Images of a class that
    has not been learned yet look like strangers too.

    Parameters
    ----------
    names : of the classes
    rows, given, suggested : (n,) row in the user's table, and numbers of classes
    noisy, losses, confidence : (n,)
    noise_scores : (n, 2) probabilities of the linear and of the small-loss detector
    """
    sure = confidence > SURE
    chosen = np.flatnonzero(noisy & ~(sure & (suggested == given)))
    return [
        Suspect(
            int(rows[at]),
            names[given[at]],
            names[suggested[at]],
            "wrong label" if sure[at] else "stranger",
            float(losses[at]),
            float(noise_scores[at, 1]),
            float(noise_scores[at, 0]),
            float(confidence[at]),
        )
        for at in chosen[np.argsort(-losses[chosen], kind="stable")].tolist()
    ]
