"""Views of texts, on padded batches of token ids (b, length) with a mask of the real tokens.

The first real token of a row is its start and the last one its end; both stay where they are. All randomness comes from
the generator.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


class Tokens(NamedTuple):
    """Token ids and which of them are real."""

    tokens: Int64[Tensor, "b l"]
    mask: Bool[Tensor, "b l"]


def content(mask: Bool[Tensor, "b l"]) -> Bool[Tensor, "b l"]:
    """The real tokens between start and end.

    >>> content(torch.tensor([[True, True, True, False]])).tolist()
    [[False, True, False, False]]
    """
    inner = torch.zeros_like(mask)
    inner[:, 1:-1] = mask[:, 2:]  # a token before the last real one
    return inner


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator, device=like.device)


def keep(tokens: Int64[Tensor, "b l"], kept: Bool[Tensor, "b l"], pad: int) -> Tokens:
    """The kept tokens moved together to the left, the rest padding; as short as the longest row allows.

    >>> keep(torch.tensor([[2, 7, 8, 3]]), torch.tensor([[True, False, True, True]]), pad=0).tokens.tolist()
    [[2, 8, 3]]
    """
    counts = kept.sum(dim=1)
    length = int(counts.max())
    order = torch.argsort((~kept).to(torch.uint8), dim=1, stable=True)[:, :length]
    mask = torch.arange(length, device=tokens.device) < counts.unsqueeze(1)
    return Tokens(tokens.gather(1, order).masked_fill(~mask, pad), mask)


def _at_least_one(chosen: Bool[Tensor, "b l"], inner: Bool[Tensor, "b l"], chance: Tensor) -> Bool[Tensor, "b l"]:
    """`chosen`, and in a row without any the content token with the lowest draw."""
    lowest = chance.masked_fill(~inner, torch.inf).argmin(dim=1, keepdim=True)
    missing = inner.any(dim=1) & ~(chosen & inner).any(dim=1)
    return chosen | (torch.zeros_like(chosen).scatter(1, lowest, True) & missing.unsqueeze(1))


def delete(
    tokens: Int64[Tensor, "b l"], mask: Bool[Tensor, "b l"], p: float, generator: torch.Generator, *, pad: int = 0
) -> Tokens:
    """Leave out each token with probability `p`; start, end and at least one other stay."""
    inner, chance = content(mask), _uniform(tokens, generator)
    stays = _at_least_one(inner & (chance >= p), inner, 1 - chance)
    return keep(tokens, mask & (stays | ~inner), pad)


def random_span(
    inner: Bool[Tensor, "b l"], ratio: tuple[float, float], draws: Float[Tensor, "2 b"]
) -> Bool[Tensor, "b l"]:
    """A span of the tokens `inner` of each row: a share of their number drawn from `ratio`, at least one, anywhere it fits.

    `draws` are uniform in [0, 1): one for the length and one for the beginning of each.
    """
    counts = inner.sum(dim=1)
    share = ratio[0] + (ratio[1] - ratio[0]) * draws[0]
    size = (share * counts).long().clamp_min(1).minimum(counts)
    begin = 1 + (draws[1] * (counts - size + 1)).long().minimum(counts - size)
    place = torch.arange(inner.shape[1], device=inner.device)
    return (place >= begin.unsqueeze(1)) & (place < (begin + size).unsqueeze(1))


def crop(
    tokens: Int64[Tensor, "b l"],
    mask: Bool[Tensor, "b l"],
    ratio: tuple[float, float],
    generator: torch.Generator,
    *,
    pad: int = 0,
) -> Tokens:
    """A random span of each text between its start and end token: a share of its length drawn from `ratio`.

    Spans hold at least one token and begin anywhere they fit (Izacard et al., Contriever, TMLR 2022, arXiv:2112.09118).
    """
    inner = content(mask)
    span = random_span(inner, ratio, torch.rand(2, len(tokens), generator=generator, device=tokens.device))
    return keep(tokens, mask & (span | ~inner), pad)


class Masked(NamedTuple):
    """Tokens to see, and the tokens to be told at the hidden places (-100 elsewhere)."""

    tokens: Int64[Tensor, "b l"]
    targets: Int64[Tensor, "b l"]


def hide(
    tokens: Int64[Tensor, "b l"],
    mask: Bool[Tensor, "b l"],
    generator: torch.Generator,
    *,
    mask_id: int,
    vocabulary_size: int,
    p: float = 0.15,
    first: int = 5,
) -> Masked:
    """Choose tokens with probability `p`; show 80 % of them as the mask token, 10 % as a random one, 10 % as they are.

    At least one token of each text is chosen. Devlin et al., NAACL 2019, arXiv:1810.04805.
    """
    inner, chance = content(mask), _uniform(tokens, generator)
    chosen = _at_least_one(inner & (chance < p), inner, chance) & inner
    return _hidden(tokens, chosen, generator, mask_id=mask_id, vocabulary_size=vocabulary_size, first=first)


def hide_groups(
    tokens: Int64[Tensor, "b l"],
    mask: Bool[Tensor, "b l"],
    groups: Int64[Tensor, "b l"],
    generator: torch.Generator,
    *,
    mask_id: int,
    p: float = 0.15,
) -> Masked:
    """Hide all tokens of some groups (`groups` >= 0, such as the nodes of a page) until about a share `p` of each text is hidden.

    Groups are taken in random order while fewer than `p` of the row's grouped tokens are hidden; at least one group is.
    All hidden tokens are shown as the mask token.
    """
    inner = content(mask) & (groups >= 0)
    rows, _ = tokens.shape
    number = int(groups.max()) + 1 if bool(inner.any()) else 1
    sizes = torch.zeros(rows, number, device=tokens.device).scatter_add(1, groups.clamp_min(0), inner.float())
    draw = torch.rand(rows, number, generator=generator, device=tokens.device).masked_fill(sizes == 0, torch.inf)
    order = draw.argsort(dim=1)
    ranked = sizes.gather(1, order)
    before = ranked.cumsum(dim=1) - ranked  # tokens hidden before this group's turn
    taken = (before < p * sizes.sum(dim=1, keepdim=True)) & (ranked > 0)
    chosen_groups = torch.zeros_like(taken).scatter(1, order, taken)
    chosen = chosen_groups.gather(1, groups.clamp_min(0)) & inner
    targets = tokens.masked_fill(~chosen, -100)
    return Masked(tokens.masked_fill(chosen, mask_id), targets)


def _hidden(
    tokens: Tensor, chosen: Tensor, generator: torch.Generator, *, mask_id: int, vocabulary_size: int, first: int
) -> Masked:
    kind = _uniform(tokens, generator)
    random = torch.randint(first, vocabulary_size, tokens.shape, generator=generator, device=tokens.device)
    seen = torch.where(chosen & (kind < 0.8), torch.full_like(tokens, mask_id), tokens)
    seen = torch.where(chosen & (kind >= 0.8) & (kind < 0.9), random, seen)
    return Masked(seen, tokens.masked_fill(~chosen, -100))
