"""`nolabel learn` on a graph as a person types it."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from tests.commands import run

import nolabel
from nolabel.cli.app import main
from nolabel.cli.graphs import graph_at, node_contents

pytest.importorskip("torch_geometric")
N = 90
QUICK = ["--epochs", "15", "--set", "n_neighbors=6", "--set", "hidden=32", "--set", "dim=16", "--set", "n_clusters=3"]


@pytest.fixture(scope="module")
def layers():
    rng, y = np.random.default_rng(0), np.arange(N) % 3
    found = {}
    for name in ("author", "subject"):
        upper = np.triu(rng.random((N, N)) < np.where(y[:, None] == y, 0.3, 0.03), 1)
        found[name] = (upper | upper.T).astype(np.int8)
    return rng.random((N, 6)).astype(np.float32) + (np.arange(6) % 3 == y[:, None]), found, y


@pytest.fixture(scope="module")
def folder(layers, tmp_path_factory):
    x, found, y = layers
    place = tmp_path_factory.mktemp("papers")
    nodes = {"id": [f"p{i}" for i in range(N)], "title": [f"title {i}" for i in range(N)], "label": y}
    pq.write_table(pa.table(nodes | {f"f{i}": x[:, i] for i in range(6)}), place / "nodes.parquet")
    for name, matrix in found.items():
        i, j = np.nonzero(np.triu(matrix))
        edges = {"source": [f"p{a}" for a in i], "target": [f"p{b}" for b in j]}
        pq.write_table(pa.table(edges), place / f"edges_{name}.parquet")
    return place


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "papers"
    with pytest.raises(SystemExit) as stop:
        main(["learn", str(folder), "--out", str(place), *QUICK])
    assert stop.value.code == 0
    return place


def test_what_a_run_leaves(finished, layers):
    model = nolabel.load(finished)
    vectors = pq.read_table(finished / "embedding.parquet")
    assert vectors.column_names == ["node", "cluster", "vector"]
    assert vectors["node"].to_pylist()[:2] == ["p0", "p1"]
    assert np.array_equal(np.stack(vectors["vector"].to_pylist()).astype(np.float32), model.embedding_)
    edges = pq.read_table(finished / "edges.parquet").to_pydict()
    assert edges["weight"] == sorted(edges["weight"], reverse=True)
    assert all(weight > 0 for weight in edges["weight"])
    ends = [(int(a[1:]), int(b[1:])) for a, b in zip(edges["source"], edges["target"])]
    assert all(a < b for a, b in ends)
    assert len(ends) == (model.graph_ - sp.diags_array(model.graph_.diagonal())).nnz // 2
    same = np.mean([layers[2][a] == layers[2][b] for a, b in ends])
    assert same > 0.6
    with (finished / "clusters.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["cluster"]) for row in rows] == model.labels_.tolist()
    assert (finished / "adjacency.png").read_bytes()[:4] == b"\x89PNG"
    page = (finished / "report.html").read_text()
    assert "cluster 2" in page.lower()
    assert "edges author" in page
    assert not [path for path in finished.iterdir() if "partial" in path.name]


def test_nodes_are_found_by_name(finished, capsys):
    code, out, _ = run(capsys, "search", finished, "p17", "-k", "5", "--json")
    hits = json.loads(out)
    assert code == 0
    assert hits[0]["node"] == "p17"
    assert hits[0]["title"] == "title 17"
    assert {"cluster", "label", "score"} <= set(hits[0])
    code, out, _ = run(capsys, "search", finished, "p17", "--where", "cluster = 1", "--json")
    assert {hit["cluster"] for hit in json.loads(out)} == {1}
    code, _, err = run(capsys, "search", finished, "p99")
    assert code == 2
    assert "no node 'p99' among the 90 of this run; did you mean" in err


def test_the_same_graph_is_embedded_alike(finished, folder, tmp_path, capsys):
    code, *_ = run(capsys, "embed", finished, folder, "--out", tmp_path / "z.npy")
    assert code == 0
    assert np.allclose(np.load(tmp_path / "z.npy"), nolabel.load(finished).embedding_, atol=1e-6)


def test_a_file_and_a_name(layers, tmp_path, monkeypatch, capsys):
    x, found, y = layers
    arrays = {"y": y}
    for name, matrix in {**found, "x": x}.items():
        m = sp.csr_array(matrix)
        arrays |= {f"{name}_data": m.data, f"{name}_indices": m.indices, f"{name}_indptr": m.indptr}
        arrays[f"{name}_shape"] = np.array(m.shape)
    np.savez(tmp_path / "graph_papers.npz", **arrays)
    monkeypatch.setenv("NOLABEL_DATA", str(tmp_path))
    for source in (tmp_path / "graph_papers.npz", "graph_papers"):
        words = ["learn", source, "--method", "infomgf", "--out", tmp_path / f"run{len(str(source))}", "--json", *QUICK]
        code, out, _ = run(capsys, *words, "--epochs", "2")
        summary = json.loads(out)
        assert code == 0
        assert summary["nodes"] == N
        assert summary["method"] == "InfoMGF"
        assert summary["edges"].endswith("edges.parquet")
        assert any("search" in line and "NODE" in line for line in summary["next"])


def test_nodes_are_described_by_text_and_neighbours(folder):
    nodes = graph_at(str(folder))
    contents = node_contents(nodes)
    (text,) = contents.shown["texts"]([17])
    assert text.startswith("p17 · title 17 → p")
    assert contents.shown["labels"][:3] == ["0", "1", "2"]
    assert graph_at("nowhere") is None


def test_methods_and_data_that_do_not_go_together(folder, tmp_path, capsys):
    code, _, err = run(capsys, "learn", folder, "--method", "simclr", "--out", tmp_path / "run")
    assert code == 2
    assert "holds a graph, simclr learns from image" in err
    code, _, err = run(capsys, "learn", "digits", "--method", "infomgf", "--out", tmp_path / "run")
    assert code == 2
    assert "digits holds no graph, which infomgf needs: an .npz file" in err
    assert not (tmp_path / "run").exists()


def test_bad_graph(folder, tmp_path, capsys):
    for name in ("nodes", "edges_author"):
        (tmp_path / f"{name}.parquet").write_bytes((folder / f"{name}.parquet").read_bytes())
    code, _, err = run(capsys, "learn", tmp_path, "--out", tmp_path / "run")
    assert code == 2
    assert "two kinds of edges or more, got author" in err
    odd = pa.table({"source": ["p0", "q1"], "target": ["p1", "p2"]})
    pq.write_table(odd, tmp_path / "edges_odd.parquet")
    code, _, err = run(capsys, "learn", tmp_path, "--out", tmp_path / "run")
    assert code == 2
    assert "1 edges name a node that is not in nodes.parquet, the first is 'q1'" in err


def test_without_matplotlib_there_is_no_picture(finished, folder, tmp_path, monkeypatch):
    import sys

    from nolabel.cli.graphs import clustered, write_graph_files

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    model = nolabel.load(finished)
    made = write_graph_files(model, clustered(model, graph_at(str(folder))), tmp_path)
    assert set(made) == {"embedding", "edges", "clusters"}
    assert not (tmp_path / "adjacency.png").exists()
