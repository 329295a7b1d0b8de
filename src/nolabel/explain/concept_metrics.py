"""How good a dictionary of concepts is, and how well importances say what the output does without a concept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from nolabel.assess.inputs import as_embeddings, as_pair
from nolabel.explain.attribution import responses
from nolabel.explain.dictionaries import Dictionary, learn_dictionary, unit

#: Rows that are compared with each other; more cost time and change little.
COMPARED = 4000
NEIGHBOUR = 50


def relative_error(activations: np.ndarray, reconstructed: np.ndarray) -> float:
    """||A - U V|| / ||A|| in the Frobenius norm.

    >>> relative_error(np.array([[3.0, 4.0]] * 2), np.array([[3.0, 1.0]] * 2))
    0.6
    """
    a, b = as_pair(activations, reconstructed, ("activations", "reconstructed"), same_width=True)
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(a)), 1e-30))


def share_of_zeros(coefficients: np.ndarray) -> float:
    """Share of coefficients (n, k) that are 0 but for rounding: below 1e-4 of the largest.

    >>> share_of_zeros(np.array([[0.0, 2.0], [1.0, 1e-9]]))
    0.5
    """
    u = np.abs(as_embeddings(coefficients, "coefficients", at_least=1))
    return float((u <= 1e-4 * u.max()).mean())


def matched_cosine(first: np.ndarray, second: np.ndarray, *, signed: bool = True) -> float:
    """Mean cosine of the concepts (k, p) of two dictionaries under the best one-to-one match (Hungarian method).

    Without `signed` a concept and its opposite are the same, as for principal directions.

    >>> matched_cosine(np.eye(3)[[2, 0]], -np.eye(3)[[0, 2]], signed=False)
    1.0
    """
    from scipy.optimize import linear_sum_assignment

    cosine = unit(first) @ unit(second).T
    cosine = cosine if signed else np.abs(cosine)
    return float(cosine[linear_sum_assignment(cosine, maximize=True)].mean())


def instability(
    activations: np.ndarray, n_concepts: int, method: str = "nmf", *, centred: bool = False, random_state: int = 0
) -> float:
    """1 - matched cosine between the dictionaries of two random halves of the activations (n, p): 0 is the same twice.

    Centroids all lie near the mean of the data, so that any match of them has a cosine near 1; `centred` takes the mean off the
    concepts before they are matched.
    """
    a = as_embeddings(activations, "activations", at_least=2 * n_concepts)
    order = np.random.default_rng(random_state).permutation(len(a))
    halves = (a[np.sort(order[: len(a) // 2])], a[np.sort(order[len(a) // 2 :])])
    mean = a.mean(axis=0) if centred else 0.0
    first, second = (
        learn_dictionary(half, n_concepts, method, random_state=random_state).concepts - mean for half in halves
    )
    return 1.0 - matched_cosine(first, second, signed=method not in ("pca", "svd"))


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet distance of two sets of rows taken as Gaussians (Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500).

        ||m1 - m2||^2 + trace(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2)

    Parameters
    ----------
    first, second : (n, p) and (m, p)

    >>> frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]]))
    17.0
    """
    a, b = (as_embeddings(x, name).astype(np.float64) for x, name in ((first, "first"), (second, "second")))
    one, two = (np.atleast_2d(np.cov(x, rowvar=False, bias=True)) for x in (a, b))
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    product = root @ two @ root
    cross = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(min=0)).sum()
    distance = float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + np.trace(one) + np.trace(two) - 2 * cross)
    return max(distance, 0.0)


def out_of_distribution(activations: np.ndarray, reconstructed: np.ndarray, *, random_state: int = 0) -> float:
    """Mean distance of reconstructed activations to their 50th nearest real ones, all of length 1: deep k-NN (Sun et al., ICML
    2022, arXiv:2204.06507). Low where reconstructions look like activations.

    Parameters
    ----------
    activations, reconstructed : (n, p), rows of the latter from the same rows of the former
    """
    from nolabel.ops import nearest

    a, b = as_pair(activations, reconstructed, ("activations", "reconstructed"), same_width=True)
    rows = np.sort(np.random.default_rng(random_state).permutation(len(a))[:COMPARED])
    k = min(NEIGHBOUR, len(rows))
    distances, _ = nearest(unit(b[rows]), unit(a[rows]), k, metric="euclidean")
    return float(distances[:, -1].mean())


