import pytest
import torch
from torch import nn

from nolabel.training import ema_update, momentum_schedule, target_copy


def test_target_is_an_average_of_what_was():
    torch.manual_seed(0)
    online = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    target = target_copy(online)
    expected = [p.detach().clone() for p in online.parameters()]
    for step in range(5):
        with torch.no_grad():
            for p in online.parameters():
                p.add_(torch.randn_like(p))
        online(torch.randn(8, 3))
        ema_update(target, online, 0.9)
        expected = [0.9 * e + 0.1 * p.detach() for e, p in zip(expected, online.parameters())]
        for e, p in zip(expected, target.parameters()):
            torch.testing.assert_close(p, e)
        assert torch.equal(target[1].running_mean, online[1].running_mean)
        assert int(target[1].num_batches_tracked) == step + 1


def test_extremes_and_independence():
    online, target = nn.Linear(2, 2), target_copy(nn.Linear(2, 2))
    before = target.weight.clone()
    ema_update(target, online, 1.0)
    assert torch.equal(target.weight, before)
    ema_update(target, online, 0.0)
    assert torch.equal(target.weight, online.weight)
    with torch.no_grad():
        online.weight.add_(1)
    assert not torch.equal(target.weight, online.weight)
    assert not any(p.requires_grad for p in target.parameters())
    assert all(p.requires_grad for p in online.parameters())
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\], got 1.1"):
        ema_update(target, online, 1.1)


def test_momentum_schedule():
    assert momentum_schedule(0.5, 0.9, 1.0) == pytest.approx(0.95)
    values = [momentum_schedule(i / 10) for i in range(11)]
    assert values == sorted(values)
    assert momentum_schedule(2.0) == 1.0


def test_target_keeps_its_own_statistics_if_told():
    online, target = nn.BatchNorm1d(2), target_copy(nn.BatchNorm1d(2))
    online.running_mean.fill_(3.0)
    ema_update(target, online, 0.5, buffers=False)
    assert target.running_mean.tolist() == [0.0, 0.0]
    ema_update(target, online, 0.5)
    assert target.running_mean.tolist() == [3.0, 3.0]
