"""Images blended with others of their batch."""

import numpy as np
import pytest
import torch

from nolabel.views.mixing import mixup

IMAGES = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_images_are_blended_with_their_partner():
    mixed = mixup(IMAGES, generator=seeded())
    assert 0.5 <= mixed.share <= 1.0
    assert sorted(mixed.partner.tolist()) == list(range(6))
    expected = mixed.share * IMAGES + (1 - mixed.share) * IMAGES[mixed.partner]
    torch.testing.assert_close(mixed.images, expected)


def test_bytes_become_floats_and_the_given_images_stay():
    whole = (IMAGES * 255).to(torch.uint8)
    before = whole.clone()
    mixed = mixup(whole, generator=seeded())
    assert mixed.images.dtype == torch.float32
    assert mixed.images.max() <= 1.0
    assert torch.equal(whole, before)
    floats = IMAGES.clone()
    mixup(floats, generator=seeded())
    assert torch.equal(floats, IMAGES)


def test_without_alpha_nothing_is_blended():
    mixed = mixup(IMAGES, alpha=0, generator=seeded())
    assert mixed.share == 1.0
    assert torch.equal(mixed.images, IMAGES)


def test_the_share_is_that_of_a_beta_distribution():
    shares = np.array([mixup(IMAGES[:2, :, :1, :1], alpha=1.0, generator=seeded(s)).share for s in range(400)])
    assert shares.mean() == pytest.approx(0.75, abs=0.02)  # the larger of a uniform share and the rest
    even = np.array([mixup(IMAGES[:2, :, :1, :1], alpha=50.0, generator=seeded(s)).share for s in range(50)])
    assert even.max() < 0.75


def test_the_same_generator_gives_the_same_blend():
    first, second, other = (mixup(IMAGES, generator=seeded(s)) for s in (3, 3, 4))
    assert torch.equal(first.images, second.images)
    assert first.share == second.share != other.share


@pytest.mark.parametrize("alpha", [-0.1, float("nan"), float("inf")])
def test_bad_alpha(alpha):
    with pytest.raises(ValueError, match="alpha must be at least 0 and finite"):
        mixup(IMAGES, alpha=alpha, generator=seeded())
