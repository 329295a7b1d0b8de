"""Multiplex graphs: nodes with features, and several kinds of edges among them.

Whatever it is read from, a graph comes out as PyTorch Geometric's `HeteroData` with one node type, ``node``, and one edge type
``("node", NAME, "node")`` a layer: undirected, without weights, without loops, each edge once in both directions.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from nolabel.data.graph_files import entries, graph_parts, holds_graph

NODE = "node"


@dataclass(frozen=True)
class LayerCounts:
    """What was found in one layer.

    Attributes
    ----------
    edges : undirected edges that were kept
    loops : edges from a node to itself, left out
    duplicates : edges that were there before, left out; the other direction of an undirected edge is none
    one_way : edges that had no edge back and were given one: all, in a list that names each edge once
    isolated : nodes without an edge
    """

    edges: int
    loops: int
    duplicates: int
    one_way: int
    isolated: int


def read_graph(source: Any) -> Any:
    """Read a multiplex graph as a `HeteroData`.

    Parameters
    ----------
    source :
        * ``.npz`` file: layer NAME as ``NAME_data``, ``NAME_indices``, ``NAME_indptr``, ``NAME_shape`` (scipy's compressed rows;
          every square one is a layer), features as a dense or such a sparse ``x``, and arrays with an entry a node, such as ``y``
        * folder with ``nodes.parquet`` (or ``.csv``: a column ``id``, columns of numbers or one of vectors as features) and an
          ``edges_NAME.parquet`` a layer with the columns ``source`` and ``target``, and ``weight`` if there are weights
        * ``(X, graphs)``: features (n, f) or None, and a list or dict of (n, n) matrices, dense or scipy's
        * ``HeteroData`` with one node type, or ``Data`` whose ``edge_type`` tells the layers

    Returns
    -------
    HeteroData : ``data["node"].x`` float32 (n, f), absent without features; ``.num_nodes``; ``.ids``, a list; ``.columns``, the
        other columns of the nodes, a dict of lists (labels are among them, and are never learned from);
        ``data["node", NAME, "node"].edge_index`` int64 (2, e); ``data.counts``, `LayerCounts` as a dict by layer

    Raises
    ------
    ImportError : without PyTorch Geometric
    FileNotFoundError : no such path
    TypeError : a source of another kind
    ValueError : fewer than two layers, a layer of another size, edges to nodes that are not there, weights that are negative or
        no numbers, features that are not finite or not one row a node, more than one node type

    Warns
    -----
    UserWarning : a directed layer, whose edges are given their way back (in tables: only where some edges have theirs)

    >>> import numpy as np
    >>> ring, star = np.roll(np.eye(4), 1, axis=1), np.array([[0, 1, 1, 1], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    >>> graph = read_graph((np.eye(4), {"ring": ring + ring.T, "star": star}))
    >>> graph["node", "star", "node"].edge_index.tolist(), graph.counts["star"]["edges"]
    ([[0, 0, 0, 1, 2, 3], [1, 2, 3, 0, 0, 0]], 3)
    """
    if isinstance(source, str | os.PathLike):
        return assembled(**graph_parts(Path(source)))
    if isinstance(source, tuple) and len(source) == 2:
        return _from_matrices(*source)
    if hasattr(source, "node_types") or hasattr(source, "edge_index"):
        return _from_geometric(source)
    raise TypeError(
        f"source: expected an .npz file, a folder of tables, (X, graphs), HeteroData or Data, got {type(source).__name__}"
    )


def is_graph(source: Any) -> bool:
    """Whether a path, or an object, is one that `read_graph` takes rather than a table."""
    if isinstance(source, str | os.PathLike):
        return holds_graph(Path(source))
    return hasattr(source, "edge_types") or hasattr(source, "edge_index")


def _from_matrices(x: Any, graphs: Any) -> Any:
    if not isinstance(graphs, Mapping | Sequence):
        raise TypeError(f"graphs: expected a list or dict of (n, n) matrices, got {type(graphs).__name__}")
    named = dict(graphs) if isinstance(graphs, Mapping) else {f"layer{i}": g for i, g in enumerate(graphs)}
    layers = {str(name): _square(str(name), graph) for name, graph in named.items()}
    if not layers:
        raise ValueError("graphs is empty: expected two (n, n) matrices or more")
    n = x.shape[0] if x is not None and hasattr(x, "shape") and len(x.shape) else next(iter(layers.values())).shape[0]
    return assembled(int(n), x, entries(layers))


def _square(name: str, graph: Any) -> Any:
    if hasattr(graph, "detach"):
        graph = graph.detach().cpu()
        graph = (graph.to_dense() if graph.layout is not _strided() else graph).numpy()
    matrix = sp.coo_array(graph) if sp.issparse(graph) else np.asarray(graph)
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"graphs: {name!r} must be a square (n, n) matrix, got shape {tuple(matrix.shape)}")
    if matrix.dtype.kind not in "biuf":
        raise ValueError(f"graphs: {name!r} must hold numbers, got dtype {matrix.dtype}")
    return sp.coo_array(matrix)


def _strided() -> Any:
    import torch

    return torch.strided


def _from_geometric(data: Any) -> Any:
    if not hasattr(data, "node_types"):
        n = int(data.num_nodes)
        kinds = getattr(data, "edge_type", None)
        ends, weights = _ends(data)
        layers = {"edges": (*ends, weights)}
        if kinds is not None:
            kinds = kinds.cpu().numpy()
            layers = {
                f"type{kind}": (*ends[:, kinds == kind], None if weights is None else weights[kinds == kind])
                for kind in np.unique(kinds)
            }
        x = getattr(data, "x", None)
        return assembled(n, x, layers, columns=_labels(data, n))
    if len(data.node_types) != 1:
        raise ValueError(
            f"source: expected one node type, got {', '.join(data.node_types)}: join them by "
            "torch_geometric.transforms.AddMetaPaths, and keep one"
        )
    store = data[data.node_types[0]]
    n = int(store.num_nodes)
    layers = {}
    for kind in data.edge_types:
        ends, weights = _ends(data[kind])
        layers[kind[1]] = (*ends, weights)
    if len(layers) < len(data.edge_types):
        raise ValueError(
            f"source: edge types need different names, got {', '.join(kind[1] for kind in data.edge_types)}"
        )
    ids, columns = getattr(store, "ids", None), getattr(store, "columns", None)
    return assembled(n, getattr(store, "x", None), layers, ids=ids, columns=columns or _labels(store, n))


def _ends(store: Any) -> tuple[np.ndarray, np.ndarray | None]:
    weights = getattr(store, "edge_weight", None)
    return store.edge_index.cpu().numpy().astype(np.int64), None if weights is None else weights.cpu().numpy()


def _labels(store: Any, n: int) -> dict[str, list[Any]]:
    y = getattr(store, "y", None)
    return {"y": y.tolist()} if y is not None and tuple(y.shape) == (n,) else {}


# What they have to be -------------------------------------------------------------------------------------------------


def assembled(
    n: int,
    x: Any,
    layers: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]],
    ids: Sequence[Any] | None = None,
    columns: Mapping[str, list[Any]] | None = None,
    listed_once: bool = False,
) -> Any:
    """The graph, checked. `listed_once`: a layer in which no edge has its way back is a list of undirected edges."""
    import torch

    from nolabel.ops.graphs import require_geometric

    HeteroData = require_geometric().data.HeteroData
    if n < 2:
        raise ValueError(f"a graph needs at least 2 nodes, got {n}")
    if len(layers) < 2:
        raise ValueError(
            f"a multiplex graph has two kinds of edges or more, got {', '.join(layers) or 'none'}; as a second one take a graph "
            "of neighbours by features, such as sklearn.neighbors.kneighbors_graph(X, 10)"
        )
    data = HeteroData()
    data[NODE].num_nodes = n
    data[NODE].ids = list(range(n)) if ids is None else list(ids)
    data[NODE].columns = dict(columns or {})
    if x is not None:
        data[NODE].x = torch.from_numpy(_checked_features(x, n))
    data.counts = {}
    for name, (rows, cols, weights) in layers.items():
        edges, counts = _undirected(name, rows, cols, weights, n)
        data[NODE, name, NODE].edge_index = torch.from_numpy(edges)
        data.counts[name] = asdict(counts)
    one_way = [
        name
        for name, counts in data.counts.items()
        if counts["one_way"] and not (listed_once and counts["one_way"] == counts["edges"])
    ]
    if one_way:
        told = ", ".join(f"{data.counts[name]['one_way']:,} of {name}" for name in one_way)
        warnings.warn(f"directed edges were given their way back: {told}", stacklevel=4)
    return data


def _checked_features(x: Any, n: int) -> np.ndarray:
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = (x.to_dense() if x.is_sparse or x.layout is not _strided() else x).numpy()
    dense = x.toarray() if sp.issparse(x) else np.asarray(x)
    if dense.dtype.kind not in "biuf":
        raise ValueError(f"X must hold numbers, got dtype {dense.dtype}")
    if dense.ndim != 2 or dense.shape[0] != n or dense.shape[1] < 1:
        raise ValueError(f"X must be ({n}, f), a row a node, got shape {dense.shape}")
    dense = np.ascontiguousarray(dense, dtype=np.float32)
    finite = np.isfinite(dense).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"X: {int((~finite).sum())} rows have values that are not finite, the first is row {int(finite.argmin())}"
        )
    return dense


def _undirected(
    name: str, rows: np.ndarray, cols: np.ndarray, weights: np.ndarray | None, n: int
) -> tuple[np.ndarray, LayerCounts]:
    """Edges (2, e) in both directions, ordered, and what was done to get there."""
    outside = [(end < 0) | (end >= n) for end in (rows, cols)]
    wrong = outside[0] | outside[1]
    if wrong.any():
        at = int(wrong.argmax())
        lost = int(rows[at] if outside[0][at] else cols[at])
        raise ValueError(
            f"layer {name!r}: {int(wrong.sum())} edges lead to nodes outside 0 to {n - 1}, the first is {lost}"
        )
    if weights is not None:
        weights = np.asarray(weights)
        bad = ~np.isfinite(weights) if weights.dtype.kind == "f" else np.zeros(len(weights), bool)
        for mask, what in ((bad, "that are no finite numbers"), (np.where(bad, 1, weights) < 0, "below 0")):
            if mask.any():
                at = int(mask.argmax())
                raise ValueError(
                    f"layer {name!r}: {int(mask.sum())} weights {what}, the first at edge {int(rows[at])} to {int(cols[at])}"
                )
        rows, cols = rows[weights != 0], cols[weights != 0]
    off = rows != cols
    once = sp.csr_array((np.ones(int(off.sum()), np.int64), (rows[off], cols[off])), shape=(n, n))  # sums duplicates
    both = sp.csr_array(once + once.T)
    both.sort_indices()
    edges = np.stack([np.repeat(np.arange(n), np.diff(both.indptr)), both.indices.astype(np.int64)])
    isolated = int((np.diff(both.indptr) == 0).sum())
    one_way, repeated = both.nnz - once.nnz, int(once.data.sum()) - once.nnz
    return edges, LayerCounts(both.nnz // 2, int((~off).sum()), repeated, one_way, isolated)
