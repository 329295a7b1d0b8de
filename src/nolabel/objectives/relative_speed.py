"""The ranking of clips by whether they play at one speed (Chen et al., RSPNet, AAAI 2021, arXiv:2011.07949)."""

import torch
from jaxtyping import Float
from torch import Tensor

from nolabel.objectives.sphere import unit_rows


def relative_speed_loss(
    query: Float[Tensor, "n d"],
    same: Float[Tensor, "n d"],
    other: Float[Tensor, "n d"],
    *,
    margin: float = 2.0,
    temperature: float = 0.07,
) -> Float[Tensor, ""]:
    """Return the loss of queries that must be nearer to a clip played at their own speed than to the same clip at another.

    The mean over queries of ``relu(margin - (cosine(query, same) - cosine(query, other)) / temperature)``. The margin is one
    of cosines *after* their division by the temperature: 2.0 at 0.07 asks for cosines that differ by 0.14, and another
    temperature asks for another difference. Rows are scaled to unit length here.

    Parameters
    ----------
    query, same, other : (n, d); row i of each belongs to one video.
    margin : at least 0; temperature : above 0.

    Raises
    ------
    ValueError
        Shapes that differ, a margin below 0, a temperature not above 0.

    Examples
    --------
    >>> z, w = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> float(relative_speed_loss(z, z, w, margin=2.0, temperature=1.0))  # 2 - (1 - 0) / 1
    1.0
    >>> float(relative_speed_loss(z, z, w))  # 1 / 0.07 is more than the margin
    0.0
    """
    if not query.shape == same.shape == other.shape:
        came = ", ".join(str(tuple(z.shape)) for z in (query, same, other))
        raise ValueError(f"query, same and other must have one shape (n, d), got {came}")
    if not margin >= 0:
        raise ValueError(f"margin must be at least 0, got {margin}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    q, s, o = (unit_rows(name, z) for name, z in (("query", query), ("same", same), ("other", other)))
    lead = (q * (s - o)).sum(dim=1) / temperature  # (n,)
    return torch.relu(margin - lead).mean()
