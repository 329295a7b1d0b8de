import sys
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch
from pyarrow.csv import write_csv

from nolabel.data import load
from nolabel.data.graphs import is_graph, read_graph
from nolabel.data.multiplex import layers_of, multiplex_source, plain_features, seen_by_learners

pytest.importorskip("torch_geometric")
from torch_geometric.data import Data, HeteroData

X = np.arange(10.0).reshape(5, 2)
RING = np.roll(np.eye(5), 1, axis=1) + np.roll(np.eye(5), -1, axis=1)
PATH = np.diag(np.ones(4), 1) + np.diag(np.ones(4), -1)


def edges(graph, name):
    return {tuple(pair) for pair in graph["node", name, "node"].edge_index.T.tolist()}


def pairs_of(matrix):
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(matrix))}


def save_npz(path, /, x=None, more=None, **layers):
    arrays = dict(more or {})
    for name, matrix in {**layers, **({} if x is None else {"x": x})}.items():
        m = sp.csr_array(matrix)
        arrays |= {f"{name}_data": m.data, f"{name}_indices": m.indices, f"{name}_indptr": m.indptr}
        arrays[f"{name}_shape"] = np.array(m.shape)
    np.savez(path, **arrays)
    return path


def save_folder(folder, suffix, nodes=None, **layers):
    write = write_csv if suffix == "csv" else pq.write_table
    folder.mkdir(exist_ok=True)
    table = {
        "id": [f"n{i}" for i in range(5)],
        "a": X[:, 0],
        "b": X[:, 1],
        "label": [0, 1, 0, 1, 0],
        "name": list("vwxyz"),
    }
    write(pa.table(table if nodes is None else nodes), folder / f"nodes.{suffix}")
    for name, columns in layers.items():
        write(pa.table(columns), folder / f"edges_{name}.{suffix}")
    return folder


LISTS = {
    "ring": {"source": ["n0", "n1", "n2", "n3", "n4"], "target": ["n1", "n2", "n3", "n4", "n0"]},
    "path": {"source": ["n0", "n1", "n2", "n3"], "target": ["n1", "n2", "n3", "n4"]},
}


def test_matrices_of_every_kind_agree():
    for make in (np.asarray, sp.csr_matrix, sp.coo_array, torch.tensor, lambda m: torch.tensor(m).to_sparse_csr()):
        graph = read_graph((X, {"ring": make(RING), "path": make(PATH)}))
        assert edges(graph, "ring") == pairs_of(RING)
        assert edges(graph, "path") == pairs_of(PATH)
    assert torch.equal(graph["node"].x, torch.tensor(X, dtype=torch.float32))
    assert graph["node"].num_nodes == 5
    named = read_graph((sp.csr_array(X), [RING, PATH]))
    assert [kind[1] for kind in named.edge_types] == ["layer0", "layer1"]
    assert "x" not in read_graph((None, [RING, PATH]))["node"]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_folder_and_file_agree_with_matrices(suffix, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a list of undirected edges is none of directed ones
        graph = read_graph(save_folder(tmp_path / "g", suffix, **LISTS))
    assert edges(graph, "ring") == pairs_of(RING)
    assert edges(graph, "path") == pairs_of(PATH)
    assert torch.equal(graph["node"].x, torch.tensor(X, dtype=torch.float32))
    assert graph["node"].ids == ["n0", "n1", "n2", "n3", "n4"]
    assert graph["node"].columns == {"label": [0, 1, 0, 1, 0], "name": list("vwxyz")}
    more = {"y": np.array([0, 1, 0, 1, 0]), "title": np.array(list("vwxyz")), "train": np.arange(3)}
    file = read_graph(save_npz(tmp_path / "g.npz", x=X, more=more, ring=RING, path=PATH))
    assert edges(file, "ring") == pairs_of(RING)
    assert torch.equal(file["node"].x, graph["node"].x)
    assert file["node"].columns == {"y": [0, 1, 0, 1, 0], "title": list("vwxyz")}
    assert is_graph(tmp_path / "g")
    assert is_graph(str(tmp_path / "g.npz"))
    assert not is_graph(tmp_path)
    np.savez(tmp_path / "images.npz", image=np.zeros((3, 4, 4)))
    assert not is_graph(tmp_path / "images.npz")


def test_a_column_of_vectors_are_features(tmp_path):
    nodes = {"node_id": [3, 1, 2], "z": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "flag": [True, False, True]}
    layers = {"a": {"source": [1, 2], "target": [2, 3]}, "b": {"source": [1], "target": [3]}}
    graph = read_graph(save_folder(tmp_path / "g", "parquet", nodes, **layers))
    assert graph["node"].x.tolist() == [[1, 2, 1], [3, 4, 0], [5, 6, 1]]
    assert edges(graph, "a") == {(1, 2), (2, 1), (2, 0), (0, 2)}  # by the ids 3, 1, 2


def test_geometric_objects():
    data = HeteroData()
    data["paper"].x = torch.tensor(X)
    for name, matrix in (("ring", RING), ("path", PATH)):
        data["paper", name, "paper"].edge_index = torch.tensor(np.stack(np.nonzero(matrix)))
    graph = read_graph(data)
    assert edges(graph, "ring") == pairs_of(RING)
    assert read_graph(graph)["node"].ids == [0, 1, 2, 3, 4]
    ends = torch.tensor(np.concatenate([np.stack(np.nonzero(m)) for m in (RING, PATH)], axis=1))
    kinds = torch.tensor([0] * 10 + [1] * 8)
    typed = read_graph(Data(x=torch.tensor(X), edge_index=ends, edge_type=kinds, y=torch.arange(5)))
    assert edges(typed, "type1") == pairs_of(PATH)
    assert typed["node"].columns == {"y": [0, 1, 2, 3, 4]}
    with pytest.raises(
        ValueError, match="two kinds of edges or more, got edges; as a second one take a graph of neighbours"
    ):
        read_graph(Data(x=torch.tensor(X), edge_index=ends))
    data["author"].x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="expected one node type, got paper, author: join them by"):
        read_graph(data)


