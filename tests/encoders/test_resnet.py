"""Residual networks: parameters by hand, strides, what evaluation mode may depend on."""

import pytest
import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, max_pool2d, relu

from nolabel.encoders import ResNet


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def by_hand(blocks, widths, stem_kernel, channels):
    """Weights of the textbook network: convolutions without bias, two numbers a channel for each batch norm."""
    total = channels * widths[0] * stem_kernel**2 + 2 * widths[0]
    width_in = widths[0]
    for stage, (count, width) in enumerate(zip(blocks, widths)):
        for i in range(count):
            total += 9 * width_in * width + 9 * width * width + 4 * width
            if i == 0 and stage > 0:
                total += width_in * width + 2 * width
            width_in = width
    return total


def test_parameter_counts():
    # ResNet-18 has 11,173,962 weights with a 10-way classifier (5,130), for ImageNet 11,689,512 with 513,000.
    assert parameters(ResNet(stem="small")) == parameters(ResNet(stem="compact")) == 11_173_962 - 5_130
    assert parameters(ResNet(stem="large")) == 11_689_512 - 513_000
    assert parameters(ResNet((1, 1, 1, 1), width=32, channels=1)) == by_hand((1,) * 4, (32, 64, 128, 256), 3, 1)
    assert parameters(ResNet((2, 1), width=8, stem="large")) == by_hand((2, 1), (8, 16), 7, 3)


@pytest.mark.parametrize(
    ("stem", "sides"), [("small", (32, 16, 8, 4)), ("compact", (16, 8, 4, 2)), ("large", (8, 4, 2, 1))]
)
def test_stem_strides(stem, sides):
    maps = ResNet((1, 1, 1, 1), width=4, stem=stem).stages(torch.rand(2, 3, 32, 32))
    assert [tuple(m.shape) for m in maps.values()] == [(2, 4 * 2**i, s, s) for i, s in enumerate(sides)]


def textbook(net, x):
    """The network written out with plain functions, in evaluation mode, without any of its short cuts."""

    def norm(x, layer):
        shape = (1, -1, 1, 1)
        scale = (layer.weight / (layer.running_var + layer.eps).sqrt()).view(shape)
        return (x - layer.running_mean.view(shape)) * scale + layer.bias.view(shape)

    x = (x - net.mean) / net.std
    x = relu(norm(conv2d(x, net.stem.weight, None, net.stem.stride, net.stem.padding), net.norm))
    if net.stem.kernel_size == (7, 7):
        x = max_pool2d(x, 3, 2, 1)
    for stage, layer in enumerate(net.layers):
        for i, block in enumerate(layer):
            stride = 2 if stage > 0 and i == 0 else 1
            out = relu(norm(conv2d(x, block.conv1.weight, None, stride, 1), block.norm1))
            out = norm(conv2d(out, block.conv2.weight, None, 1, 1), block.norm2)
            if len(list(block.shortcut.parameters())):
                _, conv, shortcut_norm = block.shortcut
                x = norm(conv2d(x, conv.weight, None, stride), shortcut_norm)
            x = relu(out + x)
    return adaptive_avg_pool2d(x, 1).flatten(1)


@pytest.mark.parametrize("size", [32, 33, 17, 8])
@pytest.mark.parametrize("stem", ["small", "compact", "large"])
def test_equals_the_textbook_network(stem, size):
    torch.manual_seed(0)
    net = ResNet((2, 1, 1, 1), width=4, stem=stem)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # negative scales too: pooling before the ReLU must not mind
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    net.eval()
    x = torch.rand(3, 3, size, size)
    torch.testing.assert_close(net(x), textbook(net, x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        torch.autograd.grad(net(x).square().sum(), list(net.parameters())),
        torch.autograd.grad(textbook(net, x).square().sum(), list(net.parameters())),
        atol=1e-3,
        rtol=1e-3,
    )


def test_bad_stem():
    with pytest.raises(ValueError, match="stem must be one of small, compact, large, got 'tiny'"):
        ResNet(stem="tiny")


def test_output_stride_keeps_later_maps():
    """Stages after the stride is reached keep the map; widths go on doubling."""
    net = ResNet((1, 1, 1), channels=1, width=4, output_stride=4)
    shapes = [tuple(m.shape[1:]) for m in net.stages(torch.rand(1, 1, 32, 32)).values()]
    assert shapes == [(4, 16, 16), (8, 8, 8), (16, 8, 8)]
    with pytest.raises(ValueError, match="output_stride must be one of 1, 2, 4 with a small stem, got 8"):
        ResNet((1, 1, 1), stem="small", output_stride=8)
