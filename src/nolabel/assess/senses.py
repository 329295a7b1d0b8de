"""Whether the senses that a model gives to words are senses, without labels."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

#: Mean share of the less used senses, and cosine of a word's senses, at which they are no senses.
UNUSED, ALIKE = 0.02, 0.99


@dataclass(frozen=True)
class SenseReport:
    """What `sense_report` found.

    Attributes
    ----------
    words, senses : how many words there are, and senses a word at most
    active : mean number of senses a word that are not pruned
    least_prior : mean over words of the share of their least used sense, before pruning
    cosine : mean over words of the largest cosine between two of their sense vectors
    certainty : mean over occurrences of the probability of their likeliest sense
    collapsed : whether the least used senses are hardly used at all, or a word's senses all but equal
    """

    words: int
    senses: int
    active: float
    least_prior: float
    cosine: float
    certainty: float
    collapsed: bool

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{'words':18}{self.words} with at most {self.senses} senses",
                f"{'active senses':18}{self.active:.2f}",
                f"{'least prior':18}{self.least_prior:.3f}",
                f"{'largest cosine':18}{self.cosine:.3f}",
                f"{'certainty':18}{self.certainty:.3f}",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def sense_report(
    vectors: np.ndarray, priors: np.ndarray, *, prune: float = 0.05, certainty: float = 1.0
) -> SenseReport:
    """Say whether several vectors a word are in use, and different.

    Parameters
    ----------
    vectors : (words, senses, d).
    priors : (words, senses) share of each sense; rows sum to 1.
    prune : senses with a smaller share do not count as active.
    certainty : mean probability of the likeliest sense, where it is known.

    Raises
    ------
    ValueError
        Shapes that do not fit.

    >>> sense_report(np.array([[[1.0, 0.0], [0.0, 1.0]]]), np.array([[0.7, 0.3]])).active
    2.0
    """
    vectors, priors = np.asarray(vectors), np.asarray(priors)
    if vectors.ndim != 3 or 0 in vectors.shape or priors.shape != vectors.shape[:2]:
        raise ValueError(
            f"vectors (words, senses, d) and priors (words, senses) were expected, got {vectors.shape} and {priors.shape}"
        )
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-12)
    cosines = unit @ unit.swapaxes(1, 2) - 2 * np.eye(vectors.shape[1])  # those with itself come last
    least, largest = float(priors.min(axis=1).mean()), float(cosines.max(axis=(1, 2)).mean())
    return SenseReport(
        words=len(vectors),
        senses=vectors.shape[1],
        active=float((priors >= prune).sum(axis=1).mean()),
        least_prior=least,
        cosine=largest,
        certainty=certainty,
        collapsed=least < UNUSED or largest > ALIKE,
    )


def pruned(p: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Probabilities (..., senses) without the senses that are not `active`, with sums of 1 again.

    Where all probability lay on those, the others share it evenly.

    >>> pruned(np.array([0.5, 0.25, 0.25]), np.array([True, True, False])).round(3).tolist()
    [0.667, 0.333, 0.0]
    """
    kept = np.where(active, p, 0.0)
    total = kept.sum(axis=-1, keepdims=True)
    even = active / active.sum(axis=-1, keepdims=True)
    return np.where(total > 0, kept / np.maximum(total, 1e-300), even)
