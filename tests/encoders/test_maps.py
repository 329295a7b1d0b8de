import pytest
import torch
from torch import nn

from nolabel.encoders.heads import projection_head
from nolabel.encoders.maps import map_head


def test_layers_by_hand():
    assert [type(part).__name__ for part in map_head(4, 8, 2)] == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]
    three = map_head(4, 8, 2, layers=3)
    assert sum(p.numel() for p in three.parameters()) == 4 * 8 + 8 * 8 + 2 * 2 * 8 + 8 * 2 + 2
    (single,) = map_head(4, 8, 2, layers=1)
    assert (single.in_channels, single.out_channels, single.bias is not None) == (4, 2, True)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_it_is_the_vector_head_at_every_location(layers):
    """With the same weights, the map of a head is that of `projection_head` over all locations as rows."""
    torch.manual_seed(0)
    maps, vectors = map_head(3, 6, 4, layers=layers), projection_head(3, 6, 4, layers=layers)
    vectors.load_state_dict({k: v.squeeze() if v.ndim == 4 else v for k, v in maps.state_dict().items()})
    x = torch.randn(5, 3, 2, 7)
    rows = vectors(x.permute(0, 2, 3, 1).reshape(-1, 3))
    torch.testing.assert_close(maps(x), rows.view(5, 2, 7, 4).permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)


def test_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    head: nn.Sequential = map_head(6, 8, 3, layers=3)
    head(torch.randn(4, 6, 3, 3)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())


def test_bad_layers():
    with pytest.raises(ValueError, match="layers must be at least 1, got 0"):
        map_head(4, 8, 2, layers=0)
