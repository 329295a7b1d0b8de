"""How much each coefficient of a sample changes an output: gradients, and answers to masked samples.

Every function takes `f`, from coefficients (b, ..., k) to outputs (b,), and `u` (n, k), or (n, h, w, k) where each place of a map
has coefficients. Gradients give a value for every coefficient; masks hide a concept at all places at once and give (n, k).
Nothing, the baseline, is a coefficient of 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]

#: Rows that `f` sees at once.
ROWS = 2048


def gradients(f: Function, u: Tensor) -> Tensor:
    """df / du, of the shape of u.

    Raises
    ------
    ValueError
        f has no gradient.
    """
    point = u.detach().clone().requires_grad_(True)
    outputs = f(point)
    if not outputs.requires_grad:
        raise ValueError(
            "decode is not differentiable: its outputs have no gradient; use occlusion, rise, sobol or hsic, which need none"
        )
    (found,) = torch.autograd.grad(outputs.sum(), point, allow_unused=True)
    return torch.zeros_like(point) if found is None else found


def saliency(f: Function, u: Tensor) -> Tensor:
    """|df / du| (Simonyan et al. 2014, arXiv:1312.6034). It depends on the units of u."""
    return gradients(f, u).abs()


def gradient_input(f: Function, u: Tensor) -> Tensor:
    """u df / du (Shrikumar et al. 2016, arXiv:1605.01713)."""
    return u * gradients(f, u)


def integrated_gradients(f: Function, u: Tensor, *, steps: int = 30) -> Tensor:
    """u times the mean gradient on the way from 0 to u (Sundararajan et al., ICML 2017, arXiv:1703.01365).

    The gradient is taken at v = t u with respect to v; with respect to u it would have a factor t too much. Sums to f(u) - f(0)
    up to the error of `steps` midpoints.
    """
    total = torch.zeros_like(u)
    for step in range(steps):
        total += gradients(f, u * ((step + 0.5) / steps))
    return u * total / steps


def _noisy_gradients(f: Function, u: Tensor, noise: float, draws: int, seed: int) -> Tensor:
    """Gradients (draws, ...) near u; the noise's deviation is a share of each sample's span of coefficients."""
    flat = u.flatten(1)
    span = (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (u.ndim - 1))
    generator = torch.Generator().manual_seed(seed)
    found = [
        gradients(f, u + noise * span * torch.randn(u.shape, generator=generator).to(u.device)) for _ in range(draws)
    ]
    return torch.stack(found)


def smooth_grad(f: Function, u: Tensor, *, noise: float = 0.15, draws: int = 20, seed: int = 0) -> Tensor:
    """Mean gradient at noisy copies of u (Smilkov et al. 2017, arXiv:1706.03825)."""
    return _noisy_gradients(f, u, noise, draws, seed).mean(0)


def var_grad(f: Function, u: Tensor, *, noise: float = 0.15, draws: int = 20, seed: int = 0) -> Tensor:
    """Variance of the gradient at noisy copies of u (Adebayo et al. 2018); 0 where f is affine."""
    return _noisy_gradients(f, u, noise, draws, seed).var(0, unbiased=False)


@torch.no_grad()
def responses(f: Function, u: Tensor, masks: Tensor) -> Tensor:
    """f of every sample under every mask (m, k): (n, m)."""
    places = (1,) * (u.ndim - 2)
    masks = masks.to(u.device, u.dtype)
    step = max(1, ROWS // len(u))
    found = []
    for part in masks.split(step):
        hidden = u[:, None] * part.view(1, len(part), *places, part.shape[1])  # (n, m, ..., k)
        found.append(f(hidden.flatten(0, 1)).view(len(u), len(part)))
    return torch.cat(found, dim=1)


def occlusion(f: Function, u: Tensor) -> Tensor:
    """f(u) - f(u without the concept), (n, k) (Zeiler & Fergus, ECCV 2014, arXiv:1311.2901)."""
    k = u.shape[-1]
    masks = torch.cat([torch.ones(1, k), 1 - torch.eye(k)])
    found = responses(f, u, masks)
    return found[:, :1] - found[:, 1:]


def rise(f: Function, u: Tensor, *, draws: int = 512, seed: int = 0) -> Tensor:
    """Mean output where the concept is kept, less the mean output, (n, k) (Petsiuk et al., BMVC 2018, arXiv:1806.07421).

    Each concept is kept with probability 1/2. The second term is the same for all concepts of a sample: it makes 0 mean that a
    concept has no effect. Half of `gradient_input` in expectation where f is affine. Masks come in pairs of opposites, which
    keep each concept equally often.
    """
    half = torch.rand((max(1, draws // 2), u.shape[-1]), generator=torch.Generator().manual_seed(seed)) < 0.5
    masks = torch.cat([half, ~half]).to(u.dtype).to(u.device)
    found = responses(f, u, masks)  # (n, m)
    return found @ masks / masks.sum(0).clamp(min=1) - found.mean(1, keepdim=True)


def sobol(f: Function, u: Tensor, *, designs: int = 32, seed: int = 0) -> Tensor:
    """Total Sobol index by Jansen's estimator, (n, k): the share of the output's variance in which a concept plays a part.

    Masks A, B (designs, k) from a scrambled Sobol sequence of 2k dimensions in [0, 1]; C_i is A with column i of B:

        S_i = mean_j (f(A_j) - f(C_ij))^2 / (2 var f(A))

    Fel et al., NeurIPS 2021, arXiv:2111.04138; Jansen, Computer Physics Communications 1999. 0 where the output does not vary.
    """
    from scipy.stats import qmc

    k = u.shape[-1]
    if designs < 2 or designs & (designs - 1):
        raise ValueError(f"designs must be a power of two from 2, got {designs}")
    sequence = qmc.Sobol(2 * k, seed=np.random.default_rng(seed)).random(designs)
    a, b = (torch.from_numpy(part.astype(np.float32)) for part in (sequence[:, :k], sequence[:, k:]))
    mixed = a.repeat(k, 1, 1)  # (k, designs, k)
    for i in range(k):
        mixed[i, :, i] = b[:, i]
    first = responses(f, u, a)  # (n, designs)
    other = responses(f, u, mixed.flatten(0, 1)).view(len(u), k, designs)
    variance = first.var(1, unbiased=True)
    total = (first[:, None] - other).square().mean(2) / 2
    varies = variance > 1e-12 * first.square().mean(1).clamp(min=1e-30)
    return torch.where(varies[:, None], total / variance.clamp(min=1e-30)[:, None], 0.0)


def hsic(f: Function, u: Tensor, *, draws: int = 256, seed: int = 0) -> Tensor:
    """Dependence (Hilbert-Schmidt independence criterion) of the output on whether a concept is kept, (n, k).

        HSIC_i = trace(K_i H L H) / (m - 1)^2

    with K_i = 1 where two masks agree about concept i and 0 elsewhere, L a Gaussian kernel of outputs whose width is their median
    distance, H the centring matrix. Novello et al., NeurIPS 2022, arXiv:2206.06219.
    """
    m = max(2, draws)
    generator = torch.Generator().manual_seed(seed)
    masks = (torch.rand((m, u.shape[-1]), generator=generator) < 0.5).to(u.dtype).to(u.device)
    found = responses(f, u, masks)
    centred = masks - masks.mean(0)  # H K_i H = 2 c c' with c a column of it
    rows = []
    for outputs in found:
        distance = (outputs[:, None] - outputs[None]).abs()
        width = distance[distance > 0].median() if (distance > 0).any() else torch.ones(())
        kernel = torch.exp(-0.5 * (distance / width).square())
        rows.append(2 * ((kernel @ centred) * centred).sum(0) / (m - 1) ** 2)
    return torch.stack(rows)


#: The methods by name.
ATTRIBUTIONS: dict[str, Callable[..., Tensor]] = {
    "gradient_input": gradient_input,
    "integrated_gradients": integrated_gradients,
    "saliency": saliency,
    "smooth_grad": smooth_grad,
    "var_grad": var_grad,
    "occlusion": occlusion,
    "rise": rise,
    "sobol": sobol,
    "hsic": hsic,
}
