"""The highest score that any vector of a set gives to each of many others, without keeping all scores."""

import warnings
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_TILE = {"cpu": 2**19}  # scores at a time: on a CPU, what fits in the cache
_TILE_ELSEWHERE = 2**26


class _MaxScores(torch.autograd.Function):
    """Forward a tile of sets at a time; backward through the winners alone, of which each set has one a word."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, mask: Tensor, words: Tensor) -> Tensor:
        b, length, _ = states.shape
        learns = any(ctx.needs_input_grad)
        best = states.new_empty(b, len(words))
        winner = torch.empty(b if learns else 0, len(words), dtype=torch.int32, device=states.device)
        size = max(1, _TILE.get(states.device.type, _TILE_ELSEWHERE) // max(length * len(words), 1))
        for start in range(0, b, size):
            part = slice(start, start + size)
            real = mask[part].any(dim=0).nonzero()
            first, last = int(real[0]), int(real[-1]) + 1  # all else in the tile is padding
            inside = mask[part, first:last]
            scores = states[part, first:last] @ words.T  # (t, l, v)
            if not inside.all():
                scores.masked_fill_(~inside.unsqueeze(2), -torch.inf)
            if learns:
                best[part], where = scores.max(dim=1)
                winner[part] = where.int() + first
            else:
                best[part] = scores.amax(dim=1)
        ctx.save_for_backward(states, words, winner)
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        states, words, winner = ctx.saved_tensors
        b, length, d = states.shape
        v = len(words)
        rows = winner.long() + length * torch.arange(b, device=states.device).unsqueeze(1)  # (b, v), of all states
        of_states = of_words = None
        if ctx.needs_input_grad[0]:
            of_states = states.new_zeros(b * length, d)
            size = max(1, _TILE.get(states.device.type, _TILE_ELSEWHERE) // max(v * d, 1))
            for start in range(0, b, size):
                part = slice(start, start + size)
                moved = (slope[part].unsqueeze(2) * words).flatten(0, 1)  # (t v, d)
                of_states.index_add_(0, rows[part].flatten(), moved)
            of_states = of_states.view(b, length, d)
        if ctx.needs_input_grad[2]:
            with warnings.catch_warnings():  # PyTorch calls its sparse matrices a beta
                warnings.simplefilter("ignore", UserWarning)
                bounds = torch.arange(0, v * b + 1, b, device=states.device)
                shares = torch.sparse_csr_tensor(bounds, rows.T.flatten(), slope.T.flatten(), (v, b * length))
                of_words = shares @ states.reshape(b * length, d)
        return of_states, None, of_words


def max_scores(
    states: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"], words: Float[Tensor, "v d"]
) -> Float[Tensor, "b v"]:
    """Return ``max over l of states[b, l] . words[v]`` over the real tokens of each text.

    The same as the plain formula, but for ties, whose gradient goes to the first. Memory stays near b v instead of b l v,
    and the backward pass costs little, for it visits one token a text and word.

    Parameters
    ----------
    states : (b, l, d), computed in float32, under autocast too.
    mask : (b, l) True at real tokens, of which each text has at least one; padding does not change the result.
    words : (v, d)

    Raises
    ------
    ValueError
        Shapes that do not match, or a text without a real token.

    Examples
    --------
    >>> states = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])
    >>> max_scores(states, torch.tensor([[True, True, False]]), torch.eye(2))
    tensor([[1., 2.]])
    """
    if states.ndim != 3 or mask.shape != states.shape[:2] or words.ndim != 2 or words.shape[1] != states.shape[2]:
        came = f"{tuple(states.shape)}, {tuple(mask.shape)} and {tuple(words.shape)}"
        raise ValueError(f"states, mask and words must be (b, l, d), (b, l) and (v, d), got {came}")
    if not mask.any(dim=1).all():
        raise ValueError("mask: each text needs at least one real token")
    with torch.autocast(states.device.type, enabled=False):
        best: Tensor = _MaxScores.apply(states.float(), mask, words.float())
    return best
