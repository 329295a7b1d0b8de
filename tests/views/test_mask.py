import pytest
import torch

from nolabel.views.mask import block_masks, mask_blocks


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_masks_are_whole_blocks_and_as_many_as_asked():
    masks = block_masks(50, 12, 20, patch=4, ratio=0.4, spread=0.0, generator=generator())
    blocks = masks.unfold(1, 4, 4).unfold(2, 4, 4)  # (n, 3, 5, 4, 4)
    assert torch.equal(blocks.all((3, 4)), blocks.any((3, 4)))
    assert blocks.all((3, 4)).sum((1, 2)).tolist() == [6] * 50  # 40 % of 15
    frequency = masks.float().mean(0)
    assert frequency.min() > 0.15  # every place may be hidden
    assert frequency.max() < 0.65


def test_shares_stray_evenly_and_stay_in_bounds():
    shares = block_masks(2000, 40, 40, patch=2, ratio=0.15, spread=0.1, generator=generator()).float().mean((1, 2))
    assert shares.min() >= 0.05 - 0.002
    assert shares.max() <= 0.25 + 0.002
    assert shares.mean() == pytest.approx(0.15, abs=0.005)
    assert shares.std() == pytest.approx(0.1 / 3**0.5, abs=0.005)


def test_blocks_are_cut_off_at_the_border():
    masks = block_masks(1, 5, 7, patch=3, ratio=1.0, spread=0.0, generator=generator())
    assert masks.shape == (1, 5, 7)
    assert masks.all()
    some = block_masks(200, 5, 7, patch=3, ratio=0.2, spread=0.0, generator=generator()).sum((1, 2))  # 1 of 6 blocks
    assert set(some.tolist()) == {9, 3, 6, 2}


def test_only_hidden_pixels_change():
    images = torch.rand(3, 3, 16, 16, generator=generator(1)) * 0.5 + 0.5
    before = images.clone()
    seen = mask_blocks(images, 4, 0.5, 0.2, generator=generator(2))
    hidden = block_masks(3, 16, 16, patch=4, ratio=0.5, spread=0.2, generator=generator(2))
    assert torch.equal(seen, torch.where(hidden[:, None], 0.0, images))
    assert torch.equal(images, before)
    assert not torch.equal(hidden[0], hidden[1])
    whole = mask_blocks((images * 255).byte(), 4, 0.0, 0.0, generator=generator())
    assert torch.equal(whole, (images * 255).byte().float() / 255)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"patch": 0}, "patch must be a whole number of pixels >= 1, got 0"),
        ({"ratio": 1.5}, r"ratio must be a share in \[0, 1\], got 1.5"),
        ({"spread": -0.1}, r"spread must be a share in \[0, 1\], got -0.1"),
    ],
)
def test_bad_input(params, message):
    with pytest.raises(ValueError, match=message):
        mask_blocks(torch.zeros(1, 1, 8, 8), **{"patch": 4, **params}, generator=generator())
