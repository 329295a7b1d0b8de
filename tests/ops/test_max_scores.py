import pytest
import torch

from nolabel.ops import max_scores as module
from nolabel.ops.max_scores import max_scores


def plain(states, mask, words):
    scores = states @ words.T  # (b, l, v)
    return scores.masked_fill(~mask.unsqueeze(2), -torch.inf).amax(dim=1)


def case(b=5, length=7, d=6, v=11, seed=0):
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(b, length, d, generator=generator, requires_grad=True)
    words = torch.randn(v, d, generator=generator, requires_grad=True)
    mask = torch.arange(length) < torch.randint(1, length + 1, (b, 1), generator=generator)
    return states, mask, words, torch.randn(b, v, generator=generator)


def gradients(function, states, mask, words, slope):
    return torch.autograd.grad((function(states, mask, words) * slope).sum(), (states, words))


@pytest.mark.parametrize("tile", [1, 200, 2**19])
def test_equals_the_plain_formula_with_its_gradients(monkeypatch, tile):
    monkeypatch.setitem(module._TILE, "cpu", tile)
    states, mask, words, slope = case()
    torch.testing.assert_close(max_scores(states, mask, words), plain(states, mask, words))
    for found, expected in zip(
        gradients(max_scores, states, mask, words, slope), gradients(plain, states, mask, words, slope)
    ):
        torch.testing.assert_close(found, expected)


def test_by_hand():
    states = torch.tensor([[[1.0, 2.0], [3.0, -1.0]]], requires_grad=True)
    words = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], requires_grad=True)
    best = max_scores(states, torch.tensor([[True, True]]), words)
    assert best.tolist() == [[3.0, 2.0, -2.0]]
    best.sum().backward()
    assert states.grad.tolist() == [[[0.0, 1.0], [0.0, -1.0]]]  # token 0 won word 1, token 1 words 0 and 2
    assert words.grad.tolist() == [[3.0, -1.0], [1.0, 2.0], [3.0, -1.0]]


def test_padding_neither_scores_nor_learns():
    states, mask, words, slope = case()
    wide = torch.cat([states.detach(), torch.full((5, 4, 6), 1e4)], dim=1).requires_grad_()
    longer = torch.cat([mask, torch.zeros(5, 4, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(max_scores(wide, longer, words), max_scores(states, mask, words))
    slopes, _ = gradients(max_scores, wide, longer, words, slope)
    assert not slopes[~longer].any()


def test_gradient_for_one_of_the_two_alone():
    states, mask, words, slope = case()
    expected = gradients(plain, states, mask, words, slope)
    found = torch.autograd.grad((max_scores(states, mask, words.detach()) * slope).sum(), states)
    torch.testing.assert_close(found[0], expected[0])
    found = torch.autograd.grad((max_scores(states.detach(), mask, words) * slope).sum(), words)
    torch.testing.assert_close(found[0], expected[1])


def test_float32_under_autocast():
    states, mask, words, _ = case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = max_scores(states, mask, words)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain(states, mask, words))


def test_bad_input():
    states, mask, words, _ = case()
    with pytest.raises(ValueError, match=r"must be \(b, l, d\), \(b, l\) and \(v, d\), got"):
        max_scores(states, mask[:, :3], words)
    with pytest.raises(ValueError, match="must be"):
        max_scores(states, mask, words[:, :3])
    with pytest.raises(ValueError, match="each text needs at least one real token"):
        max_scores(states, mask & (torch.arange(5) > 0).unsqueeze(1), words)
