"""Losses that take samples out of an encoder without labels.

With e the embeddings of a batch, m their reconstruction errors under a model of the retained or of the forgotten
embeddings, and a = 1 - cos(new, old) how far an embedding has turned from where it was before,

    extractor_unlearning     = sum_retained rho(m) - sum_forgotten rho(m),     rho(m) = exp(m / (m + 1))
    representation_alignment = sum_retained [ a - log sum_forgotten exp(a / temperature) ].

Shen, Zhang, Zhao, Bialkowski, Chen & Xu, "Label-agnostic forgetting: a supervision-free unlearning in deep models", ICLR 2024,
arXiv:2404.00506.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity


def bounded_error(errors: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """``exp(m / (m + 1))`` of errors m >= 0: from 1 up to e. Its slope, ``rho / (m + 1) ** 2``, is gone where m is large.

    >>> bounded_error(torch.tensor([0.0, 1.0])).tolist()  # 1 and the root of e
    [1.0, 1.6487212181091309]
    """
    return torch.exp(errors / (errors + 1))


def extractor_unlearning(retained: Float[Tensor, " n"], forgotten: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """Small where retained embeddings are well reconstructed and forgotten ones badly.

    Parameters
    ----------
    retained, forgotten : (n,) and (m,) squared reconstruction errors, each under the model of its own set.

    >>> extractor_unlearning(torch.zeros(3), torch.zeros(2)).item()
    1.0
    """
    return bounded_error(retained).sum() - bounded_error(forgotten).sum()


def turned(new: Float[Tensor, "n d"], old: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """``1 - cos`` of each new embedding to the old one: 0 where it points as before, 2 where it points the other way.

    >>> turned(torch.eye(2), torch.tensor([[2.0, 0.0], [3.0, 0.0]])).tolist()
    [0.0, 1.0]
    """
    return 1 - cosine_similarity(new, old, dim=1)


def representation_alignment(
    retained: Float[Tensor, " n"], forgotten: Float[Tensor, " m"], temperature: float
) -> Float[Tensor, ""]:
    """Small where retained embeddings point as before and forgotten ones do not.

    The retained term is not divided by the temperature, as in the authors' code. Both terms are sums, so the weight of
    forgetting grows with the number of retained rows: keep batches equally large.

    Parameters
    ----------
    retained, forgotten : (n,) and (m,), see `turned`.
    temperature : above 0.

    >>> representation_alignment(torch.zeros(3), torch.zeros(1), 20.0).item()
    0.0
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    return (retained - torch.logsumexp(forgotten / temperature, dim=0)).sum()
