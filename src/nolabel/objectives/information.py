"""A bound on mutual information from above, and the error of directions: what a view may drop, and what it has to keep."""

from jaxtyping import Float
from torch import Tensor

from nolabel.objectives.sphere import unit_rows


def information_bound(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], *, temperature: float = 0.2
) -> Float[Tensor, ""]:
    """Return an upper bound on what two views tell of one another, to be made small.

    ``mean_i s_ii - mean_ij s_ij`` with s the cosines over the temperature: the contrastive log-ratio bound with a critic that
    is given, not learned. The second mean is an inner product of two mean vectors, so no (n, n) matrix is formed.

    Parameters
    ----------
    a, b : (n, d); row i of one belongs to row i of the other. Rows are scaled to unit length here; a row of zeros stays.
    temperature : above 0.

    Raises
    ------
    ValueError
        Shapes that differ, temperature not above 0.

    References
    ----------
    Cheng et al., ICML 2020, arXiv:2006.12013.

    Examples
    --------
    >>> import torch
    >>> float(information_bound(torch.eye(2), torch.eye(2), temperature=0.5))  # 2 - 1
    1.0
    """
    if a.shape != b.shape:
        raise ValueError(f"a and b must have one shape (n, d), got {tuple(a.shape)} and {tuple(b.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    a, b = unit_rows("a", a), unit_rows("b", b)
    return ((a * b).sum(dim=1).mean() - (a.mean(dim=0) * b.mean(dim=0)).sum()) / temperature


def scaled_cosine_error(
    prediction: Float[Tensor, "n d"], target: Float[Tensor, "n d"], *, power: float = 1.0
) -> Float[Tensor, ""]:
    """Return the mean of ``(1 - cosine) ** power`` over rows: 0 for right directions, whatever the lengths.

    Parameters
    ----------
    prediction, target : (n, d). A row of zeros has cosine 0 with everything.
    power : from 1; above 1 rows that are nearly right count less.

    Raises
    ------
    ValueError
        Shapes that differ, power below 1.

    References
    ----------
    Hou et al., "GraphMAE", KDD 2022, arXiv:2205.10803.

    Examples
    --------
    >>> import torch
    >>> prediction, target = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> float(scaled_cosine_error(prediction, target))
    0.5
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target must have one shape (n, d), got {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    if not power >= 1:
        raise ValueError(f"power must be at least 1, got {power}")
    cosine = (unit_rows("prediction", prediction) * unit_rows("target", target)).sum(dim=1)
    return (1 - cosine).clamp_min(0).pow(power).mean()
