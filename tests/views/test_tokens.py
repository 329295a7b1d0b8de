"""Views of texts: what may change, what must stay."""

import pytest
import torch

from nolabel.views.tokens import content, crop, delete, hide, hide_groups, keep

START, END, PAD, MASK = 2, 3, 0, 4


def batch(*lengths):
    """Rows of START, 10, 11, ..., END and padding."""
    longest = max(lengths) + 2
    tokens = torch.full((len(lengths), longest), PAD)
    for row, n in zip(tokens, lengths):
        row[: n + 2] = torch.tensor([START, *range(10, 10 + n), END])
    return tokens, tokens != PAD


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(view):
    return [row[real].tolist() for row, real in zip(view.tokens, view.mask)]


def test_content_is_between_start_and_end():
    tokens, mask = batch(3, 1, 0)
    assert [row[m].tolist() for row, m in zip(tokens, content(mask))] == [[10, 11, 12], [10], []]


def test_keep_moves_left_and_pads():
    tokens, _ = batch(3, 1)
    kept = torch.tensor([[True, False, True, False, True], [True, True, True, False, False]])
    found = keep(tokens, kept, PAD)
    assert found.tokens.tolist() == [[2, 11, 3], [2, 10, 3]]
    assert found.mask.all()


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_delete_keeps_order_frame_and_one_token(p):
    tokens, mask = batch(40, 7, 1, 0)
    found = rows(delete(tokens, mask, p, generator()))
    for row, whole in zip(found, rows(type(delete(tokens, mask, 0.0, generator()))(tokens, mask))):
        assert (row[0], row[-1]) == (START, END)
        assert row[1:-1] == sorted(row[1:-1])
        assert set(row) <= set(whole)
        assert len(row) >= min(3, len(whole))
    if p == 0.0:
        assert [len(row) for row in found] == [42, 9, 3, 2]
    if p == 1.0:
        assert [len(row) for row in found] == [3, 3, 3, 2]


def test_delete_share():
    tokens, mask = batch(2000)
    left = int(delete(tokens, mask, 0.1, generator()).mask.sum()) - 2
    assert 1740 < left < 1860


def test_crop_is_one_span_within_the_ratios():
    tokens, mask = batch(*[100] * 200, 1, 0)
    starts = set()
    for row in rows(crop(tokens, mask, (0.2, 0.5), generator()))[:200]:
        inner = row[1:-1]
        assert inner == list(range(inner[0], inner[0] + len(inner)))
        assert 20 <= len(inner) <= 50
        starts.add(inner[0] - 10)
    assert min(starts) < 5
    assert max(starts) > 50
    assert rows(crop(tokens, mask, (0.2, 0.5), generator()))[200:] == [[2, 10, 3], [2, 3]]


def test_crop_reaches_both_ends():
    tokens, mask = batch(*[4] * 300)
    found = [tuple(row[1:-1]) for row in rows(crop(tokens, mask, (0.5, 0.5), generator()))]
    assert set(found) == {(10, 11), (11, 12), (12, 13)}


def test_hide_shares_and_targets():
    tokens, mask = batch(*[400] * 50)
    found = hide(tokens, mask, generator(), mask_id=MASK, vocabulary_size=1000)
    chosen = found.targets != -100
    assert not (chosen & ~content(mask)).any()
    assert torch.equal(found.targets[chosen], tokens[chosen])
    assert torch.equal(found.tokens[~chosen], tokens[~chosen])
    share = chosen.sum() / content(mask).sum()
    assert 0.14 < share < 0.16
    shown = found.tokens[chosen]
    masked, same = (shown == MASK).float().mean(), (shown == tokens[chosen]).float().mean()
    assert 0.77 < masked < 0.83
    assert 0.08 < same < 0.13  # a random token is the right one now and then


def test_hide_chooses_at_least_one_and_none_of_an_empty_text():
    tokens, mask = batch(1, 2, 0)
    found = hide(tokens, mask, generator(), mask_id=MASK, vocabulary_size=100, p=0.0)
    assert (found.targets != -100).sum(dim=1).tolist() == [1, 1, 0]


def test_hide_groups_hides_whole_groups_near_the_share():
    tokens, mask = batch(20, 20)
    groups = torch.full_like(tokens, -1)
    groups[:, 1:21] = torch.arange(20) // 4  # five groups of four
    sizes = set()
    for seed in range(20):
        found = hide_groups(tokens, mask, groups, generator(seed), mask_id=MASK, p=0.3)
        chosen = found.targets != -100
        for row in range(2):
            hit = {int(g) for g in groups[row][chosen[row]]}
            assert all((chosen[row] == (groups[row] == g)).any() for g in hit)
            assert int(chosen[row].sum()) == 4 * len(hit)
            sizes.add(len(hit))
        assert (found.tokens[chosen] == MASK).all()
        assert torch.equal(found.tokens[~chosen], tokens[~chosen])
    assert sizes == {2}  # 4 < 0.3 * 20 <= 8


def test_randomness_is_the_generators():
    tokens, mask = batch(30, 12)
    for view in (
        lambda g: delete(tokens, mask, 0.3, g).tokens,
        lambda g: crop(tokens, mask, (0.1, 0.5), g).tokens,
        lambda g: hide(tokens, mask, g, mask_id=MASK, vocabulary_size=99).tokens,
    ):
        assert torch.equal(view(generator(1)), view(generator(1)))
        first, second = view(generator(1)), view(generator(2))
        assert first.shape != second.shape or not torch.equal(first, second)
