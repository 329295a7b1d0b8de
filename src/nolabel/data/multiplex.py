"""A multiplex graph as the tensors that are learned from: smoothed features, and normalised edges of every layer."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from nolabel.data.fingerprints import fingerprint
from nolabel.data.parts import Whole
from nolabel.ops.graphs import normalised, sparse_matrix, spectral_features, with_loops

#: Eigenvectors that stand for features where a graph has none.
STRUCTURAL = 128


def multiplex_source(
    graph: Any,
    hops: int,
    names: Sequence[str] | None = None,
    *,
    centre: bool = True,
    mean: Float[Tensor, " f"] | None = None,
) -> Whole:
    """The source of a graph that is seen whole, under the key ``graph``.

    Its item is a ``Data`` of ``features`` float32 (n, (V + 1) f): rows of ``A_v^hops X`` for each layer v, then of X, each block
    at unit length; ``edges`` (2, e) of all layers one after the other, with loops; ``weights`` (e,), symmetrically normalised;
    ``sizes`` (V,), edges of each; ``mean`` (f,), what was taken off X; ``names``; ``told``, whether there were features: a graph
    without any gets the leading eigenvectors of the mean of its layers.

    Parameters
    ----------
    graph : from `nolabel.data.graphs.read_graph`
    hops : from 1
    names : the layers in the order wanted; by default as they come
    centre : take the mean of every feature off: what all nodes have in common tells none of them apart
    mean : take this off instead

    Raises
    ------
    ValueError : the layers have other names, or a step would not fit into memory

    Warns
    -----
    UserWarning : features that are all zero
    """
    from torch_geometric.data import Data

    there = [kind[1] for kind in graph.edge_types]
    names = there if names is None else list(names)
    if sorted(there) != sorted(names):
        raise ValueError(f"the graph must have the layers {', '.join(names)} of the fit, got {', '.join(there)}")
    n = int(graph["node"].num_nodes)
    edges = [with_loops(graph["node", name, "node"].edge_index, n) for name in names]
    weights = [normalised(each, torch.ones(each.shape[1]), n) for each in edges]
    matrices = [sparse_matrix(*pair, n) for pair in zip(edges, weights)]
    x = graph["node"].x if "x" in graph["node"] else spectral_features(matrices, min(STRUCTURAL, n - 1))
    _require_memory(n, x.shape[1], edges)
    if mean is None:
        mean = x.mean(dim=0) if centre else torch.zeros(x.shape[1])
    if len(mean) != x.shape[1]:
        raise ValueError(f"X must have the {len(mean)} features of the fit, got {x.shape[1]}")
    empty = int((x == 0).all(dim=1).sum())
    if empty:
        warnings.warn(f"X: {empty:,} rows are all zero: such nodes are told by their neighbours", stacklevel=4)
    item = Data(
        features=_smoothed(x - mean, matrices, hops),
        edges=torch.cat(edges, dim=1),
        weights=torch.cat(weights),
        sizes=torch.tensor([each.shape[1] for each in edges]),
        mean=mean,
        names=names,
        told="x" in graph["node"],
    )
    return Whole(item, "graph", fingerprint({"x": x, **dict(zip(names, edges))}))


def layers_of(graph: Any) -> list[tuple[Tensor, Tensor]]:
    """Edges and weights of each layer."""
    sizes = graph.sizes.tolist()
    return list(zip(graph.edges.split(sizes, dim=1), graph.weights.split(sizes)))


def seen_by_learners(graph: Any) -> list[Tensor]:
    """The smoothed features of each layer, and everything."""
    count = len(graph.sizes)
    return [*graph.features.chunk(count + 1, dim=1)[:count], graph.features]


def plain_features(graph: Any) -> Tensor:
    """X, rows at unit length."""
    return graph.features.chunk(len(graph.sizes) + 1, dim=1)[-1]


def _smoothed(x: Tensor, matrices: list[Tensor], hops: int) -> Tensor:
    plain = normalize(x, dim=1)
    blocks = []
    for matrix in matrices:
        block = plain
        for _ in range(hops):
            block = matrix @ block
        blocks.append(normalize(block, dim=1))
    return torch.cat([*blocks, plain], dim=1)


def _require_memory(n: int, width: int, edges: list[Tensor]) -> None:
    """Refuse a graph whose step would not fit: learners keep about five copies of what they see, the network two of X."""
    views = len(edges)
    copies = (views + 1) + 5 * (2 * views + 1) + 2 * (2 * views + 1)
    need, there = 4 * n * width * copies + sum(64 * each.shape[1] for each in edges), _memory()
    if need > there:
        raise ValueError(
            f"a step on {n:,} nodes with {width:,} features and {views} layers needs about {need / 2**30:.1f} GiB of memory, "
            f"there are {there / 2**30:.1f}: reduce the features, such as by sklearn's TruncatedSVD, or "
            "take fewer nodes"
        )


def _memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
