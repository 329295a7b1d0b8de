import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from torch.nn.functional import cosine_similarity

import nolabel
from nolabel.assess import cluster_scores
from nolabel.learn import InfoMGF
from nolabel.ops.graphs import normalised, sparse_matrix, with_loops
from nolabel.training import Training

pytest.importorskip("torch_geometric")


def block_model(y, inside, between, rng):
    """Symmetric adjacency: edges with one probability within a class, another between classes."""
    p = np.where(y[:, None] == y, inside, between)
    upper = np.triu(rng.random(p.shape) < p, 1)
    return (upper | upper.T).astype(float)


def graph(n=90, seed=0, classes=3, features=12):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.random((n, features)) + 0.3 * (np.arange(features) % classes == y[:, None])
    return (x, {name: block_model(y, 0.2, 0.05, rng) for name in ("a", "b")}), y


def tiny(epochs=4, **params):
    settings = {"n_neighbors": 6, "hidden": 16, "dim": 8, "projection": 8, "n_clusters": 3}
    budget = Training(epochs=epochs, precision="32-true", stop_on_collapse=False, progress=False)
    return InfoMGF(**{**settings, "training": budget, **params})


@pytest.fixture(scope="module")
def data():
    return graph()


@pytest.fixture(scope="module", params=["random", "generative"])
def fitted(request, data):
    return tiny(augment=request.param).fit(data[0])


def unit(data):
    """X centred, rows of unit length."""
    x = torch.tensor(data[0][0], dtype=torch.float32)
    return torch.nn.functional.normalize(x - x.mean(dim=0), dim=1)


def views_of(learner, source):
    """A network as it is built, with neighbours found, and the views of one step."""
    torch.manual_seed(0)
    batch = source.batch(np.zeros(1))
    net = learner.build(batch)
    learner._search(net, batch["graph"])
    return net, learner.views(batch, torch.Generator().manual_seed(0))


# What comes out -----------------------------------------------------------------------------------------------------


def test_what_a_fit_leaves(fitted, data):
    assert fitted.embedding_.shape == (90, 8)
    assert np.allclose(np.linalg.norm(fitted.embedding_, axis=1), 1, atol=1e-5)
    assert list(fitted.view_graphs_) == ["a", "b"]
    for matrix in (fitted.graph_, *fitted.view_graphs_.values()):
        assert isinstance(matrix, sp.csr_array)
        assert matrix.shape == (90, 90)
        assert abs(matrix - matrix.T).max() < 1e-6
        assert matrix.data.min() > 0
        assert (matrix.diagonal() > 0).all()
        assert 7 * 90 / 2 <= matrix.nnz <= 2 * 7 * 90  # a node keeps itself and 6 more, and those that keep it
    assert set(fitted.labels_) == {0, 1, 2}
    terms = {"shared", "unique", "fusion"} | ({"bound", "error"} if fitted.augment == "generative" else set())
    row = next(row for row in fitted.history_ if "loss" in row)
    assert terms <= set(row)
    assert row["loss"] == pytest.approx(sum(row[term] for term in terms), abs=1e-4)


def test_embedding_is_the_network_on_the_fused_graph(fitted, data):
    matrix = torch.tensor(fitted.graph_.toarray()).float().to_sparse_csr()
    with torch.no_grad():
        z = fitted.net_.main.gcn(unit(data), matrix)
    assert np.allclose(z, fitted.embedding_, atol=1e-5)


def test_save_and_load(fitted, data, tmp_path):
    fitted.save(tmp_path)
    loaded = nolabel.load(tmp_path)
    assert np.array_equal(loaded.embedding_, fitted.embedding_)
    assert np.array_equal(loaded.transform(data[0]), fitted.embedding_)
    assert abs(loaded.graph_ - fitted.graph_).max() == 0
    assert np.array_equal(loaded.labels_, fitted.labels_)
    assert loaded.layers_ == ["a", "b"]


def test_same_seed_same_result_and_clone(fitted, data):
    again = clone(fitted).fit(data[0])
    assert np.array_equal(again.embedding_, fitted.embedding_)
    other = clone(fitted).set_params(training__random_state=1).fit(data[0])
    assert not np.allclose(other.embedding_, fitted.embedding_)


