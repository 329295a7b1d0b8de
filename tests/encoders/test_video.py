import copy

import pytest
import torch
from torch import nn

from nolabel.encoders.video import NAMES, Block3d, Small3d, build_video, convolution


@pytest.mark.parametrize("name", [f"{name}-x0.125" for name in NAMES])
@pytest.mark.parametrize("shape", [(2, 3, 8, 32, 32), (1, 3, 5, 24, 40)])
def test_a_vector_a_clip_of_any_length_and_size(name, shape):
    torch.manual_seed(0)
    net = build_video(name).eval()
    vectors = net(torch.rand(shape))
    assert vectors.shape == (shape[0], net.dim)
    assert vectors.dtype == torch.float32


def test_widths():
    assert build_video("small3d").dim == 64
    assert build_video("small3d-x2").dim == 128
    assert build_video("r3d18-x0.25").dim == 128
    counts = {name: sum(p.numel() for p in build_video(name).parameters()) for name in ("r3d18", "r2plus1d18")}
    assert counts["r3d18"] == pytest.approx(33.2e6, rel=0.02)  # as published, without the classifier
    assert counts["r2plus1d18"] == pytest.approx(counts["r3d18"], rel=0.01)  # by its definition


def test_small3d_halves_space_first():
    shapes, x = [], torch.rand(1, 3, 8, 48, 48)
    for layer in Small3d().layers:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(16, 8, 24, 24), (32, 8, 12, 12), (64, 4, 6, 6), (64, 2, 3, 3)]


def test_split_convolution_has_as_many_weights_and_looks_as_far():
    whole, split = (convolution(16, 16, stride=(2, 2, 2), split=s) for s in (False, True))
    x = torch.rand(1, 16, 6, 9, 7)
    assert whole(x).shape == split(x).shape
    weights = [
        sum(p.numel() for p in net.modules() if isinstance(p, nn.Conv3d) for p in p.parameters())
        for net in (whole, split)
    ]
    assert weights[1] <= weights[0] < 1.05 * weights[1]


def test_block_adds_its_input():
    block = Block3d(4, 4, 1, split=False).eval()
    nn.init.zeros_(block.norm2.weight)
    x = torch.rand(2, 4, 3, 4, 4)
    torch.testing.assert_close(block(x), x)


def test_motion_is_seen():
    """The same frames in another order are another clip; the mean frame would not tell."""
    torch.manual_seed(0)
    net, clip = build_video("small3d").eval(), torch.rand(1, 3, 8, 32, 32)
    assert not torch.allclose(net(clip), net(clip[:, :, torch.tensor([3, 1, 7, 0, 5, 2, 6, 4])]), atol=1e-4)


def test_the_layout_changes_nothing():
    torch.manual_seed(0)
    net, clip = build_video("small3d").eval(), torch.rand(2, 3, 8, 32, 32)
    assert net.layers[1][0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    plain = copy.deepcopy(net).to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(net(clip.contiguous(memory_format=torch.channels_last_3d)), plain(clip))


def test_any_module():
    maps = build_video(nn.Conv3d(3, 5, 3, padding=1))
    assert maps.dim == 5
    assert maps(torch.rand(2, 3, 4, 16, 16)).shape == (2, 5)
    vectors = build_video(nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten()))
    clip = torch.rand(2, 3, 4, 16, 16)
    torch.testing.assert_close(vectors(clip), ((clip - 0.45) / 0.25).mean(dim=(2, 3, 4)))
    assert build_video(maps) is maps


def test_bad_input():
    net = build_video("small3d")
    with pytest.raises(ValueError, match=r"clips must have shape \(n, 3, t, h, w\)"):
        net(torch.rand(2, 8, 3, 32, 32))
    with pytest.raises(TypeError, match="divide uint8 by 255"):
        net(torch.zeros(2, 3, 8, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="did you mean r3d18"):
        build_video("r3d")
    with pytest.raises(ValueError, match="width factor"):
        build_video("small3d-x0")
    with pytest.raises(TypeError, match="a name or an nn.Module, got int"):
        build_video(3)
    with pytest.raises(ValueError, match="must give"):
        build_video(nn.Flatten(0))
