"""The softmax over the passages of a batch, of which there may be more than queries."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy


def in_batch_softmax(
    queries: Float[Tensor, "n d"],
    passages: Float[Tensor, "m d"],
    *,
    temperature: float | Tensor = 1.0,
    symmetric: bool = False,
    ignored: Bool[Tensor, "n m"] | None = None,
    log_q: Float[Tensor, " m"] | None = None,
) -> Float[Tensor, ""]:
    """Return the loss of queries that must single out their own passage among all passages of the batch.

    The mean over queries of ``-log softmax(inner products / temperature)`` at their passage. Vectors are taken as they are.
    The matrix of all inner products is held in memory: for many more rows see `nolabel.objectives.info_nce`.

    Parameters
    ----------
    queries : (n, d)
    passages : (m >= n, d); row i < n answers query i, the others answer none (hard negatives).
    temperature : above 0; a float or a scalar tensor, which receives a gradient.
    symmetric : average with the loss of the first n passages singling out their queries.
    ignored : (n, m) True where a passage is no negative of a query, such as one that comes twice; a query's own passage
        always counts.
    log_q : (m,) log of how likely each passage comes into a batch, taken off its scores: without it what comes often is
        pushed away most (Yi et al., RecSys 2019). Of no part in the symmetric term.

    Raises
    ------
    ValueError
        Shapes that do not match, or a temperature not above 0.

    References
    ----------
    Karpukhin et al., EMNLP 2020, arXiv:2004.04906; symmetric: Zhou et al., ICLR 2024, arXiv:2212.07699.

    Examples
    --------
    >>> import torch
    >>> queries, passages = torch.eye(2), torch.cat([torch.eye(2), torch.zeros(1, 2)])
    >>> round(float(in_batch_softmax(queries, passages)), 4)  # log(e + 2) - 1
    0.5514
    """
    n, m = len(queries), len(passages)
    if queries.ndim != 2 or passages.ndim != 2 or queries.shape[1] != passages.shape[1] or m < n or n < 1:
        raise ValueError(
            f"queries and passages must be (n, d) and (m >= n, d), got {tuple(queries.shape)} and {tuple(passages.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {float(temperature)}")
    with torch.autocast(queries.device.type, enabled=False):
        scores = queries.float() @ passages.float().T / temperature  # (n, m)
    own = torch.arange(n, device=queries.device)
    if ignored is not None:
        if ignored.shape != scores.shape:
            raise ValueError(f"ignored must be {(n, m)}, got {tuple(ignored.shape)}")
        out = ignored.clone()
        out[own, own] = False
        scores = scores.masked_fill(out, -torch.inf)
    if log_q is not None and log_q.shape != (m,):
        raise ValueError(f"log_q must be {(m,)}, got {tuple(log_q.shape)}")
    loss = cross_entropy(scores if log_q is None else scores - log_q, own)
    return (loss + cross_entropy(scores[:, :n].T, own)) / 2 if symmetric else loss


def false_negatives(queries: Int64[Tensor, " n"], passages: Int64[Tensor, " m"]) -> Bool[Tensor, "n m"]:
    """Which passages of a batch answer a query without being in its row: the same passage again, or another answer.

    Parameters
    ----------
    queries : number of each query; equal queries have equal numbers
    passages : (m >= n) number of each passage; passage i < n answers query i

    >>> false_negatives(torch.tensor([1, 1, 5]), torch.tensor([4, 7, 9, 9])).long().tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]
    """
    n = len(queries)
    same = passages[:n].unsqueeze(1) == passages.unsqueeze(0)
    same[:, :n] |= queries.unsqueeze(1) == queries.unsqueeze(0)
    return same