def test_loops_duplicates_and_isolated_nodes_are_counted():
    rows, cols = [0, 0, 1, 1, 2, 2], [1, 1, 0, 1, 2, 2]  # 0-1 twice, its way back, three loops; nodes 2 to 4 alone
    messy = sp.coo_array((np.ones(6), (rows, cols)), shape=(5, 5))
    graph = read_graph((X, {"messy": messy, "ring": RING}))
    assert edges(graph, "messy") == {(0, 1), (1, 0)}
    assert graph.counts["messy"] == {"edges": 1, "loops": 3, "duplicates": 1, "one_way": 0, "isolated": 3}
    assert graph.counts["ring"] == {"edges": 5, "loops": 0, "duplicates": 0, "one_way": 0, "isolated": 0}


def test_directed_graphs_are_symmetrised_with_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="directed edges were given their way back: 4 of path"):
        graph = read_graph((X, {"path": np.triu(PATH), "ring": RING}))
    assert edges(graph, "path") == pairs_of(PATH)
    mixed = {"source": ["n0", "n1", "n2"], "target": ["n1", "n0", "n3"]}
    with pytest.warns(UserWarning, match="1 of mixed"):
        read_graph(save_folder(tmp_path / "g", "parquet", ring=LISTS["ring"], mixed=mixed))


def test_weights_are_only_asked_whether_they_are_zero():
    weighted = RING * 3.5
    weighted[0, 1] = weighted[1, 0] = 0
    assert edges(read_graph((X, [weighted, PATH])), "layer0") == pairs_of(RING) - {(0, 1), (1, 0)}


def bad(**changes):
    return {"ring": RING.copy(), "path": PATH.copy(), **changes}


