"""Losses on vectors with one non-negative number a word of the vocabulary (VDR: Zhou et al., ICLR 2024, arXiv:2212.07699)."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from nolabel.objectives.in_batch import in_batch_softmax


def elu1p(x: Tensor) -> Tensor:
    """``x + 1`` from 0 on and ``exp(x)`` below: above 0 everywhere, and smooth.

    >>> elu1p(torch.tensor([2.0, 0.0, -1.0]))
    tensor([3.0000, 1.0000, 0.3679])
    """
    return torch.where(x >= 0, x + 1, x.clamp_max(0).exp())


def word_bag(tokens: Int64[Tensor, "b l"], places: Int64[Tensor, " ids"], words: int) -> Bool[Tensor, "b v"]:
    """Which words a text contains: (b, words). `places` says which word each token id is; `words` means none.

    >>> word_bag(torch.tensor([[0, 5, 5, 3]]), torch.tensor([2, 2, 2, 0, 1, 1]), 2).tolist()
    [[True, True]]
    """
    bag = torch.zeros(len(tokens), words + 1, dtype=torch.bool, device=tokens.device)
    return bag.scatter_(1, places[tokens], True)[:, :words]


def sparsified(weights: Float[Tensor, "b v"], bag: Bool[Tensor, "b v"] | None, topk: int) -> Float[Tensor, "b v"]:
    """The `topk` largest weights of each row and those of the words in its text; 0 elsewhere.

    >>> weights, bag = torch.tensor([[3.0, 1.0, 2.0, 0.5]]), torch.tensor([[False, False, False, True]])
    >>> sparsified(weights, bag, 1)
    tensor([[3.0000, 0.0000, 0.0000, 0.5000]])
    """
    kept = torch.zeros_like(weights, dtype=torch.bool) if bag is None else bag.clone()
    if topk:
        kept.scatter_(1, weights.topk(topk, dim=1).indices, True)
    return weights * kept


def dealt_words(rows: int, present: Bool[Tensor, " v"]) -> Bool[Tensor, "n v"]:
    """Words that a batch lacks, dealt out: absent word j belongs to row ``j mod rows``.

    >>> dealt_words(2, torch.tensor([True, False, False, False])).long().tolist()
    [[0, 0, 1, 0], [0, 1, 0, 1]]
    """
    turn = torch.arange(len(present), device=present.device) % rows
    return (turn == torch.arange(rows, device=present.device).unsqueeze(1)) & ~present


def vocabulary_contrast(
    queries: Float[Tensor, "n v"],
    passages: Float[Tensor, "m v"],
    query_bag: Bool[Tensor, "n v"],
    passage_bag: Bool[Tensor, "m v"],
    *,
    topk: int,
    semi: bool = False,
    lexical: bool = True,
    lexical_passages: bool = True,
    contrastive_mask: bool = False,
    unit: bool = False,
    temperature: float | Tensor = 1.0,
    ignored: Bool[Tensor, "n m"] | None = None,
) -> dict[str, Tensor]:
    """Return the terms of VDR's loss, whose sum is the loss.

    With S the symmetric in-batch softmax of inner products, v the weights, v^s the sparsified ones and b bags of words,

        VDR:   ( S(v_q^s, v_p) + S(b_q, v_p) ) / 2
        SVDR:  ( S(v_q^s, v_p) + S(v_q, v_p^s) + S(b_q, v_p) + S(v_q, b_p) ) / 4

    Parameters
    ----------
    queries, passages : (n, v) and (m >= n, v) weights; row i < n of the passages answers query i.
    query_bag, passage_bag : which words the texts contain.
    topk : weights of a row that stay beside those of its own words.
    semi : SVDR, in which both sides are sparse in turn.
    lexical : with the terms of the bags of words.
    lexical_passages : passages have words of their own; images have none, and S(v_q, b_p) is left out.
    contrastive_mask : words that the batch lacks are dealt out to the bags of its rows and 0 in the vectors of the same rows: all
        other rows then learn to leave them alone.
    unit : bags of words have length 1, as the weights have.
    temperature, ignored : see `in_batch_softmax`.

    Examples
    --------
    >>> v, bag = 4 * torch.eye(2), torch.eye(2) > 0
    >>> {name: round(float(term), 4) for name, term in vocabulary_contrast(v, v, bag, bag, topk=1).items()}
    {'weights': 0.0, 'words': 0.0091}
    """
    options: dict[str, Any] = {"temperature": temperature, "symmetric": True, "ignored": ignored}

    def contrast(first: Tensor, second: Tensor) -> Tensor:
        return in_batch_softmax(first, second, **options)

    weights = [contrast(sparsified(queries, query_bag, topk), passages)]
    if semi:
        weights.append(contrast(queries, sparsified(passages, passage_bag, topk)))
    words: list[Tensor] = []
    if lexical:
        if contrastive_mask:
            n, present = len(queries), query_bag.any(dim=0) | passage_bag.any(dim=0)
            of_queries, of_passages = dealt_words(n, present), dealt_words(len(passages), present)
            query_bag, passage_bag = query_bag | of_queries, passage_bag | of_passages
            passages, queries = torch.cat([passages[:n] * ~of_queries, passages[n:]]), queries * ~of_passages[:n]
        words.append(contrast(_bag_vector(query_bag, unit), passages))
        if semi and lexical_passages:
            words.append(contrast(queries, _bag_vector(passage_bag, unit)))
    share = 1 / len(weights + words)
    terms = {"weights": share * torch.stack(weights).sum()}
    return terms | ({"words": share * torch.stack(words).sum()} if words else {})


def _bag_vector(bag: Tensor, unit: bool) -> Tensor:
    return normalize(bag.float(), dim=1) if unit else bag.float()
