"""Graphs on the command line: as a table of their nodes, and the files that a run on one leaves."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from nolabel.cli.contents import Contents
from nolabel.data.replacing import replacing

VECTORS, EDGES, CLUSTERS, PICTURE = "embedding.parquet", "edges.parquet", "clusters.csv", "adjacency.png"
#: Nodes of the picture, and neighbours that a node is shown with.
DRAWN, NEIGHBOURS = 1500, 8


class Nodes(Dataset):
    """A table of the nodes of a graph: ``node`` (what each is called) and its columns that are no features.

    Attributes
    ----------
    graph : HeteroData, as `nolabel.data.graphs.read_graph` gives it
    """

    graph: Any


def graph_at(source: str) -> Nodes | None:
    """The nodes of the graph at a path, or of the known set of that name; None if it is none."""
    from nolabel.data.graphs import is_graph, read_graph
    from nolabel.data.known_sets import graph_file

    path = source if os.path.exists(source) else graph_file(source)
    return nodes_of(read_graph(path)) if path is not None and is_graph(path) else None


def nodes_of(graph: Any) -> Nodes:
    """The table of a graph's nodes."""
    import pyarrow as pa

    from nolabel.data.reading import from_arrow

    store = graph["node"]
    columns = {"node": [str(name) for name in store.ids]}
    columns |= {name: values for name, values in store.columns.items() if name not in ("node", "cluster")}
    return _with_graph(from_arrow(pa.table(columns)), graph)


def _with_graph(table: Dataset, graph: Any) -> Nodes:
    nodes = Nodes(table.data, info=table.info, fingerprint=table._fingerprint)
    nodes.graph = graph
    return nodes


def require_graph(cls: Any, name: str, table: Any, source: str) -> None:
    """Refuse a method for graphs on anything else, and any other method on a graph."""
    holds, needs = hasattr(table, "graph"), cls.columns == ("graph",)
    if holds and not needs:
        wanted = " and ".join(cls.columns)
        raise ValueError(f"{source} holds a graph, {name} learns from {wanted}: leave --method out, or take infomgf")
    if needs and not holds:
        raise ValueError(
            f"{source} holds no graph, which {name} needs: an .npz file with a sparse (n, n) matrix a layer, or a folder with "
            "nodes.parquet and edges_NAME.parquet"
        )


def clustered(learner: Any, nodes: Nodes) -> Nodes:
    """The nodes with the cluster of each."""
    return _with_graph(nodes.add_column("cluster", learner.labels_.astype(np.int64).tolist()), nodes.graph)


def node_contents(nodes: Nodes) -> Contents:
    """Nodes as the index and the report show them: by name, with what they are joined to by any layer."""
    import pyarrow.types as kinds

    schema = nodes.data.schema
    told = [n for n in nodes.column_names if n != "node" and kinds.is_string(schema.field(n).type)]
    names, neighbours = list(nodes["node"]), _neighbours(nodes.graph)

    def texts(positions: Any) -> list[str]:
        found = []
        for at in np.asarray(positions).tolist():
            near = ", ".join(names[other] for other in neighbours(at))
            about = " · ".join([names[at], *(str(nodes[column][at]) for column in told if nodes[column][at])])
            found.append(f"{about} → {near}" if near else about)
        return found

    shown: dict[str, Any] = {"texts": texts}
    if "cluster" in nodes.column_names:
        shown["clusters"] = np.array(nodes["cluster"])
    label = next((name for name in ("y", "label", "class") if name in nodes.column_names), None)
    if label is not None:
        shown["labels"] = [str(value) for value in nodes[label]]
    layers = ", ".join(f"{counts['edges']:,} edges {name}" for name, counts in nodes.graph.counts.items())
    described = f"{len(nodes):,} nodes, {layers}"
    return Contents("nodes", described, np.arange(len(nodes)), [], lambda at: {}, shown)