def with_entry(value):
    matrix = RING.copy()
    matrix[2, 3] = value
    return matrix


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ((X, []), ValueError, "graphs is empty: expected two"),
        ((X, [RING]), ValueError, "two kinds of edges or more, got layer0; as a second one take a graph of neighbours"),
        ((X, bad(path=np.eye(4))), ValueError, "all layers must be among the same nodes, but they have ring 5, path 4"),
        ((X, bad(path=np.ones((5, 4)))), ValueError, r"'path' must be a square \(n, n\) matrix, got shape \(5, 4\)"),
        ((X[:4], bad()), ValueError, "layer 'ring': .* edges lead to nodes outside 0 to 3, the first is 4"),
        ((X[:, 0], bad()), ValueError, r"X must be \(5, f\), a row a node, got shape \(5,\)"),
        ((np.array(list("abcde"))[:, None], bad()), ValueError, "X must hold numbers"),
        (
            (np.where(X == 3, np.nan, X), bad()),
            ValueError,
            "X: 1 rows have values that are not finite, the first is row 1",
        ),
        ((X, bad(ring=with_entry(-1))), ValueError, "layer 'ring': 1 weights below 0, the first at edge 2 to 3"),
        ((X, bad(ring=with_entry(np.nan))), ValueError, "layer 'ring': 1 weights that are no finite numbers"),
        ((X, bad(ring=np.full((5, 5), "a"))), ValueError, "'ring' must hold numbers"),
        ((X, 3), TypeError, "graphs: expected a list or dict"),
        (3, TypeError, "source: expected an .npz file, a folder of tables"),
        ("nowhere.npz", FileNotFoundError, "source: nowhere.npz does not exist"),
    ],
)
def test_bad_sources(source, error, message):
    with pytest.raises(error, match=message) as caught:
        read_graph(source)
    assert "\n" not in str(caught.value)


def test_bad_edges_of_a_geometric_object():
    data = HeteroData()
    data["node"].num_nodes = 5
    data["node", "a", "node"].edge_index = torch.tensor([[0, 1, 7, 2], [1, 0, 2, -1]])
    data["node", "b", "node"].edge_index = torch.tensor([[0], [1]])
    with pytest.raises(ValueError, match="layer 'a': 2 edges lead to nodes outside 0 to 4, the first is 7"):
        read_graph(data)


def test_bad_folders(tmp_path):
    unknown = {"source": ["n0", "n1", "m7"], "target": ["n1", "n9", "n2"]}
    with pytest.raises(
        ValueError, match=r"2 edges name a node that is not in nodes.parquet, the first is 'n9' \(row 1\)"
    ):
        read_graph(save_folder(tmp_path / "a", "parquet", ring=LISTS["ring"], odd=unknown))
    with pytest.raises(ValueError, match="has no column 'target'; the columns are source, to"):
        read_graph(save_folder(tmp_path / "b", "csv", ring={"source": ["n0"], "to": ["n1"]}))
    with pytest.raises(ValueError, match="1 ids come twice, the first is 'n0'"):
        read_graph(save_folder(tmp_path / "c", "csv", {"id": ["n0", "n1", "n0"]}, **LISTS))
    with pytest.raises(ValueError, match="has no column 'id'; the columns are a"):
        read_graph(save_folder(tmp_path / "d", "csv", {"a": [1.0, 2.0]}, **LISTS))
    with pytest.raises(ValueError, match="vectors of column 'z' are not all of one length"):
        read_graph(save_folder(tmp_path / "e", "parquet", {"id": [0, 1], "z": [[1.0], [1.0, 2.0]]}, **LISTS))
    negative = {**LISTS["path"], "weight": [1.0, -2.0, 1.0, 1.0]}
    with pytest.raises(ValueError, match="layer 'odd': 1 weights below 0, the first at edge 1 to 2"):
        read_graph(save_folder(tmp_path / "f", "parquet", ring=LISTS["ring"], odd=negative))
    (tmp_path / "g").mkdir()
    with pytest.raises(FileNotFoundError, match="has no nodes.parquet or nodes.csv"):
        read_graph(tmp_path / "g")


def test_bad_files(tmp_path):
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(ValueError, match="text.npz cannot be read as .npz"):
        read_graph(tmp_path / "text.npz")
    pickled = np.empty(1, dtype=object)
    pickled[0] = {"a": 1}
    np.savez(tmp_path / "pickled.npz", a=pickled)
    with pytest.raises(ValueError, match="pickled.npz cannot be read as .npz"):
        read_graph(tmp_path / "pickled.npz")
    np.savez(tmp_path / "other.npz", a=np.eye(3))
    with pytest.raises(ValueError, match="holds no square sparse matrix NAME_data.*it holds a"):
        read_graph(tmp_path / "other.npz")
    arrays = dict(np.load(save_npz(tmp_path / "g.npz", x=X, ring=RING, path=PATH)))
    for key, value, message in (
        ("ring_indices", arrays["ring_indices"] + 3, "ring has 6 entries outside its 5 columns, the first is"),
        ("ring_indptr", arrays["ring_indptr"][:-1], "ring is damaged: its indptr does not fit its 10 entries"),
    ):
        np.savez(tmp_path / "bad.npz", **{**arrays, key: value})
        with pytest.raises(ValueError, match=message):
            read_graph(tmp_path / "bad.npz")


