import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from nolabel.objectives.sampled_softmax import draw_negatives, inclusion_probabilities, sampled_softmax


def setup(n=5, m=3, v=12, s=6):
    """Hidden vectors, output words, targets of hidden vectors."""
    generator = torch.Generator().manual_seed(0)
    hidden, words = torch.randn(m, 4, generator=generator), torch.randn(v, 4, generator=generator)
    targets, rows = torch.randint(v, (n,), generator=generator), torch.randint(m, (n,), generator=generator)
    q = torch.rand(v, generator=generator) + 0.1
    return hidden, words, targets, rows, q / q.sum()


def logits(hidden, words, targets, rows, negatives):
    return (hidden[rows] * words[targets]).sum(1), hidden @ words[negatives].T


def test_by_hand():
    """One by one over the set of the negatives and the target, each corrected, each once."""
    hidden, words, targets, rows, q = setup()
    chances = inclusion_probabilities(q, 6)
    negatives = torch.tensor([0, 3, 4, 7, 8, int(targets[0])]).unique()
    true, false = logits(hidden, words, targets, rows, negatives)
    total = 0.0
    for i, t in enumerate(targets.tolist()):
        scores = {w: float(hidden[rows[i]] @ words[w] - math.log(chances[w])) for w in {*negatives.tolist(), t}}
        total += math.log(sum(math.exp(x) for x in scores.values())) - scores[t]
    found = sampled_softmax(true, false, targets, negatives, chances.log(), rows=rows)
    assert float(found) == pytest.approx(total / len(targets), rel=1e-5)


def test_all_words_are_the_full_softmax():
    hidden, words, targets, rows, q = setup()
    chances = inclusion_probabilities(q, 12)
    assert (chances == 1).all()
    negatives = draw_negatives(chances)
    assert negatives.tolist() == list(range(12))
    found = sampled_softmax(
        *logits(hidden, words, targets, rows, negatives), targets, negatives, chances.log(), rows=rows
    )
    torch.testing.assert_close(found, cross_entropy(hidden[rows] @ words.T, targets))


def test_one_hidden_vector_a_target_is_the_same():
    hidden, words, targets, rows, q = setup()
    negatives, chances = torch.tensor([1, 2, 9]), inclusion_probabilities(q, 3)
    shared = sampled_softmax(
        *logits(hidden, words, targets, rows, negatives), targets, negatives, chances.log(), rows=rows
    )
    true, false = logits(hidden[rows], words, targets, torch.arange(5), negatives)
    torch.testing.assert_close(sampled_softmax(true, false, targets, negatives, chances.log()), shared)


def test_gradients_agree_with_the_plain_formula():
    hidden, words, targets, rows, q = setup()
    chances, negatives = inclusion_probabilities(q, 3), torch.tensor([1, 2, int(targets[1])]).unique()

    def plain(hidden, words):
        scores = hidden[rows] @ words.T - chances.log()
        inside = torch.zeros(5, 12, dtype=torch.bool)
        inside[:, negatives] = True
        inside[torch.arange(5), targets] = True
        return cross_entropy(scores.masked_fill(~inside, -math.inf), targets)

    slopes = []
    for loss in (
        plain,
        lambda h, w: sampled_softmax(
            *logits(h, w, targets, rows, negatives), targets, negatives, chances.log(), rows=rows
        ),
    ):
        leaves = [hidden.clone().requires_grad_(), words.clone().requires_grad_()]
        slopes.append(torch.autograd.grad(loss(*leaves), leaves))
    for mine, theirs in zip(*slopes):
        torch.testing.assert_close(mine, theirs)
        assert theirs.abs().max() > 0
        assert torch.isfinite(mine).all()


def test_sampled_gradient_points_where_the_full_one_does():
    """The correction at work: averaged over draws it nears the full softmax, without it frequent words are pushed down."""
    torch.manual_seed(0)
    v, target = 50, torch.tensor([30])
    q = 1 / torch.arange(1.0, v + 1)
    chances = inclusion_probabilities(q / q.sum(), 15).double()
    start = torch.zeros(v, dtype=torch.float64)
    full = torch.full((v,), 1 / v, dtype=torch.float64)
    full[30] -= 1
    slopes = {True: torch.zeros(v, dtype=torch.float64), False: torch.zeros(v, dtype=torch.float64)}
    for _ in range(800):
        negatives = draw_negatives(chances)
        for corrected in slopes:
            scores = start.clone().requires_grad_()
            logs = chances.log().float() if corrected else torch.zeros(v)
            sampled_softmax(scores[target], scores[negatives][None], target, negatives, logs).backward()
            slopes[corrected] += scores.grad / 800
    assert (slopes[True][:5] - full[:5]).abs().max() < 0.01
    assert (slopes[False][:5] - full[:5]).abs().max() > 0.03


def test_inclusion_by_hand():
    chances = inclusion_probabilities(torch.tensor([0.05, 0.7, 0.2, 0.05]).double(), 2)
    torch.testing.assert_close(chances, torch.tensor([1 / 6, 1.0, 2 / 3, 1 / 6]).double())  # 1, then the rest of c q
    assert inclusion_probabilities(torch.tensor([0.5, 0.5]), 9).tolist() == [1, 1]
    even = inclusion_probabilities(torch.full((10,), 0.1), 4)
    torch.testing.assert_close(even, torch.full((10,), 0.4))


@pytest.mark.parametrize("size", [1, 7, 64, 500])
def test_draws_are_different_and_as_frequent_as_promised(size):
    q = 1 / torch.arange(1.0, 1001)
    chances = inclusion_probabilities((q / q.sum()).double(), size)
    assert float(chances.sum()) == pytest.approx(size)
    generator = torch.Generator().manual_seed(3)
    counts = np.zeros(1000)
    for _ in range(2000):
        found = draw_negatives(chances, generator)
        assert len(found) == size == len(found.unique())
        counts[found] += 1
    expected = chances.numpy()
    assert np.abs(counts / 2000 - expected).max() < 5 * 0.5 / 2000**0.5
    assert (counts[expected == 1] == 2000).all()


def test_seed_decides():
    chances = inclusion_probabilities(torch.full((100,), 0.01), 10)
    one, other = (draw_negatives(chances, torch.Generator().manual_seed(s)).tolist() for s in (5, 5))
    assert one == other
    assert one != draw_negatives(chances, torch.Generator().manual_seed(6)).tolist()


def test_bad_input():
    ok = (torch.zeros(2), torch.zeros(2, 3), torch.tensor([0, 1]), torch.tensor([1, 2, 3]), torch.zeros(5))
    sampled_softmax(*ok)
    with pytest.raises(ValueError, match=r"logits must be \(2,\) and \(m, 3\) for 2 targets and 3 negatives"):
        sampled_softmax(torch.zeros(3), *ok[1:])
    with pytest.raises(ValueError, match=r"logits must be"):
        sampled_softmax(ok[0], torch.zeros(2, 4), *ok[2:])
    with pytest.raises(ValueError, match="rows must name the hidden vector of each of 2 targets, got none"):
        sampled_softmax(ok[0], torch.zeros(1, 3), *ok[2:])
    with pytest.raises(ValueError, match=r"each of 2 targets, got \(3,\)"):
        sampled_softmax(*ok, rows=torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        inclusion_probabilities(torch.ones(3), 0)
    with pytest.raises(ValueError, match="probabilities must be positive"):
        inclusion_probabilities(torch.tensor([0.0, 1.0]), 1)
