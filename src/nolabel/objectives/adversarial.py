"""Virtual adversarial training on token embeddings: predictions that small changes of the input do not change.

With f from the embeddings e (b, l, d) of a text's tokens to logits, p = softmax f(e), and noise r counted in units of u, the
mean norm of the real tokens' embeddings, each of some rounds goes up the divergence of the moved predictions,

    r_0 ~ N(0, start^2),    r <- P( r + step * d/dr KL(p || softmax f(e + u r)) / b ),

where P scales the noise of each real token to length `radius`, and takes it from padding. With large steps r points where the
predictions change most; with small ones it stays about random. The loss, with sg for no gradient, is the mean over tokens of

    KL(sg p || q) + KL(sg q || p),    q = softmax f(e + u r),

with r as a constant. f must be the same function each time, its dropout off or its mask fixed: else the divergence measures
dropout as well, and is not 0 at r = 0.

Miyato, Maeda, Koyama & Ishii, "Virtual adversarial training", TPAMI 2018, arXiv:1704.03976; on token embeddings, symmetric:
Jiang et al., "SMART", ACL 2020, arXiv:1911.03437; as in Li et al., URLBERT, 2024, arXiv:2402.11495.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.linalg import vector_norm

#: From embeddings (b, l, d) to logits (n, v) of the real tokens, in the same order each time.
Logits = Callable[[Tensor], Tensor]


class Noise(NamedTuple):
    """What to add to the embeddings (b, l, d), and whether all gradients were finite; if not, it is 0."""

    noise: Float[Tensor, "b l d"]
    finite: Bool[Tensor, ""]


class Adversarial(NamedTuple):
    """The loss, and whether all gradients were finite; if not, the loss is 0 and says nothing."""

    loss: Float[Tensor, ""]
    finite: Bool[Tensor, ""]


def mean_norm(embeddings: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, ""]:
    """The mean norm of the real tokens' embeddings.

    >>> mean_norm(torch.tensor([[[3.0, 4.0], [1.0, 0.0], [9.0, 9.0]]]), torch.tensor([[True, True, False]]))
    tensor(3.)
    """
    lengths = vector_norm(embeddings, dim=-1)
    return (lengths * mask).sum() / mask.sum().clamp_min(1)


def scaled(noise: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"], radius: float) -> Float[Tensor, "b l d"]:
    """The noise of each real token at length `radius`, and none on padding; where there is none, there stays none.

    >>> scaled(torch.tensor([[[3.0, 4.0], [0.0, 0.0], [1.0, 1.0]]]), torch.tensor([[True, True, False]]), 10.0)
    tensor([[[6., 8.],
             [0., 0.],
             [0., 0.]]])
    """
    lengths = vector_norm(noise, dim=-1, keepdim=True).clamp_min(torch.finfo(noise.dtype).tiny)
    return (noise / lengths * radius).masked_fill(~mask.unsqueeze(-1), 0.0)


def symmetric_divergence(first: Float[Tensor, "n v"], second: Float[Tensor, "n v"]) -> Float[Tensor, ""]:
    """Mean over rows of KL(sg p || q) + KL(sg q || p), for the softmax p of `first` and q of `second`.

    >>> p = torch.tensor([[0.75, 0.25]])
    >>> symmetric_divergence(p.log(), torch.zeros(1, 2))  # ln(3) / 4
    tensor(0.2747)
    """
    if first.shape != second.shape or first.ndim != 2 or 0 in first.shape:
        raise ValueError(
            f"first and second must be logits of one shape (n >= 1, v), got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    # The sum is sum_v (p - q) (log p - log q). Since p - q sums to 0, the logits do for their log-softmax; and with p - q as a
    # constant the gradients are those of the two terms, p - q and q - p, without a pass back through any softmax.
    first, second = first.float(), second.float()
    apart = (first.softmax(dim=1) - second.softmax(dim=1)).detach()
    return (apart * (first - second)).sum() / len(first)


def adversarial_noise(
    logits: Logits,
    embeddings: Float[Tensor, "b l d"],
    mask: Bool[Tensor, "b l"],
    clean: Float[Tensor, "n v"],
    *,
    radius: float = 1.0,
    step: float = 1e-3,
    rounds: int = 1,
    start: float = 1e-5,
    generator: torch.Generator | None = None,
) -> Noise:
    """Return noise of length `radius` on each real token that changes predictions more than random noise does.

    In 32 bits throughout: in 16 the first, tiny noise would change nothing. Costs a forward and a backward pass a round.

    Parameters
    ----------
    logits : from embeddings (b, l, d) to logits (n, v) of the real tokens; the same function each time, see above.
    embeddings : (b, l, d) rows of the table of words; no gradient goes there.
    mask : (b, l) the real tokens.
    clean : (n, v) ``logits(embeddings)``, in 32 bits too.
    radius : length of a token's noise, at least 0, in units of the mean norm of the real tokens' embeddings.
    step : above 0, how far a round goes along the gradient, which is small where `start` is.
    rounds : at least 1.
    start : above 0, spread of the first noise, in the same units.
    generator : of the first noise.

    Raises
    ------
    ValueError
        Shapes that do not fit, arguments out of range.

    Examples
    --------
    >>> weights = torch.tensor([[3.0, -3.0], [0.0, 0.0]])  # only the first coordinate of an embedding matters
    >>> e, mask = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]), torch.tensor([[True, False]])
    >>> logits = lambda e: e[mask] @ weights
    >>> found = adversarial_noise(logits, e, mask, logits(e), radius=0.5, step=1e6)
    >>> found.noise.abs().round(decimals=3), bool(found.finite)
    (tensor([[[0.5000, 0.0000],
             [0.0000, 0.0000]]]), True)
    """
    _check(embeddings, mask, radius=radius, step=step, rounds=rounds, start=start)
    embeddings = embeddings.detach().float()
    unit = mean_norm(embeddings, mask)
    target = clean.detach().float().softmax(dim=1)
    first = torch.randn(embeddings.shape, generator=generator, device=embeddings.device)
    noise = (start * first).masked_fill(~mask.unsqueeze(-1), 0.0)
    finite = torch.ones((), dtype=torch.bool, device=embeddings.device)
    with torch.enable_grad(), torch.autocast(embeddings.device.type, enabled=False):
        for _ in range(rounds):
            noise.requires_grad_(True)
            moved = logits(embeddings + unit * noise).float()
            slope = (moved.detach().softmax(dim=1) - target) / len(embeddings)  # of the divergence, at the moved logits
            (gradient,) = torch.autograd.grad(moved, noise, slope)
            finite = finite & gradient.isfinite().all()
            noise = scaled(noise.detach() + step * gradient, mask, radius)
    return Noise(torch.where(finite, unit * noise, 0.0), finite)


def virtual_adversarial(
    logits: Logits,
    embeddings: Float[Tensor, "b l d"],
    mask: Bool[Tensor, "b l"],
    *,
    radius: float = 1.0,
    step: float = 1e-3,
    rounds: int = 1,
    start: float = 1e-5,
    generator: torch.Generator | None = None,
) -> Adversarial:
    """Return how much adversarial noise on the embeddings changes the predictions: see the formulas of this module.

    Gradients reach the weights behind `logits` and `embeddings`, not through the noise. 2 + `rounds` forward passes.

    Parameters
    ----------
    logits, embeddings, mask, radius, step, rounds, start, generator : as in `adversarial_noise`.

    Returns
    -------
    Adversarial
        The loss, the mean over real tokens; and ``finite``: where it is False, count the step and say so.

    Raises
    ------
    ValueError
        Shapes that do not fit, arguments out of range.

    Examples
    --------
    >>> head = torch.nn.Linear(4, 10)
    >>> e, mask = torch.randn(2, 3, 4, requires_grad=True), torch.ones(2, 3, dtype=torch.bool)
    >>> virtual_adversarial(lambda e: head(e[mask]), e, mask, radius=0.0).loss.item()
    0.0
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        embeddings = embeddings.float()
        clean = logits(embeddings)
        options = {"radius": radius, "step": step, "rounds": rounds, "start": start}
        noise, finite = adversarial_noise(logits, embeddings, mask, clean, generator=generator, **options)  # type: ignore[arg-type]
        loss = symmetric_divergence(clean, logits(embeddings + noise))
    return Adversarial(loss, finite)


def _check(embeddings: Tensor, mask: Tensor, **numbers: float) -> None:
    if embeddings.ndim != 3 or mask.shape != embeddings.shape[:2]:
        raise ValueError(
            f"embeddings must be (b, l, d) and mask (b, l), got {tuple(embeddings.shape)} and {tuple(mask.shape)}"
        )
    for name, value in numbers.items():
        least = 1 if name == "rounds" else 0
        if not (value >= least if name in ("rounds", "radius") else value > 0):
            raise ValueError(
                f"{name} must be {'at least' if name in ('rounds', 'radius') else 'above'} {least}, got {value}"
            )
