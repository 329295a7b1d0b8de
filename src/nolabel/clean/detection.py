"""Which labels are wrong, told from the losses of a classifier, and from features beside them.

* Small loss: a network learns right labels first. A mixture of two Gaussians over the losses, one a sample, says how
  likely each belongs to the group of the high ones.
* Linear separation: features of a network that first learned without labels hold strangers (images of none of the
  classes) apart from the rest almost linearly. A logistic regression is trained on what the small-loss test says at a lower
  threshold, or on some rows that a person checked.

Albert, Valmadre, Arazo, Krishna, O'Connor & McGuinness, "An accurate detection is not all you need to combat label noise in
web-noisy datasets", ECCV 2024, arXiv:2407.05528. Neither needs the classifier to be of this library.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np

from nolabel.assess.inputs import as_array, as_embeddings
from nolabel.ops.mixtures import upper_component

#: Shares of samples called noisy between which the linear detector has enough of both kinds to learn from.
ENOUGH = (0.15, 0.6)


class Detection(NamedTuple):
    """What a detector found.

    Attributes
    ----------
    noisy : (n,) whether the label of a sample is held to be wrong
    probability : (n,) of that
    """

    noisy: np.ndarray
    probability: np.ndarray


def small_loss(losses: np.ndarray, threshold: float = 0.95) -> Detection:
    """Noisy is what belongs to the group of high losses (n,) with a probability above the threshold.

    >>> small_loss(np.array([0.1, 0.2, 0.1, 4.0])).noisy.tolist()
    [False, False, False, True]
    """
    probability = upper_component(losses)
    return Detection(probability > threshold, probability)


def linear_separation(features: np.ndarray, flagged: np.ndarray, threshold: float = 0.5) -> Detection | None:
    """Noisy is what a logistic regression of `features` (n, d) on the flags of some of them says.

    Rows of features are scaled to unit length, then their columns to zero mean and unit spread. The regression has no penalty
    and gives both kinds the same weight.

    Parameters
    ----------
    features : (n, d)
    flagged : (n,) 1 noisy, 0 right, -1 unknown
    threshold : of the probability

    Returns
    -------
    None where the flags are all of one kind: there is nothing to separate.

    >>> line = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> linear_separation(line, np.array([0, 0, 1, -1])).noisy.tolist()
    [False, False, True, True]
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    known = flagged >= 0
    if len(np.unique(flagged[known])) < 2:
        return None
    regression = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=1000)
    model = make_pipeline(Normalizer(), StandardScaler(), regression)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # separable flags have no finite optimum
        model.fit(features[known], flagged[known])
    probability = model.predict_proba(features)[:, 1]
    return Detection(probability > threshold, probability)


def correction_confidence(pseudo_losses: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """How far the corrected labels of noisy samples can be trusted, (n,); 1 for all others.

    `pseudo_losses` (n,) are cross-entropies of a network's answers to its own corrected labels: low where it is certain and
    stays with its opinion. A mixture of two Gaussians over those of the noisy samples tells the two groups apart. Fewer than
    three noisy samples are trusted.

    >>> correction_confidence(np.array([0.1, 0.1, 3.0, 9.0]), np.array([True, True, True, False])).round().tolist()
    [1.0, 1.0, 0.0, 1.0]
    """
    confidence = np.ones(len(noisy))
    if noisy.sum() >= 3:
        confidence[noisy] = 1.0 - upper_component(pseudo_losses[noisy])
    return confidence


def detect_noise(
    losses: Any,
    features: Any = None,
    *,
    trusted: Any = None,
    loss_threshold: float = 0.95,
    target_threshold: float = 0.5,
    linear_threshold: float = 0.5,
) -> Detection:
    """Find samples whose label is wrong, from the losses of any classifier and, for strangers, from features.

    Without features: the small-loss detector. With features: the linear one, which asks more of them: use it with features
    that were learned without labels, where many samples belong to none of the classes; of few wrong labels it finds less.

    Parameters
    ----------
    losses : (n,) losses of the samples for the labels they have, such as cross-entropies; best of a model that did not train
        on the sample, or not for long.
    features : (n, d) of the same samples; an early stage of the network keeps more than the last.
    trusted : (n,) flags that a person gave: 1 wrong, 0 right, -1 not checked. The linear detector then learns from these
        alone, of both kinds.
    loss_threshold : probability above which the small-loss detector calls a sample noisy.
    target_threshold : the same, for the samples that the linear detector learns from. The paper's is 0.95: then these are
        the extreme losses only, which need not be strangers, for a network answers what it does not know evenly.
    linear_threshold : probability above which the linear detector calls a sample noisy; higher loses fewer right ones.

    Returns
    -------
    Detection
        ``noisy`` (n,) bool and ``probability`` (n,).

    Raises
    ------
    ValueError, TypeError
        Losses that are not (n,) numbers or hold NaN; features or flags of other rows; thresholds outside (0, 1); flags of one
        kind.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> losses = np.concatenate([rng.exponential(0.1, 90), rng.normal(4, 0.5, 10)])
    >>> int(detect_noise(losses).noisy.sum())
    10
    """
    losses = as_array(losses, "losses")
    if losses.ndim != 1 or losses.dtype.kind not in "fiu":
        raise ValueError(f"losses: one number a sample was expected, got shape {losses.shape} of {losses.dtype}")
    require_thresholds(
        loss_threshold=loss_threshold, target_threshold=target_threshold, linear_threshold=linear_threshold
    )
    if features is None:
        if trusted is not None:
            raise ValueError("trusted flags are what the linear detector learns from: give features as well")
        return small_loss(losses, loss_threshold)
    vectors = as_embeddings(features, "features")
    if len(vectors) != len(losses):
        raise ValueError(f"features: one row a loss was expected, {len(losses)}, got {len(vectors)}")
    if trusted is not None:
        found = linear_separation(vectors, trusted_flags(trusted, len(losses)), linear_threshold)
        assert found is not None  # flags of both kinds
        return found
    flagged = small_loss(losses, target_threshold).noisy
    warn_of_share(flagged)
    found = linear_separation(vectors, flagged.astype(int), linear_threshold)
    return small_loss(losses, loss_threshold) if found is None else found


def trusted_flags(trusted: Any, rows: int) -> np.ndarray:
    """Checked flags (n,): 1 noisy, 0 right, -1 unknown, with both kinds among them.

    >>> trusted_flags([1, 0, -1], 3).tolist()
    [1, 0, -1]
    """
    flags = as_array(trusted, "trusted")
    if flags.shape != (rows,) or flags.dtype.kind not in "iub":
        raise ValueError(f"trusted: one flag a sample was expected, {rows}, got shape {flags.shape} of {flags.dtype}")
    flags = flags.astype(int)
    if not np.isin(flags, (-1, 0, 1)).all() or not {0, 1} <= set(flags.tolist()):
        raise ValueError("trusted: flags of both kinds, 1 wrong and 0 right, beside -1 for unknown were expected")
    return flags


def warn_of_share(flagged: np.ndarray) -> None:
    """Warn where so few or so many samples are flagged that what the linear detector learns from them may be upside down."""
    share = float(flagged.mean())
    if not ENOUGH[0] <= share <= ENOUGH[1]:
        warnings.warn(
            f"the linear detector learns from {share:.0%} of the samples as noisy; outside {ENOUGH[0]:.0%} to {ENOUGH[1]:.0%} it "
            "often takes the one for the other: change target_threshold, or use the losses alone",
            stacklevel=3,
        )


def require_thresholds(**thresholds: float) -> None:
    """Refuse a threshold outside (0, 1), by name."""
    for name, value in thresholds.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {value}")
