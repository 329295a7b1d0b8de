"""Spans and their rests, tokens masked, exchanged and changed about."""

import pytest
import torch

from nolabel.views.spans import exchange, inverse_cloze, mask_out, shuffle
from nolabel.views.tokens import content

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


def test_span_and_rest_make_up_the_text():
    tokens, mask = batch(*[20] * 50, 7, 3)
    span, rest = inverse_cloze(tokens, mask, (0.2, 0.4), generator(), kept=0.0)
    for inside, outside, whole in zip(rows(span), rows(rest), [row[m].tolist() for row, m in zip(tokens, mask)]):
        assert (inside[0], inside[-1], outside[0], outside[-1]) == (START, END, START, END)
        assert sorted(inside[1:-1] + outside[1:-1]) == whole[1:-1]
        assert inside[1:-1] == list(range(inside[1], inside[-2] + 1))  # one span
        n = len(whole) - 2
        assert max(1, int(0.2 * n)) <= len(inside) - 2 <= max(1, int(0.4 * n))


def test_span_is_kept_in_the_text_as_often_as_asked():
    tokens, mask = batch(*[10] * 2000)
    span, rest = inverse_cloze(tokens, mask, (0.3, 0.3), generator(), kept=0.1)
    whole = (rest.mask.sum(dim=1) == 12).float().mean()
    assert 0.08 < whole < 0.12
    assert (span.mask.sum(dim=1) == 5).all()


def test_a_text_of_one_token_is_both():
    tokens, mask = batch(1, 4)
    span, rest = inverse_cloze(tokens, mask, (0.5, 0.5), generator(), kept=0.0)
    assert rows(span)[0] == rows(rest)[0] == [START, 10, END]
    assert len(rows(rest)[1]) == 4


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_mask_out(p):
    tokens, mask = batch(900, 3)
    found = mask_out(tokens, mask, p, generator(), mask_id=MASK)
    assert torch.equal(found.mask, mask)
    changed = found.tokens != tokens
    assert (found.tokens[changed] == MASK).all()
    assert not (changed & ~content(mask)).any()
    assert abs(float(changed[0].sum()) / 900 - p) < 0.06


def test_exchange_draws_ordinary_tokens_alone():
    tokens, mask = batch(900, 3)
    ordinary = torch.tensor([50_001, 50_007])
    found = exchange(tokens, mask, 0.3, generator(), ordinary)
    changed = found.tokens != tokens
    assert set(found.tokens[changed].tolist()) == {50_001, 50_007}
    assert not (changed & ~content(mask)).any()
    assert 0.24 < float(changed[0].sum()) / 900 < 0.36


def test_shuffle_changes_places_and_nothing_else():
    tokens, mask = batch(400, 5, 1, 0)
    found = shuffle(tokens, mask, 0.2, generator())
    assert torch.equal(found.mask, mask)
    for row, was, inner in zip(found.tokens, tokens, content(mask)):
        assert sorted(row.tolist()) == sorted(was.tolist())
        assert torch.equal(row[~inner], was[~inner])
    moved = float((found.tokens[0] != tokens[0]).sum()) / 400
    assert 0.14 < moved < 0.26  # a few chosen ones come back to their own place
    assert torch.equal(shuffle(tokens, mask, 0.0, generator()).tokens, tokens)
    assert not torch.equal(shuffle(tokens, mask, 0.2, generator(1)).tokens, found.tokens)
