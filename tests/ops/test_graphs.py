import numpy as np
import pytest
import torch

from nolabel.ops.graphs import (
    concrete_gate,
    edge_products,
    nearest_nodes,
    neighbour_graph,
    normalised,
    ordered_edges,
    sparse_matrix,
    spectral_features,
    with_loops,
    without_some,
)


def unit(n, d, seed=0):
    rows = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def dense(edges, weights, n):
    return torch.zeros(n, n, dtype=weights.dtype).index_put((edges[0], edges[1]), weights)


def ring(n):
    own = torch.arange(n)
    return ordered_edges(torch.cat([torch.stack([own, (own + 1) % n]), torch.stack([(own + 1) % n, own])], dim=1), n)[0]


def test_normalisation_by_hand():
    # a path 0 - 1 - 2 with loops: degrees 2, 3, 2
    edges = with_loops(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 3)
    found = dense(edges, normalised(edges, torch.ones(7), 3), 3)
    r = 6**-0.5
    assert torch.allclose(found, torch.tensor([[0.5, r, 0], [r, 1 / 3, r], [0, r, 0.5]]))


def test_normalisation_without_edges_and_its_gradient():
    edges = torch.tensor([[0, 1], [1, 0]])
    assert normalised(edges, torch.zeros(2), 3).tolist() == [0.0, 0.0]
    weights = torch.rand(7, dtype=torch.float64, requires_grad=True)
    loops = with_loops(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 3)
    assert torch.autograd.gradcheck(lambda w: normalised(loops, w, 3), weights)


def test_largest_eigenvalue_of_a_normalised_graph_is_one():
    edges = with_loops(ring(9), 9)
    values = torch.linalg.eigvalsh(dense(edges, normalised(edges, torch.ones(edges.shape[1]), 9), 9))
    assert values.max() == pytest.approx(1.0, abs=1e-6)


def test_sparse_matrix_keeps_the_gradient_of_weights_and_vectors():
    edges = with_loops(ring(6), 6)
    weights = torch.rand(edges.shape[1], dtype=torch.float64, requires_grad=True)
    x = torch.rand(6, 3, dtype=torch.float64, requires_grad=True)
    (sparse_matrix(edges, weights, 6) @ x).square().sum().backward()
    by_sparse = weights.grad.clone(), x.grad.clone()
    weights.grad = x.grad = None
    (dense(edges, weights, 6) @ x).square().sum().backward()
    assert torch.allclose(by_sparse[0], weights.grad)
    assert torch.allclose(by_sparse[1], x.grad)


def test_edge_products_and_their_gradient():
    x = torch.rand(5, 4, dtype=torch.float64, requires_grad=True)
    edges = torch.tensor([[0, 0, 1, 3, 4], [0, 2, 4, 1, 4]])
    assert torch.allclose(edge_products(x, edges), (x @ x.T)[edges[0], edges[1]])
    assert torch.autograd.gradcheck(lambda v: edge_products(v, edges), x)


@pytest.mark.parametrize("block", [1, 7, 40, None])
def test_nearest_nodes_are_those_of_the_full_matrix(block):
    h = unit(40, 5)
    expected = (h @ h.T).topk(4, dim=1).indices.sort(dim=1).values  # a row's own cosine is the largest
    assert torch.equal(nearest_nodes(h, 3, block=block), expected)


def test_a_node_is_kept_among_its_duplicates():
    h = torch.ones(6, 2) / 2**0.5
    found = nearest_nodes(h, 2)
    assert all(row in found[row].tolist() for row in range(6))
    zero = torch.zeros(4, 2)
    assert all(row in nearest_nodes(zero, 1)[row].tolist() for row in range(4))


@pytest.mark.parametrize(("arguments", "message"), [((6,), "k must be from 1 to 5"), ((0,), "k must be from 1 to 5")])
def test_nearest_nodes_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        nearest_nodes(unit(6, 2), *arguments)
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        nearest_nodes(unit(6, 2), 2, block=0)


def plain_neighbour_graph(h, kept):
    """The formula on full matrices."""
    mask = torch.zeros(len(h), len(h), dtype=h.dtype).scatter(1, kept, 1.0)
    s = (h @ h.T) * mask
    s = ((s + s.T) / 2).relu()
    root = s.sum(dim=1).clamp_min(1e-12).rsqrt()
    return root[:, None] * s * root


