"""How far an embedding is ordered by where its rows come from: scanner, site, camera, drawing style."""

from __future__ import annotations

from typing import Any

import numpy as np

from nolabel.assess.inputs import as_count, as_embeddings, as_labels
from nolabel.ops.neighbours import nearest


def domain_purity(embeddings: Any, domains: Any, k: int = 10) -> float:
    """Mean share of each row's k nearest neighbours (cosine, itself left out) that are of its own domain.

    Near 1 an embedding is ordered by domain; one that ignores domains comes near the sum of their squared shares, 1 / D
    for D equal ones. Classes unevenly spread over the domains raise it too: compare embeddings of the same rows. Domain
    labels serve this audit alone.

    Parameters
    ----------
    embeddings : (n, d) floats.
    domains : (n,) integers or strings.
    k : neighbours looked at.

    Returns
    -------
    float in [0, 1].

    Raises
    ------
    ValueError
        Lengths that do not fit, NaN, a single domain, k above n - 1.

    References
    ----------
    Scalbert, Vakalopoulou and Couzinié-Devy, ICLR 2024, arXiv:2303.06088.

    >>> domain_purity([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]], ["a", "a", "b", "b"], k=1)
    1.0
    """
    z = as_embeddings(embeddings)
    names = as_labels(domains, len(z), "domains")
    if len(np.unique(names)) < 2:
        raise ValueError(f"domains: at least 2 were expected, got only {names[0]}")
    as_count(k, "k", high=len(z) - 1, why=f"each of {len(z)} rows has {len(z) - 1} others")
    neighbours = np.asarray(nearest(z, z, k, metric="cosine", exclude_self=True)[1])  # (n, k)
    return float(np.mean(names[neighbours] == names[:, None]))
