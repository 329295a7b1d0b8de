"""Statistics of batch norm: read, replaced, blended, estimated."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from nolabel.encoders.batch_norm import (
    batch_norms,
    batch_statistics,
    blended,
    estimated,
    replace_statistics,
    statistics,
)

SHAPES = {nn.BatchNorm1d: (6, 3), nn.BatchNorm2d: (4, 3, 5, 2), nn.BatchNorm3d: (2, 3, 2, 3, 2)}


def trained(kind):
    """A layer with statistics, a scale and a shift of its own."""
    layer = kind(3)
    layer.running_mean = torch.tensor([0.5, -1.0, 2.0])
    layer.running_var = torch.tensor([0.25, 4.0, 1.0])
    layer.weight.data = torch.tensor([2.0, 1.0, -1.0])
    layer.bias.data = torch.tensor([0.0, 1.0, 0.5])
    return layer


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_blended_is_the_formula_in_every_dimension(kind, share):
    layer, x = trained(kind), torch.randn(SHAPES[kind], generator=torch.Generator().manual_seed(0)) * 3 + 1
    flat = x.transpose(0, 1).reshape(3, -1).numpy().astype(np.float64)
    mean = share * layer.running_mean.numpy() + (1 - share) * flat.mean(axis=1)
    variance = share * layer.running_var.numpy() + (1 - share) * flat.var(axis=1, ddof=1)  # unbiased, like with like
    shape = (1, 3, *[1] * (x.ndim - 2))
    expected = (x.numpy() - mean.reshape(shape)) / np.sqrt(variance + layer.eps).reshape(shape)
    expected = expected * layer.weight.detach().numpy().reshape(shape) + layer.bias.detach().numpy().reshape(shape)
    net = nn.Sequential(layer)
    layers = batch_norms(net)
    for mode in (True, False):
        net.train(mode)
        with blended(layers, share, statistics(layers)) as seen:
            found = net(x)
        np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5)
    assert seen["0"].values == flat.shape[1]
    np.testing.assert_allclose(seen["0"].mean, flat.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(seen["0"].variance, flat.var(axis=1, ddof=1), rtol=1e-5)


def test_the_sources_share_alone_is_the_evaluating_network_and_buffers_stay():
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), trained(nn.BatchNorm2d), nn.ReLU(), nn.Conv2d(3, 3, 1), trained(nn.BatchNorm2d)
    )
    layers, x = batch_norms(net), torch.rand(4, 1, 6, 6)
    assert list(layers) == ["1", "4"]
    before = copy.deepcopy(net.state_dict())
    net.train()  # batch norm's own update would move the buffers
    with blended(layers, 1.0, statistics(layers)):
        found = net(x)
    torch.testing.assert_close(found, net.eval()(x))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any("forward" in vars(layer) for layer in layers.values())


def test_the_own_forward_comes_back_after_an_error():
    net = nn.Sequential(nn.BatchNorm1d(3))
    layers = batch_norms(net)
    with pytest.raises(ValueError, match="expected 2D or 3D input"), blended(layers, 0.0, statistics(layers)):
        net(torch.rand(2, 3, 4, 4))
    assert "forward" not in vars(layers["0"])


def test_gradients_flow_through_the_batchs_statistics():
    layer = nn.BatchNorm1d(2, eps=0.0)
    layers = batch_norms(nn.Sequential(layer))
    x = torch.tensor([[1.0, 0.0], [3.0, 5.0], [2.0, 1.0]], requires_grad=True)
    with blended(layers, 0.0, statistics(layers)):
        (layer(x)[:, 0] * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    grad = x.grad[:, 0]
    assert grad.abs().max() > 0.1
    torch.testing.assert_close(grad.sum(), torch.tensor(0.0), atol=1e-6, rtol=0)  # a shift of the batch changes nothing
    with blended(layers, 1.0, statistics(layers)):
        x.grad = None
        layer(x)[:, 0].sum().backward()
    torch.testing.assert_close(x.grad[:, 0], torch.ones(3))  # of the source's statistics, none


def test_estimates_pool_batches_exactly():
    x = torch.randn(11, 3, 4, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 5.0, 0.1])[:, None] + 7
    net = nn.Sequential(trained(nn.BatchNorm1d))
    layers = batch_norms(net)
    source = statistics(layers)
    flat = x.transpose(0, 1).reshape(3, -1)
    for parts in ([x], [x[:4], x[4:6], x[6:]]):
        mean, variance = estimated(net, layers, parts, lambda k: 0.0, source)["0"]
        torch.testing.assert_close(mean, flat.mean(dim=1))
        torch.testing.assert_close(variance, flat.var(dim=1))
    kept = estimated(net, layers, [x[:6], x[6:]], lambda k: [0.9, 0.25][k], source)["0"]
    torch.testing.assert_close(kept[0], 0.25 * source["0"][0] + 0.75 * flat.mean(dim=1))
    torch.testing.assert_close(kept[1], 0.25 * source["0"][1] + 0.75 * flat.var(dim=1))
    assert torch.equal(layers["0"].running_mean, source["0"][0])
    with pytest.raises(ValueError, match=r"the source's share at step 0 must lie in \[0, 1\], got 1.5"):
        estimated(net, layers, [x], lambda k: 1.5, source)


def test_replacing_copies():
    layer = trained(nn.BatchNorm2d)
    layers = batch_norms(nn.Sequential(layer))
    kept = statistics(layers)
    replace_statistics(layers, {"0": (torch.zeros(3), torch.ones(3))})
    assert layer.running_mean.tolist() == [0, 0, 0]
    assert kept["0"][0].tolist() == [0.5, -1.0, 2.0]  # a copy, not the buffer


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Linear(2, 2), "expected batch norm layers, found none"),
        (
            nn.Sequential(nn.InstanceNorm2d(2), nn.GroupNorm(1, 2), nn.LayerNorm(2)),
            "expected batch norm layers, found only GroupNorm, InstanceNorm2d, LayerNorm",
        ),
        (
            nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False)),
            "the batch norm '1' has track_running_stats=False, so it remembers no statistics",
        ),
    ],
)
def test_networks_without_statistics(net, message):
    with pytest.raises(ValueError, match=message):
        batch_norms(net)


def test_one_value_a_channel_has_no_variance():
    with pytest.raises(ValueError, match=r"a batch of shape \(1, 3, 1, 1\) has 1 value a channel"):
        batch_statistics(torch.zeros(1, 3, 1, 1))
    with pytest.raises(ValueError, match="has 0 values a channel"):
        batch_statistics(torch.zeros(0, 3))