def test_neighbour_graph_is_the_formula_with_its_gradient():
    h = unit(30, 4).requires_grad_()
    kept = nearest_nodes(h.detach(), 5)
    edges, weights = neighbour_graph(h, kept)
    factor = torch.rand(len(weights), dtype=torch.float64)
    (weights * factor).sum().backward()
    gradient, h.grad = h.grad.clone(), None
    plain = plain_neighbour_graph(h, kept)
    (plain[edges[0], edges[1]] * factor).sum().backward()
    assert torch.allclose(dense(edges, weights, 30), plain)
    assert torch.allclose(gradient, h.grad)
    assert gradient.abs().max() > 0


def test_neighbour_graph_is_symmetric_and_not_negative():
    h = unit(50, 3, seed=1)  # in three dimensions some neighbours have a negative cosine
    edges, weights = neighbour_graph(h, nearest_nodes(h, 30))
    full = dense(edges, weights, 50)
    assert torch.allclose(full, full.T)
    assert weights.min() == 0.0
    assert (full.diagonal() > 0).all()


def test_neighbour_graph_of_a_renumbered_graph():
    h, order = unit(20, 4), torch.randperm(20, generator=torch.Generator().manual_seed(2))
    first, second = (dense(*neighbour_graph(rows, nearest_nodes(rows, 4)), 20) for rows in (h, h[order]))
    assert torch.allclose(first[order][:, order], second)


def test_random_removal_keeps_loops_and_the_mean():
    edges = with_loops(ring(2000), 2000)
    kept, weights = without_some(edges, torch.full((edges.shape[1],), 0.25), 0.5, torch.Generator().manual_seed(0))
    loop = kept[0] == kept[1]
    assert int(loop.sum()) == 2000
    assert set(weights[loop].tolist()) == {0.25}
    assert set(weights[~loop].tolist()) == {0.5}
    assert 0.45 < int((~loop).sum()) / 4000 < 0.55
    pairs = {tuple(pair) for pair in kept[:, ~loop].T.tolist()}
    assert any((j, i) not in pairs for i, j in pairs)  # each direction by itself
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\), got 1.0"):
        without_some(edges, torch.ones(edges.shape[1]), 1.0, torch.Generator())


def test_gates():
    logits = torch.tensor([-2.0, 0.0, 2.0], requires_grad=True)
    constant = concrete_gate(logits, torch.tensor([0.1, 0.5, 0.9]), temperature=0.5, bias=0.5)  # eps is 0.5: no noise
    assert torch.allclose(constant, (logits / 0.5).sigmoid())
    constant.sum().backward()
    assert (logits.grad > 0).all()
    draws = concrete_gate(torch.full((20_000,), 1.0), torch.rand(20_000, generator=torch.Generator().manual_seed(0)))
    assert float((draws > 0.5).float().mean()) == pytest.approx(torch.tensor(1.0).sigmoid().item(), abs=0.01)
    assert torch.isfinite(concrete_gate(torch.zeros(2), torch.tensor([0.0, 1.0]), bias=0.0)).all()
    for bad, message in (({"temperature": 0.0}, "temperature must be above 0"), ({"bias": 0.6}, "bias must lie in")):
        with pytest.raises(ValueError, match=message):
            concrete_gate(torch.zeros(1), torch.zeros(1), **bad)


def test_spectral_features_tell_components_apart():
    a, b = torch.triu_indices(4, 4, 1), torch.triu_indices(6, 6, 1) + 4
    pairs = torch.cat([a, b], dim=1)
    edges = with_loops(torch.cat([pairs, pairs.flip(0)], dim=1), 10)
    graph = sparse_matrix(edges, normalised(edges, torch.ones(edges.shape[1]), 10), 10)
    x = spectral_features([graph, graph], 2)
    assert x.shape == (10, 4)
    assert x.min() >= 0
    cosine = torch.nn.functional.normalize(x, dim=1) @ torch.nn.functional.normalize(x, dim=1).T
    assert cosine[:4, :4].min() > 0.999
    assert cosine[4:, 4:].min() > 0.999
    assert cosine[:4, 4:].max() < 0.001
    assert torch.equal(x, spectral_features([graph, graph], 2))
    with pytest.raises(ValueError, match="dim must be from 1 to 9, got 10"):
        spectral_features([graph], 10)


def test_ordered_edges_match_numpy():
    rng = np.random.default_rng(0)
    edges = torch.from_numpy(rng.integers(0, 9, (2, 60)))
    found, places = ordered_edges(edges, 9)
    assert torch.equal(found[:, places], edges)
    assert found.T.tolist() == np.unique(edges.numpy().T, axis=0).tolist()