def extraction_metrics(
    dictionary: Dictionary, held_out: np.ndarray, fitted: np.ndarray | None = None, *, random_state: int = 0
) -> dict[str, float]:
    """All measures of a dictionary on activations (n, p) that it has not seen; lower is better for all but ``zeros``.

    Parameters
    ----------
    fitted : the activations it was learned from; with them also ``relative error, fitted``, and their halves are what the
        instability is measured on; without them halves of `held_out`

    Returns
    -------
    ``relative error``, ``zeros``, ``instability`` (of ``kmeans`` also ``centred``), ``distribution gap`` (Fréchet), ``out of
    distribution``
    """
    a = as_embeddings(held_out, "held_out")
    u = dictionary.coefficients(a)
    back = dictionary.reconstruct(u)
    k = len(dictionary.concepts)
    found = {} if fitted is None else {
        "relative error, fitted": relative_error(fitted, dictionary.reconstruct(dictionary.coefficients(fitted)))
    }  # fmt: skip
    source = a if fitted is None else fitted
    found |= {"relative error": relative_error(a, back), "zeros": share_of_zeros(u)}
    if len(source) >= 2 * k:
        found["instability"] = instability(source, k, dictionary.method, random_state=random_state)
        if dictionary.method == "kmeans":
            found["instability, centred"] = instability(source, k, "kmeans", centred=True, random_state=random_state)
    found["distribution gap"] = frechet_distance(a, back)
    found["out of distribution"] = out_of_distribution(a, back, random_state=random_state)
    return found


def deletion_masks(order: Tensor) -> Tensor:
    """Masks (n, k + 1, k) that hide more and more concepts in `order` (n, k): all are kept at first, none at last."""
    n, k = order.shape
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(k).expand(n, k).contiguous())
    return (rank[:, None] >= torch.arange(k + 1)[None, :, None]).float()


def curve(f: Callable[[Tensor], Tensor], u: Tensor, masks: Tensor) -> Tensor:
    """f (b, outputs) of each sample under its own masks (n, m, k): (n, m, outputs)."""
    n, m, k = masks.shape
    shaped = masks.view(n, m, *(1,) * (u.ndim - 2), k)
    with torch.no_grad():
        found = [f((u[i : i + 64, None] * shaped[i : i + 64]).flatten(0, 1)) for i in range(0, n, 64)]
    return torch.cat(found).view(n, m, -1)


def area(values: Tensor) -> Tensor:
    """Area under curves (n, m, ...) over [0, 1] by trapezoids: (n, ...).

    >>> area(torch.tensor([[1.0, 0.5, 0.0]])).tolist()
    [0.5]
    """
    return torch.trapezoid(values, dx=1.0 / (values.shape[1] - 1), dim=1)


def deletion_and_insertion(f: Callable[[Tensor], Tensor], u: Tensor, importance: Tensor) -> tuple[Tensor, Tensor]:
    """C-Deletion and C-Insertion: mean area under f while concepts are hidden, or added, in falling order of importance.

    Parameters
    ----------
    f : coefficients (b, ..., k) to outputs (b, outputs), each of which gets an area
    u : (n, ..., k)
    importance : (n, k) of each sample

    Returns
    -------
    two tensors (outputs,): low deletion and high insertion say that the importances found what counts
    """
    masks = deletion_masks(importance.argsort(dim=1, descending=True, stable=True))
    hidden = curve(f, u, masks)
    added = curve(f, u, 1.0 - masks)
    return area(hidden).mean(0), area(added).mean(0)


def losses(
    f: Callable[[Tensor], Tensor], u: Tensor, *, subsets: int = 128, random_state: int = 0
) -> tuple[Tensor, Tensor]:
    """What f loses without random sets of concepts: the sets (subsets, k), 1 for what is left out, and f(u) - f (n, subsets).

    Parameters
    ----------
    f : coefficients (b, ..., k) to one output (b,)
    """
    generator = torch.Generator().manual_seed(random_state)
    chosen = (torch.rand((subsets, u.shape[-1]), generator=generator) < 0.5).float()
    with torch.no_grad():
        return chosen, f(u)[:, None] - responses(f, u, 1.0 - chosen)


def fidelity(chosen: Tensor, lost: Tensor, importance: Tensor) -> float:
    """C-muFidelity: correlation, over random sets of concepts, of their summed importance with what f loses without them.

    The mean over samples of Pearson's r (Bhatt et al., IJCAI 2020, arXiv:2005.00631); samples whose output or importances do
    not vary over the sets are left out. NaN if there is none.

    Parameters
    ----------
    chosen, lost : as `losses` gives them
    importance : (n, k) of each sample

    >>> sets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> round(fidelity(sets, torch.tensor([[2.0, -1.0, 1.0]]), torch.tensor([[2.0, -1.0]])), 6)
    1.0
    """
    claimed = importance @ chosen.T
    lost, claimed = (x.double() - x.double().mean(1, keepdim=True) for x in (lost, claimed))
    lengths = lost.norm(dim=1) * claimed.norm(dim=1)
    varies = lengths > 1e-12
    if not varies.any():
        return float("nan")
    return float(((lost * claimed).sum(1)[varies] / lengths[varies]).mean())