def _neighbours(graph: Any) -> Callable[[int], list[int]]:
    """Some neighbours of a node, those in the most layers first."""
    import scipy.sparse as sp

    n = int(graph["node"].num_nodes)
    ends = np.concatenate([graph[kind].edge_index.numpy() for kind in graph.edge_types], axis=1)
    joined = sp.csr_array((np.ones(ends.shape[1]), tuple(ends)), shape=(n, n))

    def near(node: int) -> list[int]:
        part = slice(joined.indptr[node], joined.indptr[node + 1])
        found: list[int] = joined.indices[part][np.argsort(-joined.data[part], kind="stable")[:NEIGHBOURS]].tolist()
        return found

    return near


def write_graph_files(learner: Any, nodes: Nodes, folder: Path) -> dict[str, str]:
    """Vectors, the fused graph and clusters as tables, and a picture of the graphs; their names for the summary."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(nodes["node"])
    vectors = pa.FixedSizeListArray.from_arrays(learner.embedding_.reshape(-1), learner.embedding_.shape[1])
    upper = _upper(learner.graph_)
    tables = {
        VECTORS: pa.table({"node": names, "cluster": learner.labels_, "vector": vectors}),
        EDGES: pa.table(
            {"source": pa.array(names).take(upper.row), "target": pa.array(names).take(upper.col), "weight": upper.data}
        ),
    }
    for name, table in tables.items():
        with replacing(folder / name) as partial:
            pq.write_table(table, partial, compression="zstd")
    with replacing(folder / CLUSTERS) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["node", "cluster"])
        writer.writerows(zip(names, learner.labels_.tolist()))
    made = {"embedding": VECTORS, "edges": EDGES, "clusters": CLUSTERS}
    try:
        draw_adjacency(folder / PICTURE, learner, nodes.graph)
    except ImportError:
        return {name: str(folder / file) for name, file in made.items()}
    return {name: str(folder / file) for name, file in (made | {"picture": PICTURE}).items()}


def _upper(graph: Any) -> Any:
    """Each edge of a symmetric graph once, loops left out, the heaviest first."""
    import scipy.sparse as sp

    upper = sp.coo_array(sp.triu(graph, k=1))
    order = np.argsort(-upper.data, kind="stable")
    return sp.coo_array((upper.data[order], (upper.row[order], upper.col[order])), shape=graph.shape)


def draw_adjacency(path: Path, learner: Any, graph: Any) -> None:
    """Write a PNG of the given graphs and the fused one, nodes sorted by cluster: what is learned should lie in blocks.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"the picture needs matplotlib: pip install matplotlib ({error})") from None
    n, labels = len(learner.labels_), learner.labels_
    some = np.sort(np.random.default_rng(0).permutation(n)[:DRAWN])
    order = some[np.lexsort((some, labels[some]))]
    place = np.full(n, -1)
    place[order] = np.arange(len(order))
    borders = np.flatnonzero(np.diff(labels[order])) + 1
    shown = {name: graph["node", name, "node"].edge_index.numpy() for name in learner.layers_}
    fused = _upper(learner.graph_)
    shown["fused"] = np.concatenate([[fused.row, fused.col], [fused.col, fused.row]], axis=1)
    figure = Figure(figsize=(3.1 * len(shown), 3.3), dpi=110, layout="constrained")
    for axes, (name, ends) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items()):
        i, j = place[ends[0]], place[ends[1]]
        both = (i >= 0) & (j >= 0)
        bins = min(len(order), 250)
        counts = np.histogram2d(i[both], j[both], bins=bins, range=[[0, len(order)]] * 2)[0]
        axes.imshow(
            np.sqrt(counts),
            cmap="Greys",
            vmax=np.sqrt(max(np.quantile(counts, 0.995), 1)),
            extent=(0, len(order), len(order), 0),
        )
        for border in borders:
            axes.axhline(border, color="#3f7fc1", linewidth=0.6)
            axes.axvline(border, color="#3f7fc1", linewidth=0.6)
        within = float((labels[ends[0]] == labels[ends[1]]).mean()) if ends.shape[1] else 0.0
        axes.set_title(f"{name}: {100 * within:.0f} % within a cluster", fontsize=9, loc="left")
        axes.set_xticks([])
        axes.set_yticks([])
    with replacing(path) as partial:
        figure.savefig(partial, format="png")
