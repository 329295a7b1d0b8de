"""Graphs as lists of weighted edges: normalised, thinned out, gated, and made of nearest neighbours with their gradient.

A graph of n nodes is a matrix `edges` (2, e) of row and column numbers, each pair at most once and in the order of rows, then
columns, and `weights` (e,). Nothing here stores an (n, n) matrix. The graph of neighbours is

    s_ij = h_i . h_j                     for j among the k nearest of i, and i itself; 0 elsewhere
    S <- ReLU((S + S^T) / 2),            A = D^-1/2 S D^-1/2

with rows h of unit length. Which neighbours are kept has no gradient; the weights of those that are have it in full.
"""

import warnings
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHUNK = 2**24  # numbers in memory at a time
_LEAST_DEGREE = 1e-12


def require_geometric() -> Any:
    """The package ``torch_geometric``, or an error that says how to install it."""
    try:
        import torch_geometric
        import torch_geometric.data
    except ImportError:
        raise ImportError("graphs need PyTorch Geometric: pip install 'nolabel[graph]'") from None
    return torch_geometric


def ordered_edges(edges: Int64[Tensor, "2 e"], nodes: int) -> tuple[Int64[Tensor, "2 u"], Int64[Tensor, " e"]]:
    """Each edge once, by row and then column, and for every edge given its place among these.

    >>> edges, places = ordered_edges(torch.tensor([[1, 0, 1], [0, 1, 0]]), 2)
    >>> edges.tolist(), places.tolist()
    ([[0, 1], [1, 0]], [1, 0, 1])
    """
    keys, places = torch.unique(edges[0] * nodes + edges[1], return_inverse=True)
    return torch.stack([torch.div(keys, nodes, rounding_mode="floor"), keys % nodes]), places


def with_loops(edges: Int64[Tensor, "2 e"], nodes: int) -> Int64[Tensor, "2 u"]:
    """The edges with an edge from every node to itself, in order.

    >>> with_loops(torch.tensor([[0], [1]]), 2).tolist()
    [[0, 0, 1], [0, 1, 1]]
    """
    own = torch.arange(nodes, device=edges.device)
    return ordered_edges(torch.cat([edges, torch.stack([own, own])], dim=1), nodes)[0]


def normalised(
    edges: Int64[Tensor, "2 e"], weights: Float[Tensor, " e"], nodes: int, *, eps: float = _LEAST_DEGREE
) -> Float[Tensor, " e"]:
    """Symmetric normalisation ``w_ij / sqrt(d_i d_j)``, d the sums of rows; differentiable. Nodes without edges stay so.

    >>> normalised(torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]]), torch.tensor([1.0, 3.0, 3.0, 6.0]), 2)
    tensor([0.2500, 0.5000, 0.5000, 0.6667])
    """
    degree = weights.new_zeros(nodes).index_add(0, edges[0], weights)
    scale = degree.clamp_min(eps).rsqrt()
    return weights * scale[edges[0]] * scale[edges[1]]


