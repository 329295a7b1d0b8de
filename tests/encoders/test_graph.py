import sys

import pytest
import torch
from torch.nn.functional import normalize

from nolabel.encoders.graph import GCN, EdgeScorer, FeatureWeights
from nolabel.ops.graphs import normalised, sparse_matrix, with_loops

N = 5
EDGES = with_loops(torch.tensor([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]]), N)
WEIGHTS = normalised(EDGES, torch.ones(EDGES.shape[1]), N)


def dense(weights=WEIGHTS):
    return torch.zeros(N, N).index_put((EDGES[0], EDGES[1]), weights)


def test_gcn_is_its_formula():
    torch.manual_seed(0)
    net = GCN(3, 8, 4, layers=3).eval()
    x, expected = torch.rand(N, 3), None
    for number, convolution in enumerate(net.convolutions):
        h = x if number == 0 else expected.relu()
        expected = dense() @ (h @ convolution.lin.weight.T) + convolution.bias
    found = net(x, sparse_matrix(EDGES, WEIGHTS, N))
    assert torch.allclose(found, normalize(expected, dim=1), atol=1e-6)
    assert torch.allclose(found.norm(dim=1), torch.ones(N))


def test_gradients_reach_features_edges_and_weights():
    net = GCN(3, 8, 4, dropout=0.0)
    x, weights = torch.rand(N, 3, requires_grad=True), WEIGHTS.clone().requires_grad_()
    net(x, sparse_matrix(EDGES, weights, N))[:, 0].sum().backward()
    for gradient in (x.grad, weights.grad, *(p.grad for p in net.parameters())):
        assert gradient.abs().max() > 0


def test_nodes_of_other_components_change_nothing():
    net, graph = GCN(3, 8, 4).eval(), sparse_matrix(EDGES, WEIGHTS, N)
    x = torch.rand(N, 3)
    other = x.clone()
    other[3:] = torch.rand(2, 3)
    assert torch.equal(net(x, graph)[:3], net(other, graph)[:3])
    assert not torch.equal(net(x, graph)[3:], net(other, graph)[3:])


def test_dropout_is_for_training_alone():
    net, graph, x = GCN(3, 8, 4, dropout=0.5), sparse_matrix(EDGES, WEIGHTS, N), torch.rand(N, 3)
    assert not torch.equal(net(x, graph), net(x, graph))
    net.eval()
    assert torch.equal(net(x, graph), net(x, graph))


def test_works_under_autocast():
    net, x = GCN(3, 8, 4).eval(), torch.rand(N, 3)
    plain = net(x, sparse_matrix(EDGES, WEIGHTS, N))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(net(x, sparse_matrix(EDGES, WEIGHTS, N)), plain)


def test_feature_weights_are_a_diagonal():
    torch.manual_seed(0)
    learner = FeatureWeights(4)
    for weight in learner.weights:
        torch.nn.init.normal_(weight)
    x = torch.rand(6, 4)
    first, second = (torch.diag(weight) for weight in learner.weights)
    assert torch.allclose(learner(x), normalize((x @ first).relu() @ second, dim=1), atol=1e-6)
    assert torch.equal(FeatureWeights(4)(x), normalize(x, dim=1))  # before training: the features as they come
    assert FeatureWeights(4)(torch.zeros(1, 4)).tolist() == [[0.0] * 4]


def test_signed_features_need_tanh():
    x = torch.tensor([[1.0, -1.0]])
    assert FeatureWeights(2)(x).tolist() == [[1.0, 0.0]]
    assert FeatureWeights(2, activation="tanh")(x)[0, 1] < 0


def test_edge_scores_are_the_averaged_linear_map_of_both_ends():
    torch.manual_seed(0)
    scorer, x = EdgeScorer(3, 8), torch.rand(N, 3)
    u = scorer.node[:2](x)
    half = scorer.node[2].weight[0]  # linear([u_i, u_j]) with the halves a and b: (a + b) / 2 stands here
    a = torch.randn(8)
    b = 2 * half - a
    there = u[EDGES[0]] @ a + u[EDGES[1]] @ b
    back = u[EDGES[1]] @ a + u[EDGES[0]] @ b
    expected = (there + back) / 2 + 2 * scorer.node[2].bias
    assert torch.allclose(scorer(x, EDGES), expected, atol=1e-5)
    assert torch.allclose(scorer(x, EDGES), scorer(x, EDGES.flip(0)))


def test_bad_arguments():
    for make in (lambda: GCN(3, 8, 4, layers=0), lambda: FeatureWeights(3, layers=0)):
        with pytest.raises(ValueError, match="layers must be at least 1, got 0"):
            make()
    with pytest.raises(ValueError, match="activation must be 'relu' or 'tanh', got 'elu'"):
        FeatureWeights(3, activation="elu")


def test_without_geometric(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    with pytest.raises(ImportError, match=r"graphs need PyTorch Geometric: pip install 'nolabel\[graph\]'"):
        GCN(3, 8, 4)
