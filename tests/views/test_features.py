"""Masks that hide a seed and its kin, and values that drop out one by one."""

import pytest
import torch

from nolabel.views.features import correlated_mask, drop_values, random_mask

NAN = float("nan")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs(*twins, features):
    """Information of 0.9 between twins, 0.1 elsewhere."""
    shared = torch.full((features, features), 0.1)
    for a, b in twins:
        shared[a, b] = shared[b, a] = 0.9
    return shared.fill_diagonal_(1.0)


@pytest.mark.parametrize("features", [2, 3, 4, 7])
def test_random_masks_hide_half(features):
    masks = torch.stack([random_mask(features, generator(seed)) for seed in range(300)])
    assert (masks.sum(dim=1) == features // 2).all()
    assert (masks.float().mean(dim=0) - (features // 2) / features).abs().max() < 0.12


def test_twins_stay_together():
    shared = pairs((0, 1), (2, 3), features=4)
    masks = [correlated_mask(shared, generator(seed), companions=1) for seed in range(100)]
    assert {tuple(mask.tolist()) for mask in masks} == {(True, True, False, False), (False, False, True, True)}
    first = sum(bool(mask[0]) for mask in masks)
    assert 30 < first < 70  # the seed is drawn evenly


def test_half_of_the_features_by_default():
    """A seed and the k / 2 features that share most with it, but never all of them."""
    for features, size in ((3, 2), (4, 3), (5, 3), (6, 4), (9, 5)):
        masks = [correlated_mask(torch.rand(features, features), generator(seed)) for seed in range(20)]
        assert {int(mask.sum()) for mask in masks} == {size}


def test_at_least_one_feature_on_either_side():
    for features in (3, 4, 6):
        for companions in (1, 50):
            for seed in range(50):
                mask = correlated_mask(torch.rand(features, features), generator(seed), companions=companions)
                assert 1 <= int(mask.sum()) <= features - 1


def test_features_without_information_fall_to_either_side():
    shared = pairs((0, 1), features=5)
    shared[4], shared[:, 4] = NAN, NAN
    masks = torch.stack([correlated_mask(shared, generator(seed), companions=1) for seed in range(300)])
    assert 0.4 < float(masks[:, 4].float().mean()) < 0.6
    assert (masks[:, :4].sum(dim=1) == 2).all()
    assert masks[masks[:, 1], 0].all()  # its twin is hidden with it
    alone = torch.full((3, 3), NAN)
    masks = torch.stack([correlated_mask(alone, generator(seed)) for seed in range(50)])
    assert ((masks.sum(dim=1) > 0) & (masks.sum(dim=1) < 3)).all()


def test_masks_repeat_with_the_seed():
    shared = torch.rand(6, 6)
    assert torch.equal(correlated_mask(shared, generator(3)), correlated_mask(shared, generator(3)))
    assert torch.equal(random_mask(6, generator(3)), random_mask(6, generator(3)))


def test_values_drop_one_by_one():
    lengths = torch.tensor([3, 0, 5000])
    keys = torch.arange(5003)
    left = drop_values(keys, lengths, 0.3, generator())
    assert int(left["lengths"].sum()) == len(left["keys"])
    assert int(left["lengths"][1]) == 0
    assert abs(int(left["lengths"][2]) / 5000 - 0.7) < 0.03
    assert (left["keys"].diff() > 0).all()  # in their order
    first = left["keys"][: int(left["lengths"][0])]
    assert (first < 3).all()
    other = drop_values(keys, lengths, 0.3, generator(1))
    assert not torch.equal(left["lengths"], other["lengths"])
    whole = drop_values(keys, lengths, 0.0, generator())
    assert torch.equal(whole["keys"], keys)
    assert torch.equal(whole["lengths"], lengths)


def test_bad_input():
    with pytest.raises(ValueError, match="need at least 2, got 1"):
        random_mask(1, generator())
    with pytest.raises(ValueError, match=r"at least 3 features, got \(2, 2\): with fewer, one view would hide"):
        correlated_mask(torch.eye(2), generator())
    with pytest.raises(ValueError, match="companions must be at least 1, got 0"):
        correlated_mask(torch.eye(3), generator(), companions=0)
    with pytest.raises(ValueError, match=r"p must lie in \[0, 1\), got 1"):
        drop_values(torch.arange(2), torch.tensor([2]), 1, generator())