def test_it_finds_blocks_that_features_and_layers_hide():
    (x, layers), y = graph(150, seed=3)
    model = tiny(epochs=30, hidden=64, dim=32, projection=32).fit((x, layers))
    found = model.score(y)
    raw = cluster_scores(y, KMeans(3, n_init=4, random_state=0).fit_predict(x))
    assert found.nmi > raw.nmi + 0.1
    assert found.nmi > 0.8
    refined = model.graph_.tocoo()
    off = refined.row != refined.col
    same = y[refined.row] == y[refined.col]
    given = (layers["a"] * (y[:, None] == y)).sum() / layers["a"].sum()
    assert (refined.data * same)[off].sum() / refined.data[off].sum() > given + 0.1


def test_the_number_of_clusters_is_found():
    rng = np.random.default_rng(0)
    y = np.arange(80) % 4
    layers = [block_model(y, 0.5, 0.0, rng) for _ in range(2)]
    model = tiny(epochs=2, n_clusters=None).fit((np.eye(4)[y] + 0.01, layers))
    assert len(set(model.labels_)) == 4
    assert model.score(y, repeats=3).ari > 0.9
    with pytest.raises(ValueError, match="y must have the 80 nodes of the fit, got 3"):
        model.score([0, 1, 2])


def test_fit_predict_and_fit_transform(fitted, data):
    assert np.array_equal(clone(fitted).fit_predict(data[0]), fitted.labels_)
    assert np.array_equal(clone(fitted).fit_transform(data[0]), fitted.embedding_)


# Steps --------------------------------------------------------------------------------------------------------------


def test_losses_by_the_formula(data):
    learner = tiny(dropout=0.0, edge_dropout=0.0)
    net, views = views_of(learner, learner.open(data[0], None))
    main, item = net.main, views.graph
    x = unit(data)

    def lower(a, b):
        s = cosine_similarity(a[:, None], b[None], dim=2) / 0.2
        own = torch.arange(len(a))
        return (torch.nn.functional.cross_entropy(s, own) + torch.nn.functional.cross_entropy(s.T, own)) / 2

    z = [main.gcn(x, sparse_matrix(*learner._found(net, item, number), 90)) for number in range(3)]
    other = [main.gcn(x, sparse_matrix(*pair, 90)) for pair in views.augmented]
    s = [main.shared[i](z[i]) for i in range(2)]
    expected = {
        "shared": lower(s[0], s[1]),
        "unique": (lower(s[0], main.unique[0](other[0])) + lower(s[1], main.unique[1](other[1]))) / 2,
        "fusion": (lower(main.fused[0](z[2]), s[0]) + lower(main.fused[1](z[2]), s[1])) / 2,
    }
    found = learner.loss(net, views)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), abs=1e-4), name


def test_gradients_reach_what_they_should(data):
    learner = tiny(augment="generative")
    net, views = views_of(learner, learner.open(data[0], None))
    sum(learner.loss(net, views).values()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.main.parameters())
    assert all(p.grad is None for p in net.generator.parameters())
    net.zero_grad()
    sum(learner.generator_loss(net, views).values()).backward()
    trained = [p for name, p in net.generator.named_parameters() if not name.endswith("decoders")]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in trained)
    assert all(p.grad is None for learner in net.main.learners for p in learner.parameters())  # Z_v is given


def test_each_optimiser_moves_its_own_part(data):
    learner = tiny(augment="generative", generator_lr=1e-30, epochs=1)
    before = views_of(learner, learner.open(data[0], None))[0]
    learner.fit(data[0])
    for name, value in learner.net_.generator.state_dict().items():
        assert torch.allclose(value, before.generator.state_dict()[name]), name
    moved = learner.net_.main.state_dict()
    assert any(not torch.equal(value, before.main.state_dict()[name]) for name, value in moved.items())


