"""The compact U-Net."""

import pytest
import torch

from nolabel.encoders.unet import UNet


def test_maps_of_any_shape():
    net = UNet((3, 5, 7, 9), channels=3)
    for height, width in ((60, 80), (17, 9), (1, 1)):
        maps = net.stages(torch.rand(2, 3, height, width))
        assert maps[net.finest].shape == (2, 3, height, width)
        assert {name: part.shape[1] for name, part in maps.items()} == net.channels
    assert net.dim == 3
    assert net(torch.rand(2, 3, 8, 8)).shape == (2, 3)


def test_a_pixel_sees_far_and_stays_in_place():
    torch.manual_seed(1)
    net = UNet((8, 8, 8), channels=1).eval()
    image = torch.rand(1, 1, 64, 64, requires_grad=True)
    net.stages(image)["up1"][0, :, 32, 32].sum().backward()
    seen = image.grad[0, 0].abs() > 0
    assert seen[31:34, 31:34].any()
    assert seen[:24].any()  # through the coarse maps: the fine ones alone see four pixels around
    assert seen[:, 41:].any()
    assert not seen.all()


def test_the_short_way_is_used():
    """With the way down cut off, the finest map still follows the image."""
    torch.manual_seed(0)
    net = UNet((4, 4), channels=1).eval()
    for weight in net.down[1].parameters():
        weight.data.zero_()
    first, second = (net.stages(torch.rand(1, 1, 8, 8))["up1"] for _ in range(2))
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("widths", [(8,), (8, 0), (8, 2.5), ()])
def test_bad_widths(widths):
    with pytest.raises(ValueError, match="widths must be at least 2 whole numbers of at least 1"):
        UNet(widths)
