"""Further views of token ids: the inverse cloze task, and tokens masked or changed about."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from nolabel.views.tokens import Tokens, content, keep, random_span


def inverse_cloze(
    tokens: Int64[Tensor, "b l"],
    mask: Bool[Tensor, "b l"],
    ratio: tuple[float, float],
    generator: torch.Generator,
    *,
    kept: float = 0.1,
    pad: int = 0,
) -> tuple[Tokens, Tokens]:
    """A random span of each text, and what is left of the text without it (Lee et al., ACL 2019, arXiv:1906.00300).

    The span is a share of the text drawn from `ratio`, at least one token, and lies anywhere. With probability `kept` it also
    stays in the text, so that matching words count for something; so it does where nothing else would be left.

    Returns
    -------
    span and rest, each between start and end token

    >>> tokens = torch.tensor([[2, 7, 8, 9, 3]])
    >>> span, rest = inverse_cloze(tokens, tokens > 0, (0.4, 0.4), torch.Generator().manual_seed(0), kept=0.0)
    >>> span.tokens.shape[1], rest.tokens.shape[1]
    (3, 4)
    """
    inner = content(mask)
    draws = torch.rand(3, len(tokens), generator=generator, device=tokens.device)
    span = random_span(inner, ratio, draws[:2])
    whole = (draws[2] < kept) | (span.sum(dim=1) == inner.sum(dim=1))
    frame = mask & ~inner
    return keep(tokens, span | frame, pad), keep(tokens, mask & (~span | whole.unsqueeze(1)), pad)


def mask_out(
    tokens: Int64[Tensor, "b l"], mask: Bool[Tensor, "b l"], p: float, generator: torch.Generator, *, mask_id: int
) -> Tokens:
    """Put the mask token in the place of each with probability `p`; start and end stay."""
    chosen = content(mask) & (torch.rand(tokens.shape, generator=generator, device=tokens.device) < p)
    return Tokens(tokens.masked_fill(chosen, mask_id), mask)


def shuffle(tokens: Int64[Tensor, "b l"], mask: Bool[Tensor, "b l"], p: float, generator: torch.Generator) -> Tokens:
    """Choose each token with probability `p` and change the chosen ones of a text about at random."""
    draws = torch.rand(2, *tokens.shape, generator=generator, device=tokens.device)
    chosen = content(mask) & (draws[0] < p)
    # chosen places first, in their order and in a random one; the others keep their order in both
    places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    there = torch.where(chosen, places, places + tokens.shape[1]).argsort(dim=1)
    taken = torch.where(chosen, draws[1], 1.0 + places).argsort(dim=1)
    return Tokens(tokens.scatter(1, there, tokens.gather(1, taken)), mask)


def exchange(
    tokens: Int64[Tensor, "b l"],
    mask: Bool[Tensor, "b l"],
    p: float,
    generator: torch.Generator,
    ordinary: Int64[Tensor, " v"],
) -> Tokens:
    """Put one of the `ordinary` tokens, at random, in the place of each with probability `p`; start and end stay."""
    chosen = content(mask) & (torch.rand(tokens.shape, generator=generator, device=tokens.device) < p)
    other = torch.randint(len(ordinary), tokens.shape, generator=generator, device=tokens.device)
    return Tokens(torch.where(chosen, ordinary.to(tokens.device)[other], tokens), mask)