def test_generated_graphs_are_gated_symmetric_and_normalised(data):
    learner = tiny(augment="generative", gate_bias=0.5, gate_temperature=0.5)
    source = learner.open(data[0], None)
    net, views = views_of(learner, source)
    (edges, weights), _ = learner._augmented(net, views)
    x = unit(data)
    gate = torch.sigmoid(net.generator.scorers[0](x, edges) / 0.5)
    gate = torch.where(edges[0] == edges[1], 1.0, gate)
    assert torch.allclose(weights, normalised(edges, gate, 90))
    noisy = tiny(augment="generative")
    (edges, weights), _ = noisy._augmented(net, noisy.views({"graph": views.graph}, torch.Generator().manual_seed(0)))
    full = torch.zeros(90, 90).index_put((edges[0], edges[1]), weights)
    assert torch.allclose(full, full.T)
    assert set(map(tuple, edges.T.tolist())) == set(
        map(tuple, with_loops(torch.tensor(np.stack(np.nonzero(data[0][1]["a"]))), 90).T.tolist())
    )


def test_contrast_in_parts_covers_every_node_once(data):
    learner = tiny(contrast_batch=40)
    _, views = views_of(learner, learner.open(data[0], None))
    assert [len(part) for part in views.parts] == [30, 30, 30]
    assert sorted(torch.cat(views.parts).tolist()) == list(range(90))
    a, b = torch.randn(90, 8), torch.randn(90, 8)
    by_hand = sum(learner._contrast(a[rows], b[rows], [torch.arange(30)]) for rows in views.parts) / 3
    assert learner._contrast(a, b, views.parts).item() == pytest.approx(by_hand.item(), abs=1e-5)
    assert learner._contrast(a, b, views.parts) < learner._contrast(a, b, [torch.arange(90)])  # fewer negatives


def test_no_part_is_a_single_node():
    (x, layers), _ = graph(9)
    learner = tiny(contrast_batch=2, n_neighbors=3)
    _, views = views_of(learner, learner.open((x, layers), None))
    assert [len(part) for part in views.parts] == [3, 2, 2, 2]


def test_fewer_different_vectors_than_clusters(data):
    with pytest.warns(UserWarning, match="n_clusters=3: there are only 1 different vectors"):
        model = tiny(epochs=1, hidden=4, training=Training(epochs=1, lr=1e-9, stop_on_collapse=False)).fit(
            (np.ones((8, 2)), [np.ones((8, 8))] * 2)
        )
    assert set(model.labels_) == {0}


def test_neighbours_are_searched_only_when_due(data, monkeypatch):
    calls = []
    plain = InfoMGF._search
    monkeypatch.setattr(InfoMGF, "_search", lambda self, *given: (calls.append(1), plain(self, *given)))
    tiny(epochs=5, renew=3).fit(data[0])
    assert len(calls) == 2  # before steps 0 and 3


def test_a_resumed_run_repeats_the_unbroken_one(data, tmp_path, monkeypatch):
    budget = Training(epochs=6, precision="32-true", checkpoint_seconds=0.0, progress=False, stop_on_collapse=False)
    whole = tiny(training=budget, renew=4).fit(data[0])
    step = InfoMGF.step

    def broken(self, run, views):
        if run.clock.step == 3:
            raise RuntimeError("cut off")
        return step(self, run, views)

    monkeypatch.setattr(InfoMGF, "step", broken)
    with pytest.raises(RuntimeError, match="cut off"):
        tiny(training=budget, renew=4).fit(data[0], run=tmp_path)
    monkeypatch.undo()
    resumed = tiny(training=budget, renew=4).fit(data[0], run=tmp_path, resume=True)
    assert np.array_equal(resumed.embedding_, whole.embedding_)


# New nodes, other graphs --------------------------------------------------------------------------------------------


def test_new_nodes_come_with_the_whole_graph(fitted, data):
    (x, layers), _ = data
    larger = {name: np.pad(matrix, (0, 2)) for name, matrix in layers.items()}
    for matrix in larger.values():
        matrix[90, 0] = matrix[0, 90] = 1  # node 91 stays isolated
    z = fitted.transform((np.concatenate([x, x[:2]]), larger))
    assert z.shape == (92, 8)
    assert np.allclose(z[1:90], fitted.embedding_[1:], atol=0.2)  # the features' mean is that of the fit
    turned = fitted.transform((x, dict(reversed(layers.items()))))  # layers are known by name
    assert np.allclose(turned, fitted.embedding_, atol=1e-5)
    with pytest.raises(ValueError, match="cannot place new ones alone: give the whole extended graph"):
        fitted.transform(x[:3])
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        fitted.transform("nowhere")
    with pytest.raises(ValueError, match="X must have the 12 features of the fit, got 11"):
        fitted.transform((x[:, 1:], layers))
    with pytest.raises(ValueError, match="must have the layers a, b of the fit, got a, c"):
        fitted.transform((x, {"a": layers["a"], "c": layers["b"]}))


