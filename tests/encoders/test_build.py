"""Names and modules: what they build, and what is refused."""

import pytest
import torch
from torch import nn

from nolabel.encoders import Conv4, Encoder, ResNet, ViT, build


def test_names_and_widths():
    widths = {"resnet18": [64, 128, 256, 512], "resnet10-x0.5": [32, 64, 128, 256], "conv4": [64] * 4}
    widths |= {"conv4-growing": [32, 64, 128, 256], "conv4-x2": [128] * 4}
    for name, expected in widths.items():
        net = build(name, channels=3, image_size=32)
        assert list(net.channels.values()) == expected
        assert net.dim == expected[-1]
    assert [len(layer) for layer in build("resnet10", channels=1, image_size=32).layers] == [1, 1, 1, 1]
    assert [len(layer) for layer in build("resnet18-x0.1", channels=1, image_size=32).layers] == [2, 2, 2, 2]
    assert build("vit-tiny-x2", channels=3, image_size=32).dim == 384


def test_automatic_stem():
    for size, kernel in [(32, 3), (64, 3), (65, 7), (224, 7)]:
        net = build("resnet10-x0.1", channels=3, image_size=size)
        assert isinstance(net, ResNet)
        assert (net.stem.kernel_size, net.stem.stride) == ((kernel, kernel), (2, 2))
    small, large = (build("vit-tiny", channels=3, image_size=size) for size in (64, 96))
    assert isinstance(small, ViT)
    assert (len(small.blocks), small.extent, len(large.blocks), large.extent) == (6, 16, 12, 6)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("resnet81", {}, "unknown encoder 'resnet81': did you mean resnet8 or resnet18"),
        ("resnet18-half", {}, "unknown encoder 'resnet18-half': did you mean resnet18"),
        (
            "zzz",
            {},
            "unknown encoder 'zzz': expected one of conv4, conv4-growing, nin, resnet8, resnet10, resnet18, vit-tiny",
        ),
        ("", {}, "unknown encoder ''"),
        ("hf:", {}, "unknown encoder 'hf:'"),
        ("resnet18-x0", {}, "width factor must be a number above 0"),
        ("resnet18", {"stem": "tiny"}, "stem must be one of auto, small, compact, large, got 'tiny'"),
        ("conv4", {"stem": "small"}, "stem must be auto for 'conv4'"),
        ("hf:some/model", {"stem": "small"}, "stem must be auto for 'hf:some/model'"),
        ("hf:some/model", {"channels": 2}, "channels must be 1 or 3 for the pre-trained 'hf:some/model', got 2"),
        ("conv4", {"image_size": 8}, "image_size must be at least 16 for conv4, got 8"),
        ("resnet18", {"channels": 0}, "at least 1, got 0 and 32"),
        (nn.Flatten(), {"stem": "small"}, "stem must be auto for a module, got 'small'"),
    ],
)
def test_refused(spec, options, message):
    with pytest.raises(ValueError, match=message) as error:
        build(spec, **{"channels": 3, "image_size": 32} | options)
    assert "\n" not in str(error.value)


def test_neither_name_nor_module():
    with pytest.raises(TypeError, match=r"encoder must be a name or an nn\.Module, got int"):
        build(18, channels=3, image_size=32)


def test_encoder_comes_back_as_it_is():
    net = Conv4()
    assert build(net, channels=3, image_size=32) is net


def test_module_is_wrapped():
    torch.manual_seed(0)
    frozen = nn.BatchNorm2d(5).eval()
    module = nn.Sequential(nn.Conv2d(2, 5, 3), frozen)
    net = build(module, channels=2, image_size=8)
    assert isinstance(net, Encoder)
    assert net.dim == 5
    assert module.training  # the probe left the flags alone ...
    assert not frozen.training
    assert frozen.num_batches_tracked == 0  # ... and the statistics
    x = torch.rand(3, 2, 8, 8)
    torch.testing.assert_close(net(x), module(x).mean((2, 3)))  # maps are averaged, pixels come as they are
    net(x).sum().backward()
    assert module[0].weight.grad.abs().sum() > 0
    with pytest.raises(TypeError, match="a wrapped Sequential has no stages; use a named encoder"):
        net.stages(x)
    flat = build(nn.Sequential(nn.Flatten(), nn.Linear(2 * 8 * 8, 7)), channels=2, image_size=8)
    assert flat.dim == 7
    torch.testing.assert_close(flat(x), flat.module(x))


@pytest.mark.parametrize(
    ("module", "message"),
    [(nn.Flatten(0), r"must return \(n, d\) or \(n, d, h, w\), got shape \(48,\)"), (nn.LSTM(4, 4), "got tuple")],
)
def test_module_of_another_kind(module, message):
    if isinstance(module, nn.LSTM):
        module = nn.Sequential(nn.Flatten(2), nn.Linear(16, 4), module)
    with pytest.raises(ValueError, match=message):
        build(module, channels=3, image_size=4)


@pytest.mark.parametrize(
    ("name", "size", "side"),
    [("resnet8", 32, 4), ("resnet8-x0.1-map6", 32, 8), ("resnet8-x0.1-map6", 48, 6), ("resnet10-x0.1-map6", 224, 7)],
)
def test_least_map(name, size, side):
    *_, last = build(name, channels=1, image_size=size).stages(torch.zeros(1, 1, size, size)).values()
    assert last.shape[2:] == (side, side)


def test_bad_least_map():
    with pytest.raises(ValueError, match="-map6 is for resnet8, resnet10, resnet18, got 'conv4-map6'"):
        build("conv4-map6", channels=3, image_size=32)
    with pytest.raises(ValueError, match="-map40: the compact stem leaves at most 16x16 of 32 pixels"):
        build("resnet8-map40", channels=3, image_size=32)


def test_signed_features_differ_by_the_last_relu_alone():
    torch.manual_seed(0)
    signed = build("resnet8-x0.1-map4-signed", channels=1, image_size=32).eval()
    usual = build("resnet8-x0.1-map4", channels=1, image_size=32).eval()
    usual.load_state_dict(signed.state_dict())
    images = torch.rand(3, 1, 32, 32)
    (*before, last), (*same, clipped) = signed.stages(images).values(), usual.stages(images).values()
    assert last.min() < 0
    torch.testing.assert_close(last.relu(), clipped)
    for a, b in zip(before, same, strict=True):
        torch.testing.assert_close(a, b)


def test_signed_is_for_residual_nets():
    with pytest.raises(ValueError, match="-signed is for resnet8, resnet10, resnet18, got 'conv4-signed'"):
        build("conv4-signed", channels=3, image_size=32)
