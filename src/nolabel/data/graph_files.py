"""Files that hold a multiplex graph: an ``.npz`` of sparse matrices, or a folder of tables of nodes and edges."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from nolabel.data.table_files import load_csv, read_file

if TYPE_CHECKING:
    import pyarrow as pa

IDENTIFIERS, LABELS = ("id", "node", "node_id"), ("y", "label", "class")
TABLES = (".parquet", ".csv")


def holds_graph(path: Path) -> bool:
    """Whether a path is a folder of nodes and edges, or an ``.npz`` file with a square sparse matrix."""
    if path.is_dir():
        return any((path / f"nodes{suffix}").is_file() for suffix in TABLES) and bool(_edge_files(path))
    if path.suffix == ".npz" and path.is_file():
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return len(_layer_names(arrays)) > 0
        except Exception:  # damaged: said by who reads it
            return False
    return False


def graph_parts(path: Path) -> dict[str, Any]:
    """What a file or folder holds, by the names of the arguments of `nolabel.data.graphs.assembled`."""
    if not path.exists():
        raise FileNotFoundError(f"source: {path} does not exist")
    if path.is_dir():
        return _from_folder(path)
    if path.suffix != ".npz":
        raise ValueError(f"source: a graph is an .npz file or a folder of nodes and edges, got {path}")
    arrays = read_file(_arrays, path)
    layers = {name: _matrix(arrays, name, path) for name in _layer_names(arrays)}
    if not layers:
        raise ValueError(
            f"source: {path} holds no square sparse matrix NAME_data, NAME_indices, NAME_indptr, NAME_shape; it holds "
            f"{', '.join(list(arrays)[:8])}"
        )
    n = next(iter(layers.values())).shape[0]
    x = _matrix(arrays, "x", path) if "x_data" in arrays else arrays.get("x")
    flat = {k: v for k, v in arrays.items() if v.shape == (n,) and k != "x" and v.dtype.kind in "biufU"}
    columns = {k: v.tolist() for k, v in flat.items()}
    return {"n": n, "x": x, "layers": entries(layers), "columns": columns}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _layer_names(arrays: Any) -> list[str]:
    found = []
    for key in arrays:
        name = key.removesuffix("_shape")
        if key.endswith("_shape") and name != "x" and f"{name}_indptr" in arrays:
            shape = arrays[key]
            if shape.shape == (2,) and shape[0] == shape[1]:
                found.append(name)
    return found


def _matrix(arrays: Mapping[str, np.ndarray], name: str, path: Path) -> sp.csr_array:
    parts = [f"{name}_{part}" for part in ("data", "indices", "indptr")]
    missing = [part for part in parts if part not in arrays]
    if missing:
        raise ValueError(f"source: {path} has {name}_shape but lacks {', '.join(missing)}")
    data, indices, pointers = (arrays[part] for part in parts)
    rows, width = (int(side) for side in arrays[f"{name}_shape"])
    whole = len(pointers) == rows + 1 and pointers[0] == 0 and pointers[-1] == len(indices) == len(data)
    if not whole or (np.diff(pointers) < 0).any():
        raise ValueError(f"source: {path}: {name} is damaged: its indptr does not fit its {len(indices)} entries")
    wrong = (indices < 0) | (indices >= width)
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(
            f"source: {path}: {name} has {int(wrong.sum())} entries outside its {width} columns, the first is "
            f"{int(indices[first])}"
        )
    return sp.csr_array((data, indices, pointers), shape=(rows, width))


def _edge_files(folder: Path) -> dict[str, Path]:
    found = sorted(file for suffix in TABLES for file in folder.glob(f"edges_*{suffix}"))
    return {file.stem.removeprefix("edges_"): file for file in found}


def _table(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    loaded: pa.Table = read_file(load_csv if path.suffix == ".csv" else pq.read_table, path)
    return loaded


def _from_folder(folder: Path) -> dict[str, Any]:
    file = next((folder / f"nodes{s}" for s in TABLES if (folder / f"nodes{s}").is_file()), None)
    if file is None:
        raise FileNotFoundError(f"source: {folder} has no nodes.parquet or nodes.csv")
    nodes = _table(file)
    key = next((name for name in IDENTIFIERS if name in nodes.column_names), None)
    if key is None:
        raise ValueError(
            f"source: {file} has no column {IDENTIFIERS[0]!r}; the columns are {', '.join(nodes.column_names)}"
        )
    ids = [str(value) for value in nodes[key].to_pylist()]
    place = {name: row for row, name in enumerate(ids)}
    if len(place) < len(ids):
        twice = next(name for row, name in enumerate(ids) if place[name] != row)
        raise ValueError(f"source: {file}: {len(ids) - len(place)} ids come twice, the first is {twice!r}")
    x, columns = _features(nodes, key, file)
    layers = {}
    for name, path in _edge_files(folder).items():
        table = _table(path)
        for column in ("source", "target"):
            if column not in table.column_names:
                raise ValueError(
                    f"source: {path} has no column {column!r}; the columns are {', '.join(table.column_names)}"
                )
        ends = [[str(value) for value in table[column].to_pylist()] for column in ("source", "target")]
        rows, cols = (np.array([place.get(value, -1) for value in end], dtype=np.int64) for end in ends)
        unknown = (rows < 0) | (cols < 0)
        if unknown.any():
            at = int(unknown.argmax())
            lost = ends[0][at] if rows[at] < 0 else ends[1][at]
            raise ValueError(
                f"source: {path}: {int(unknown.sum())} edges name a node that is not in {file.name}, the first is {lost!r} "
                f"(row {at})"
            )
        weights = table["weight"].to_numpy() if "weight" in table.column_names else None
        layers[name] = (rows, cols, weights)
    return {"n": len(ids), "x": x, "layers": layers, "ids": ids, "columns": columns, "listed_once": True}


def _features(nodes: pa.Table, key: str, file: Path) -> tuple[np.ndarray | None, dict[str, list[Any]]]:
    """Columns of numbers and vectors side by side, in order; all others, and labels, as lists."""
    import pyarrow.types as kinds

    blocks: list[np.ndarray] = []
    columns: dict[str, list[Any]] = {}
    for name in nodes.column_names:
        kind = nodes.schema.field(name).type
        numeric = kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)
        vector = kinds.is_list(kind) or kinds.is_fixed_size_list(kind) or kinds.is_large_list(kind)
        if name == key:
            continue
        if name in LABELS or not (numeric or vector):
            columns[name] = nodes[name].to_pylist()
            continue
        try:
            block = np.array(nodes[name].to_pylist(), dtype=np.float32)  # None becomes NaN, and is refused below
        except (ValueError, TypeError):
            raise ValueError(f"source: {file}: the vectors of column {name!r} are not all of one length") from None
        blocks.append(block[:, None] if block.ndim == 1 else block.reshape(len(block), -1))
    return (np.concatenate(blocks, axis=1) if blocks else None), columns


def entries(layers: Mapping[str, Any]) -> dict[str, Any]:
    """Rows, columns and weights of (n, n) matrices of one size, by layer."""
    sizes = {matrix.shape[0] for matrix in layers.values()}
    if len(sizes) > 1:
        told = ", ".join(f"{name} {matrix.shape[0]}" for name, matrix in layers.items())
        raise ValueError(f"graphs: all layers must be among the same nodes, but they have {told}")
    found = {}
    for name, matrix in layers.items():
        flat = sp.coo_array(matrix)
        found[name] = (flat.row.astype(np.int64), flat.col.astype(np.int64), flat.data)
    return found