def test_renumbered_nodes_are_the_same_nodes(fitted, data):
    (x, layers), _ = data
    order = np.random.default_rng(0).permutation(90)
    z = fitted.transform((x[order], {name: matrix[order][:, order] for name, matrix in layers.items()}))
    assert np.allclose(z, fitted.embedding_[order], atol=1e-4)


def test_without_features(data):
    (_, layers), _ = data
    model = tiny(epochs=10).fit((None, layers))
    assert model.embedding_.shape == (90, 8)
    assert np.isfinite(model.embedding_).all()
    assert np.array_equal(model.transform((None, layers)), model.embedding_)
    with pytest.raises(ValueError, match="a graph without features has no coordinates that another graph shares"):
        model.transform((None, {**layers, "b": layers["a"]}))


def test_before_fit(data):
    for call in (lambda m: m.transform(data[0]), lambda m: m.graph_, lambda m: m.view_graphs_, lambda m: m.score([0])):
        with pytest.raises(NotFittedError, match="this InfoMGF is not fitted"):
            call(tiny())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_neighbors": 90}, "n_neighbors must be below the 90 nodes of the graph, got 90"),
        ({"n_neighbors": 0}, "n_neighbors must be a whole number of at least 1, got 0"),
        ({"hops": 0}, "hops must be a whole number of at least 1"),
        ({"dim": 1.5}, "dim must be a whole number of at least 2, got 1.5"),
        ({"contrast_batch": 1}, "contrast_batch must be a whole number of at least 2, got 1"),
        ({"renew": 0}, "renew must be a whole number of at least 1"),
        ({"n_clusters": 1}, "n_clusters must be a whole number of at least 2"),
        ({"n_clusters": 91}, "n_clusters must be at most the 90 nodes of the graph, got 91"),
        ({"augment": "none"}, "augment must be one of random, generative, got 'none'"),
        ({"activation": "elu"}, "activation must be 'relu' or 'tanh'"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"edge_dropout": -0.1}, r"edge_dropout must lie in \[0, 1\)"),
        ({"temperature": 0}, "temperature must be above 0, got 0"),
        ({"generator_weight": -1}, "generator_weight must be at least 0"),
        ({"augment": "generative", "gate_bias": 0.7}, r"gate_bias must lie in \[0, 0.5\]"),
        ({"gate_temperature": 0.0}, "gate_temperature must be above 0"),
    ],
)
def test_bad_parameters(params, message, data):
    with pytest.raises(ValueError, match=message) as caught:
        tiny(epochs=1, **params).fit(data[0])
    assert "\n" not in str(caught.value)


def test_bad_graphs(data):
    (x, layers), _ = data
    with pytest.raises(
        ValueError, match="two kinds of edges or more, got a; as a second one take a graph of neighbours"
    ):
        tiny().fit((x, {"a": layers["a"]}))
    with pytest.raises(TypeError, match="source: expected an .npz file"):
        tiny().fit(x)
    with pytest.warns(UserWarning, match="directed edges were given their way back"):
        tiny(epochs=1).fit((x, {**layers, "b": np.triu(layers["b"])}))
    zero = x.copy()
    zero[:2] = 0
    with pytest.warns(UserWarning, match="X: 2 rows are all zero"):
        model = tiny(epochs=1).fit((zero, layers))
    assert np.isfinite(model.embedding_).all()


def test_isolated_nodes_are_allowed_in_silence(data):
    (x, layers), _ = data
    alone = {name: matrix.copy() for name, matrix in layers.items()}
    for matrix in alone.values():
        matrix[5] = matrix[:, 5] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = tiny(epochs=2).fit((x, alone))
    assert np.isfinite(model.embedding_).all()