def test_known_graphs_by_name(tmp_path, monkeypatch):
    save_npz(tmp_path / "graph_small.npz", x=X, ring=RING, path=PATH)
    monkeypatch.setenv("NOLABEL_DATA", str(tmp_path))
    assert edges(load("graph_small"), "ring") == pairs_of(RING)
    with pytest.raises(ValueError, match="graph_small is a graph, whose nodes are not filtered"):
        load("graph_small", split="train")
    with pytest.raises(ValueError, match=r"did you mean 'graph_small'\?"):
        load("graph_smal")


def test_without_geometric(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    with pytest.raises(ImportError, match=r"graphs need PyTorch Geometric: pip install 'nolabel\[graph\]'"):
        read_graph((X, [RING, PATH]))


# As tensors ---------------------------------------------------------------------------------------------------------


def rows(matrix):
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def test_smoothed_features_are_the_formula():
    graph = read_graph((X + 1, {"ring": RING, "path": PATH}))
    item = multiplex_source(graph, 2, centre=False).item
    for number, matrix in enumerate((RING, PATH)):
        a = matrix + np.eye(5)
        root = np.diag(a.sum(axis=1) ** -0.5)
        a = root @ a @ root
        layer_edges, weights = layers_of(item)[number]
        assert np.allclose(a[tuple(layer_edges)], weights)
        assert np.allclose(seen_by_learners(item)[number], rows(a @ a @ rows(X + 1)), atol=1e-6)
    assert np.allclose(plain_features(item), rows(X + 1))
    assert seen_by_learners(item)[-1].shape == (5, 6)
    shifted = multiplex_source(graph, 2, mean=torch.tensor([2.0, 3.0])).item
    assert np.allclose(plain_features(shifted), rows(X + 1 - [2.0, 3.0]), atol=1e-6)


def test_scale_of_features_does_not_matter_but_their_content_does():
    given = [X + 1, 100 * (X + 1), X**2]
    first, second, third = (multiplex_source(read_graph((x, [RING, PATH])), 2) for x in given)
    assert torch.allclose(first.item.features, second.item.features, atol=1e-5)
    assert not torch.allclose(first.item.features, third.item.features, atol=1e-2)
    assert len({first.fingerprint, second.fingerprint, third.fingerprint}) == 3
    assert first.fingerprint == multiplex_source(read_graph((X + 1, [RING, PATH])), 2).fingerprint


def test_layers_in_the_order_asked_for():
    graph = read_graph((X + 1, {"path": PATH, "ring": RING}))
    turned = multiplex_source(graph, 2, ["ring", "path"]).item
    straight = multiplex_source(read_graph((X + 1, {"ring": RING, "path": PATH})), 2).item
    assert torch.equal(turned.features, straight.features)
    with pytest.raises(ValueError, match="must have the layers a, ring of the fit, got path, ring"):
        multiplex_source(graph, 2, ["a", "ring"])


def test_rows_of_zeros_stay_with_a_warning():
    zero = X.copy()
    zero[0] = 0
    with pytest.warns(UserWarning, match="X: 1 rows are all zero"):
        item = multiplex_source(read_graph((zero, [RING, PATH])), 1, centre=False).item
    assert plain_features(item)[0].tolist() == [0.0, 0.0]


def test_without_features_structure_stands_for_them():
    item = multiplex_source(read_graph((None, [RING, PATH])), 1).item
    assert plain_features(item).shape == (5, 8)  # four eigenvectors of five, by sign
    assert torch.isfinite(item.features).all()


def test_more_than_fits_into_memory(monkeypatch):
    monkeypatch.setattr("nolabel.data.multiplex._memory", lambda: 2000)
    with pytest.raises(ValueError, match="a step on 5 nodes with 2 features and 2 layers needs about .* GiB of memory"):
        multiplex_source(read_graph((X, [RING, PATH])), 1)
