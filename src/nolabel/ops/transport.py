"""Entropic optimal transport: move mass from sources to targets at least cost, spread as much as epsilon asks.

The plan is ``exp(f_i + g_j - cost_ij / epsilon)``; each iteration sets g so that the columns sum to the target weights, then
f so that the rows sum to the source weights. Potentials f and g are logarithms, so that no epsilon overflows. A pass of
logarithms over the matrix at every half iteration would be slow, so the exponentials are taken once, around the present
potentials, and iterations then only rescale rows and columns: two products of the matrix with a vector. When a scale has
moved too far for the exponentials to be exact, the potentials take it in and the matrix is made anew.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

# Scales stay within exp(+-FAR) of 1, and exponentials below NEGLIGIBLE count as 0 (subnormal numbers are slow): what is
# lost of a row or column is at most NEGLIGIBLE * exp(2 FAR), about 1e-23, for each of its entries.
FAR = 8.0
NEGLIGIBLE = 1e-30


def _weights(name: str, given: Tensor | None, count: int, like: Tensor) -> Float[Tensor, " count"]:
    """Logarithms of weights that sum to 1."""
    if given is None:
        return like.new_full((count,), -math.log(count))
    if given.shape != (count,):
        raise ValueError(f"{name} must hold one weight for each of {count}, got shape {tuple(given.shape)}")
    weights = given.to(like)
    if not (torch.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError(f"{name} must hold finite weights above 0, got {float(weights.min()):g} as the least")
    return (weights / weights.sum()).log()


def _check(cost: Tensor, epsilon: float, iterations: int, tolerance: float, target_relaxation: float | None) -> None:
    if cost.ndim != 2 or cost.numel() == 0 or not cost.is_floating_point():
        raise ValueError(f"cost must be a floating-point (n >= 1, m >= 1) matrix, got {cost.dtype} {tuple(cost.shape)}")
    if not torch.isfinite(cost).all():
        raise ValueError(f"cost must be finite, got {int((~torch.isfinite(cost)).sum())} values that are not")
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be a number above 0, got {epsilon}")
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance}")
    if target_relaxation is not None and not 0 < target_relaxation < math.inf:
        raise ValueError(f"target_relaxation must be None or a number above 0, got {target_relaxation}")


@torch.no_grad()
def transport(
    cost: Float[Tensor, "n m"],
    source: Float[Tensor, " n"] | None = None,
    target: Float[Tensor, " m"] | None = None,
    *,
    epsilon: float,
    iterations: int = 1000,
    tolerance: float = 1e-4,
    target_relaxation: float | None = None,
) -> Float[Tensor, "n m"]:
    """Return the entropic optimal transport plan between weighted sources and targets.

    Minimises ``sum(plan * cost) + epsilon * sum(plan * log plan)`` over plans whose rows sum to the source weights and whose
    columns sum to the target weights. With `target_relaxation` the columns need not: they pay that many times their
    Kullback-Leibler divergence from the target weights (unbalanced transport); large values approach the exact marginal.
    The rows' totals end exact, the columns' as exact as the iterations made them. No gradient flows.

    Parameters
    ----------
    cost : (n, m), finite; half precision is computed in float32, anything else in its own.
    source, target : (n,) and (m,) weights above 0, each scaled to sum 1; ``None`` for equal ones.
    epsilon : entropy's weight in units of the cost, above 0; below a thousandth of the costs give them as float64.
    iterations : at most, from 1.
    tolerance : stop once the sources' potentials (in units of the cost) change by less than this in an iteration,
        summed over sources; 0 takes every iteration.
    target_relaxation : price of a column total that differs from its weight, in units of the cost; ``None``: it may not.

    Returns
    -------
    (n, m) non-negative plan that sums to 1.

    Raises
    ------
    ValueError
        A cost that is not a finite matrix, weights that do not fit or are not above 0, parameters out of range.

    References
    ----------
    Cuturi 2013, arXiv:1306.0895; Schmitzer 2016, arXiv:1610.06519 (stabilised scaling); Chizat et al. 2016,
    arXiv:1607.05816 (relaxed marginals).

    Examples
    --------
    >>> import torch
    >>> transport(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), epsilon=0.1).round(decimals=3).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    _check(cost, epsilon, iterations, tolerance, target_relaxation)
    cost = cost if cost.dtype == torch.float64 else cost.float()
    log_source = _weights("source", source, len(cost), cost)
    log_target = _weights("target", target, cost.shape[1], cost)
    pull = 1.0 if target_relaxation is None else target_relaxation / (target_relaxation + epsilon)
    energy = (cost - cost.min()) / epsilon  # (n, m)

    f, g = torch.zeros_like(log_source), torch.zeros_like(log_target)
    kernel: Tensor | None = None  # exp(f + g - energy)
    row, column = f.clone(), g.clone()  # logarithms of the scales
    for _ in range(iterations):
        if kernel is not None:
            new_column = pull * (log_target + g - (kernel.T @ row.exp()).log()) - g
            new_row = log_source - (kernel @ new_column.exp()).log()
        if kernel is None or not (new_column.abs().max() < FAR and new_row.abs().max() < FAR):  # NaN counts as far
            f, g, before = f + row, g + column, f + row
            g = pull * (log_target - (f[:, None] - energy).logsumexp(dim=0))
            f = log_source - (g - energy).logsumexp(dim=1)
            kernel = torch.threshold_((f[:, None] - energy).add_(g).exp_(), NEGLIGIBLE, 0.0)
            row, column, change = torch.zeros_like(f), torch.zeros_like(g), f - before
        else:
            change, row, column = new_row - row, new_row, new_column
        if epsilon * float(change.abs().sum()) < tolerance:
            break
    assert kernel is not None
    return kernel.mul_(row.exp()[:, None]).mul_(column.exp())


def barycentric_map(plan: Float[Tensor, "n m"], points: Float[Tensor, "m d"]) -> Float[Tensor, "n d"]:
    """Return where each source goes: the mean of the target points, weighted by its row of the plan.

    Parameters
    ----------
    plan : (n, m), non-negative; every row must have mass.
    points : (m, d) of the targets.

    Raises
    ------
    ValueError
        Shapes that do not fit, a row without mass.

    References
    ----------
    Courty et al. 2015, arXiv:1507.00504.

    Examples
    --------
    >>> import torch
    >>> barycentric_map(torch.tensor([[0.25, 0.25], [0.0, 0.5]]), torch.tensor([[0.0], [2.0]])).tolist()
    [[1.0], [2.0]]
    """
    if plan.ndim != 2 or points.ndim != 2 or plan.shape[1] != len(points):
        raise ValueError(f"plan must be (n, m) and points (m, d), got {tuple(plan.shape)} and {tuple(points.shape)}")
    mass = plan.sum(dim=1, keepdim=True)  # (n, 1)
    if not (mass > 0).all():
        raise ValueError(f"every row of the plan must have mass, got none in row {int((mass > 0).int().argmin())}")
    return (plan / mass) @ points.to(plan.dtype)
