"""Two groups along a line: the responsibilities of a Gaussian mixture of two components."""

import warnings

import numpy as np
from jaxtyping import Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

#: Scales are set by what lies below this percentile: one extreme value must not press all others together.
CLIPPED_AT = 99.9


def upper_component(
    values: Float[np.ndarray, " n"],
    *,
    iterations: int = 10,
    tolerance: float = 1e-2,
    regularisation: float = 5e-4,
    random_state: int = 0,
) -> Float[np.ndarray, " n"]:
    """Return how likely each value belongs to the component of the higher mean, of a mixture of two Gaussians.

    The values are cut at their 99.9th percentile and scaled to [0, 1] first. Such as losses: the lower component then
    holds what a network has learned easily, the upper one what it has not. The two may have different widths, so that
    the result need not rise everywhere with the value.

    Parameters
    ----------
    values : (n,) numbers; ``+inf`` counts as the largest finite one.
    iterations, tolerance, regularisation : of expectation-maximisation: rounds at most, the gain in log-likelihood at
        which it stops, and what is added to each variance, on the scale of [0, 1].
    random_state : seed of the k-means that it starts from.

    Returns
    -------
    (n,) in [0, 1]; all 0, with a warning, where all values are equal: there is one group.

    Raises
    ------
    ValueError
        Not one-dimensional, no values, NaN, ``-inf``, or no finite value.

    References
    ----------
    On losses: Arazo, Ortego, Albert, O'Connor & McGuinness, ICML 2019, arXiv:1904.11238 (there of beta distributions), and
    Li, Socher & Hoi, ICLR 2020, arXiv:2002.07394.

    >>> upper_component(np.array([0.1, 0.0, 0.2, 5.0, 5.1])).round().tolist()
    [0.0, 0.0, 0.0, 1.0, 1.0]
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values must be (n >= 1,), got shape {values.shape}")
    if np.isnan(values).any() or np.isneginf(values).any() or not np.isfinite(values).any():
        raise ValueError("values must be finite numbers or +inf, got NaN, -inf or nothing finite")
    values = np.minimum(values, values[np.isfinite(values)].max())
    values = np.minimum(values, np.percentile(values, CLIPPED_AT))
    span = values.max() - values.min()
    if not span > 0:
        warnings.warn(f"all {len(values)} values are {values[0]:g}: there is one group, not two", stacklevel=2)
        return np.zeros(len(values))
    scaled = ((values - values.min()) / span)[:, None]
    mixture = GaussianMixture(
        2, max_iter=iterations, tol=tolerance, reg_covar=regularisation, random_state=random_state
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # few rounds are meant to be enough
        mixture.fit(scaled)
    found: np.ndarray = mixture.predict_proba(scaled)[:, mixture.means_[:, 0].argmax()]
    return found
