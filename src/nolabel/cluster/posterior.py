"""From which domain an input comes, turned into which class it is of, by the mixes of the domains' classes.

q(d | x) = sum over classes of p(d | y) q(y | x): what is known of the domain is a mixture of the classes' columns M. The
weights v of that mixture are the class posterior under equal domains; in a domain d it is

    p_d(y | x)  is proportional to  M[d, y] v_y.
"""

import numpy as np

from nolabel.ops.nmf import nonnegative_weights

PROJECTIONS = ("clip", "nnls", "pinv")
#: Of a domain that no class has anything of, in place of zeros.
TINY = 1e-8


def domain_given_class(class_mix: np.ndarray) -> np.ndarray:
    """M = p(domain | class) (r, k), columns that sum to 1, from p(class | domain) (r, k) under equal domains.

    >>> domain_given_class(np.array([[0.9, 0.1], [0.3, 0.7]])).round(3).tolist()
    [[0.75, 0.125], [0.25, 0.875]]
    """
    sums = class_mix.sum(axis=0)
    given: np.ndarray = np.where(sums > 0, class_mix / np.where(sums > 0, sums, 1), TINY)
    return given


def class_weights(domain_probabilities: np.ndarray, given: np.ndarray, project: str) -> np.ndarray:
    """The weights v (n, k) with which the columns of M (r, k) give the rows q(d | x) (n, r).

    ``pinv``: least squares, which may be negative; ``clip``: the same cut at 0; ``nnls``: non-negative least squares. Where
    clipping leaves nothing the row has nothing of any column, and non-negative least squares would be 0 as well.
    """
    if project == "nnls":
        return nonnegative_weights(given, domain_probabilities)
    weights: np.ndarray = domain_probabilities @ np.linalg.pinv(given).T
    return weights if project == "pinv" else np.clip(weights, 0, None)


def class_posterior(
    domain_probabilities: np.ndarray, given: np.ndarray, domains: np.ndarray | None, project: str
) -> np.ndarray:
    """p(class | x, domain) (n, k); under equal domains where these are not known.

    A row whose own domain rules out every class that it looks like has the posterior under equal domains; rows sum to 1. With
    ``pinv`` entries may be negative, and a row with a negative sum changes sign, as in the paper.

    Parameters
    ----------
    domain_probabilities : (n, r) q(d | x) under equal domains
    given : (r, k) p(domain | class)
    domains : (n,) numbers of domains, or None
    project : see `class_weights`

    >>> given = np.array([[0.75, 0.125], [0.25, 0.875]])
    >>> class_posterior(np.array([[0.75, 0.25], [0.4375, 0.5625]]), given, None, "clip").round(3).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    >>> class_posterior(np.array([[0.4375, 0.5625]]), given, np.array([0]), "clip").round(3).tolist()  # 0.75 to 0.125
    [[0.857, 0.143]]
    """
    weights = class_weights(domain_probabilities, given, project)
    joint = weights if domains is None else weights * given[domains]
    if project != "pinv":
        impossible = ~(joint.sum(axis=1) > 0)
        joint[impossible] = weights[impossible]
        joint[~(joint.sum(axis=1) > 0)] = 1.0  # least squares found nothing in it: any class is as good
    sums = joint.sum(axis=1, keepdims=True)
    posterior: np.ndarray = joint / np.where(sums == 0, 1, sums)
    return posterior