def sparse_matrix(
    edges: Int64[Tensor, "2 e"], weights: Float[Tensor, " e"], nodes: int
) -> Float[Tensor, "nodes nodes"]:
    """The graph as a sparse tensor in compressed rows, as the layers of PyTorch Geometric take it; `weights` keep their gradient.

    >>> sparse_matrix(torch.tensor([[0, 1], [1, 0]]), torch.tensor([0.5, 2.0]), 2).to_dense().tolist()
    [[0.0, 0.5], [2.0, 0.0]]
    """
    ends = torch.bincount(edges[0], minlength=nodes).cumsum(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")  # of a beta state, and of checks that are off
        return torch.sparse_csr_tensor(torch.cat([ends.new_zeros(1), ends]), edges[1], weights, (nodes, nodes))


class _EdgeProducts(torch.autograd.Function):
    """Inner products of the two ends of every edge. The gradient of one end is a sum over its edges: a sparse product."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, edges: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, edges)
        places = sparse_matrix(edges, vectors.new_zeros(edges.shape[1]), len(vectors))
        return torch.sparse.sampled_addmm(places, vectors, vectors.T, beta=0.0).values()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        vectors, edges = ctx.saved_tensors
        both, places = ordered_edges(torch.cat([edges, edges.flip(0)], dim=1), len(vectors))
        summed = gradient.new_zeros(both.shape[1]).index_add_(0, places, torch.cat([gradient, gradient]))
        return sparse_matrix(both, summed, len(vectors)) @ vectors, None


def edge_products(vectors: Float[Tensor, "n d"], edges: Int64[Tensor, "2 e"]) -> Float[Tensor, " e"]:
    """Inner products of the vectors at both ends of each edge, differentiable once; memory does not grow with e times d.

    >>> edge_products(torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0, 1], [1, 1]]))
    tensor([0.6000, 1.0000])
    """
    with torch.autocast(vectors.device.type, enabled=False):
        return _EdgeProducts.apply(vectors.float() if vectors.dtype.itemsize < 4 else vectors, edges)


@torch.no_grad()
def nearest_nodes(vectors: Float[Tensor, "n d"], k: int, *, block: int | None = None) -> Int64[Tensor, "n k1"]:
    """For each node itself and the k others with the largest inner product, by number; no gradient.

    A block of rows is compared with all nodes at a time, on the device of the vectors.

    Parameters
    ----------
    vectors : (n, d), of unit length for cosines.
    k : from 1 to n - 1.
    block : rows of a block; by default as many as make about 16 million similarities.

    Raises
    ------
    ValueError
        k or block out of range.

    >>> nearest_nodes(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]]), 1).tolist()
    [[0, 2], [1, 2], [0, 2]]
    """
    n = len(vectors)
    if not 1 <= k < n:
        raise ValueError(f"k must be from 1 to {n - 1}, the other nodes there are, got {k}")
    step = max(1, _CHUNK // n) if block is None else block
    if step < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    found = []
    with torch.autocast(vectors.device.type, enabled=False):
        for start in range(0, n, step):
            alike = vectors[start : start + step] @ vectors.T
            alike.diagonal(start).fill_(torch.inf)  # a node is kept whatever is as near to it as it is itself
            found.append(alike.topk(k + 1, dim=1, sorted=False).indices)
    return torch.cat(found).sort(dim=1).values


def neighbour_graph(
    vectors: Float[Tensor, "n d"], neighbours: Int64[Tensor, "n k1"]
) -> tuple[Int64[Tensor, "2 e"], Float[Tensor, " e"]]:
    """The normalised graph of the kept neighbours, with the gradient of its weights; see the head of this file.

    Parameters
    ----------
    vectors : (n, d) of unit length or 0.
    neighbours : (n, k + 1) from `nearest_nodes`, of these vectors or of earlier ones.

    Returns
    -------
    edges (2, e) in both directions, and weights (e,), not negative. An edge that the ReLU cuts stays with weight 0.

    >>> h = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    >>> neighbour_graph(h, nearest_nodes(h, 1))[1]  # degrees 1.8: 1 / 1.8 and 0.8 / 1.8
    tensor([0.5556, 0.4444, 0.4444, 0.5556])
    """
    n, kept = neighbours.shape
    rows = torch.arange(n, device=vectors.device).repeat_interleave(kept)
    directed = torch.stack([rows, neighbours.reshape(-1)])
    similarity = edge_products(vectors, directed)
    edges, places = ordered_edges(torch.cat([directed, directed.flip(0)], dim=1), n)
    halves = torch.cat([similarity, similarity]) / 2
    weights = halves.new_zeros(edges.shape[1]).index_add(0, places, halves).relu()
    return edges, normalised(edges, weights, n)


def without_some(
    edges: Int64[Tensor, "2 e"], weights: Float[Tensor, " e"], share: float, generator: torch.Generator
) -> tuple[Int64[Tensor, "2 r"], Float[Tensor, " r"]]:
    """Take off-diagonal entries away at random, each by itself; those that stay are divided by ``1 - share``, loops are kept.

    >>> edges = torch.tensor([[0, 0, 1], [0, 1, 0]])
    >>> kept, weights = without_some(edges, torch.ones(3), 0.999, torch.Generator().manual_seed(0))
    >>> kept.tolist(), weights.tolist()
    ([[0], [0]], [1.0])
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"share must lie in [0, 1), got {share}")
    loop = edges[0] == edges[1]
    drawn = torch.rand(edges.shape[1], generator=generator, device=edges.device)
    stays = loop | (drawn >= share)
    return edges[:, stays], torch.where(loop, weights, weights / (1 - share))[stays]


def concrete_gate(
    logits: Float[Tensor, "*n"], uniform: Float[Tensor, "*n"], *, temperature: float = 1.0, bias: float = 1e-4
) -> Float[Tensor, "*n"]:
    """Relaxed Bernoulli samples ``sigmoid((logit(eps) + logits) / temperature)``, eps from `bias` to ``1 - bias``.

    Parameters
    ----------
    logits : of the probability to be open.
    uniform : numbers in [0, 1) of the same shape.
    temperature : above 0; the lower, the nearer to 0 or 1.
    bias : from 0 to 0.5, which makes eps the constant 0.5.

    References
    ----------
    Maddison, Mnih and Teh, ICLR 2017, arXiv:1611.00712.

    >>> concrete_gate(torch.zeros(2), torch.tensor([0.5, 0.9]), bias=0.0)
    tensor([0.5000, 0.9000])
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if not 0.0 <= bias <= 0.5:
        raise ValueError(f"bias must lie in [0, 0.5], got {bias}")
    eps = (bias + (1 - 2 * bias) * uniform).clamp(1e-6, 1 - 1e-6)
    return ((torch.logit(eps) + logits) / temperature).sigmoid()


def spectral_features(graphs: list[Tensor], dim: int) -> Float[Tensor, "n d2"]:
    """Features out of structure: the `dim` leading eigenvectors of the mean of normalised graphs, split by sign.

    Eigenvectors are scaled by the root of their eigenvalue. Column ``dim + i`` holds what of column i was negative, so that
    none of the 2 * dim columns is; what a ReLU lets through is then everything.

    Parameters
    ----------
    graphs : sparse (n, n), symmetric, normalised.
    dim : from 1 to n - 1.

    >>> pairs = sparse_matrix(torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]]), torch.ones(4), 4)
    >>> spectral_features([pairs], 2).shape
    torch.Size([4, 4])
    """
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import eigsh

    n = graphs[0].shape[0]
    if not 1 <= dim < n:
        raise ValueError(f"dim must be from 1 to {n - 1}, got {dim}")
    parts = [
        csr_array((g.values().numpy(), g.col_indices().numpy(), g.crow_indices().numpy()), shape=(n, n)) for g in graphs
    ]
    mean = sum(parts[1:], parts[0]) / len(parts)
    start = torch.ones(n).numpy() / n**0.5  # the same in every run
    values, vectors = eigsh(mean.astype("float64"), k=dim, which="LA", v0=start)
    scaled = torch.from_numpy(vectors * values.clip(0) ** 0.5).float()
    return torch.cat([scaled.relu(), (-scaled).relu()], dim=1)
