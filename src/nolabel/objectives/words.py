"""Bags of visual words: which words of a vocabulary occur in an image, and how well they are predicted.

A location u of a feature map is compared with K words w by squared distance, relative to a running scale s (how far
locations lie from their nearest word, on average):

    code_u = softmax_k( -inverse_temperature * |u - w_k|^2 / s ),    or one-hot at the nearest word

The bag of an image is the largest (or mean) code over its locations, divided by its sum.

Gidaris, Bursuc, Puy, Komodakis, Cord & Pérez, "OBoW: online bag-of-visual-words generation for self-supervised learning",
CVPR 2021, arXiv:2012.11552.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, one_hot

# distances held at once: on a CPU as many as stay in the cache
CACHED, ON_DEVICE = 2**19, 2**26

POOLS = ("max", "average")


def _check(maps: Tensor, words: Tensor) -> None:
    if maps.ndim != 4 or 0 in maps.shape:
        raise ValueError(f"maps must be (images, channels, h, w) with at least one of each, got {tuple(maps.shape)}")
    if words.ndim != 2 or len(words) < 2 or words.shape[1] != maps.shape[1]:
        raise ValueError(f"words must be (k >= 2, {maps.shape[1]}) for these maps, got {tuple(words.shape)}")


def _distances(maps: Tensor, words: Tensor) -> Iterator[Float[Tensor, "some places k"]]:
    """Squared distances of every location to every word, some images at a time."""
    words = words.detach().float()
    c, h, w = maps.shape[1:]
    at_once = max(1, (CACHED if maps.device.type == "cpu" else ON_DEVICE) // (h * w * len(words)))
    lengths = words.square().sum(dim=1)  # (k,)
    for some in maps.detach().split(at_once):
        places = some.float().flatten(2).mT.reshape(-1, c)  # (some * places, c)
        with torch.autocast(maps.device.type, enabled=False):
            distances = torch.addmm(lengths, places, words.T, alpha=-2)
        distances += places.square().sum(dim=1, keepdim=True)
        yield distances.clamp_(min=0).view(len(some), h * w, -1)  # rounding may have gone below 0


@torch.no_grad()
def nearest_distance(maps: Float[Tensor, "b c h w"], words: Float[Tensor, "k c"]) -> Float[Tensor, ""]:
    """Return the mean over all locations of the squared distance to the nearest word: what the running scale follows.

    Raises
    ------
    ValueError
        Shapes that do not fit.

    Examples
    --------
    >>> float(nearest_distance(torch.full((1, 2, 3, 3), 1.0), torch.tensor([[1.0, 3.0], [9.0, 9.0]])))
    4.0
    """
    _check(maps, words)
    nearest = [distances.amin(dim=2).sum() for distances in _distances(maps, words)]
    return torch.stack(nearest).sum() / (len(maps) * maps.shape[2] * maps.shape[3])


def soft_codes(
    distances: Float[Tensor, "*rows k"], scale: Tensor | float, *, inverse_temperature: float | None = 10.0
) -> Float[Tensor, "*rows k"]:
    """Return how much each location is of each word, given squared distances: rows sum to 1.

    Parameters
    ----------
    distances : (..., k) squared distances to k words.
    scale : distance that counts as one, above 0.
    inverse_temperature : higher is harder; ``None`` is all on the nearest word.

    Raises
    ------
    ValueError
        Scale or inverse temperature not above 0.

    Examples
    --------
    >>> import math
    >>> soft_codes(torch.tensor([0.0, math.log(3) / 5]), 2.0, inverse_temperature=10.0)
    tensor([0.7500, 0.2500])
    """
    if inverse_temperature is None:
        return one_hot(distances.argmin(dim=-1), distances.shape[-1]).to(distances.dtype)
    if not inverse_temperature > 0:
        raise ValueError(f"inverse_temperature must be above 0 or None, got {inverse_temperature}")
    if not scale > 0:
        raise ValueError(f"scale must be above 0, got {float(scale)}")
    return (distances * (-inverse_temperature / scale)).softmax(dim=-1)


@torch.no_grad()
def bag_of_words(
    maps: Float[Tensor, "b c h w"],
    words: Float[Tensor, "k c"],
    scale: Tensor | float,
    *,
    inverse_temperature: float | None = 10.0,
    pool: str = "max",
) -> Float[Tensor, "b k"]:
    """Return which words occur in each image: a distribution over the words, without gradient.

    Memory does not grow with the batch: some images are coded at a time.

    Parameters
    ----------
    maps : (b, c, h, w) feature maps; all their locations count.
    words : (k, c) vocabulary.
    scale, inverse_temperature : of the codes, as in `soft_codes`.
    pool : ``max`` over locations (a word occurs or not) or ``average`` (how often).

    Raises
    ------
    ValueError
        Shapes that do not fit, an unknown pool, a scale or inverse temperature not above 0, values not finite.

    References
    ----------
    Gidaris et al. 2021, arXiv:2012.11552.

    Examples
    --------
    >>> maps = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 2, 2)  # each word occurs, none more than the other
    >>> bag_of_words(maps, torch.tensor([[0.0], [1.0], [5.0]]), 1.0, inverse_temperature=None)
    tensor([[0.5000, 0.5000, 0.0000]])
    """
    _check(maps, words)
    if pool not in POOLS:
        raise ValueError(f"pool must be one of {', '.join(POOLS)}, got {pool!r}")
    bags = []
    for distances in _distances(maps, words):
        codes = soft_codes(distances, scale, inverse_temperature=inverse_temperature)  # (some, places, k)
        bags.append(codes.amax(dim=1) if pool == "max" else codes.mean(dim=1))
    bag = torch.cat(bags)
    if not torch.isfinite(bag).all():
        raise ValueError("maps and words must be finite, got NaN or infinity among them")
    return bag / bag.sum(dim=1, keepdim=True)


@torch.no_grad()
def location_perplexity(
    maps: Float[Tensor, "b c h w"],
    words: Float[Tensor, "k c"],
    scale: Tensor | float,
    *,
    inverse_temperature: float | None = 10.0,
) -> Float[Tensor, ""]:
    """Return over how many words the code of a single location is spread, on average: 1 to k.

    A bag of few words holds nearly all of them because an image has many locations; this tells whether each of them does.

    Parameters
    ----------
    maps, words, scale, inverse_temperature : as in `bag_of_words`.

    Raises
    ------
    ValueError
        Shapes that do not fit, a scale or inverse temperature not above 0.

    Examples
    --------
    >>> maps, words = torch.tensor([0.0, 0.5]).view(1, 1, 1, 2), torch.tensor([[0.0], [1.0]])
    >>> location_perplexity(maps, words, 1.0, inverse_temperature=100.0)  # one word, and half of each of two
    tensor(1.5000)
    """
    _check(maps, words)
    spread = [
        perplexity(soft_codes(distances, scale, inverse_temperature=inverse_temperature)).sum()
        for distances in _distances(maps, words)
    ]
    return torch.stack(spread).sum() / (len(maps) * maps.shape[2] * maps.shape[3])


def word_prediction(logits: Float[Tensor, "*crops b k"], target: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Return OBoW's loss: the mean divergence KL(target || softmax(logits)) of predicted bags of words.

    Parameters
    ----------
    logits : (b, k), or (crops, b, k) for several crops of the same images.
    target : (b, k) distributions over the words, as from `bag_of_words`; no gradient goes there.

    Raises
    ------
    ValueError
        Shapes that do not fit.

    References
    ----------
    Gidaris et al. 2021, arXiv:2012.11552.

    Examples
    --------
    >>> round(float(word_prediction(torch.zeros(1, 4), torch.tensor([[0.5, 0.5, 0.0, 0.0]]))), 4)  # ln 2
    0.6931
    """
    if target.ndim != 2 or logits.shape[-2:] != target.shape or logits.numel() == 0:
        raise ValueError(
            f"logits must be (crops, b, k) or (b, k) for a target (b, k), got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    log_predicted = log_softmax(logits.float(), dim=-1)
    rows = logits.numel() // logits.shape[-1]
    return kl_div(log_predicted, target.detach().float().expand_as(log_predicted), reduction="sum") / rows


def perplexity(shares: Float[Tensor, "*rows k"]) -> Float[Tensor, "*rows"]:
    """Return the exponential of the entropy of each row: how many words it is spread over, from 1 to k.

    Examples
    --------
    >>> perplexity(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))
    tensor([2., 1.])
    """
    return torch.special.entr(shares.float()).sum(dim=-1).exp()
