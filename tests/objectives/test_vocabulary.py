import math

import pytest
import torch
from torch.nn.functional import cross_entropy, elu, normalize

from nolabel.objectives.vocabulary import dealt_words, elu1p, sparsified, vocabulary_contrast, word_bag


def case(n=3, m=5, v=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    queries, passages = (torch.rand(rows, v, generator=generator).requires_grad_() for rows in (n, m))
    bags = [torch.rand(rows, v, generator=generator) < 0.3 for rows in (n, m)]
    for bag in bags:
        bag[:, -2:] = False  # two words that the batch lacks
    return queries, passages, *bags


def symmetric(a, b):
    """S(A, P) of the paper: rows over all passages, columns over the first n."""
    scores, own = a @ b.T, torch.arange(len(a))
    return (cross_entropy(scores, own) + cross_entropy(scores[:, : len(a)].T, own)) / 2


def kept(weights, bag, k):
    """One row at a time."""
    result = torch.zeros_like(weights)
    for row in range(len(weights)):
        for word in range(weights.shape[1]):
            rank = int((weights[row] > weights[row, word]).sum())
            if rank < k or bag[row, word]:
                result[row, word] = weights[row, word]
    return result


def test_elu1p_is_elu_plus_one_and_never_zero():
    x = torch.linspace(-3, 3, 61)
    torch.testing.assert_close(elu1p(x), elu(x) + 1)
    assert float(elu1p(torch.tensor(-50.0))) == pytest.approx(math.exp(-50))
    x = torch.tensor([-1e4, -2.0, 0.0, 5.0], requires_grad=True)
    elu1p(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.0, math.exp(-2), 1.0, 1.0]))


def test_bag_ignores_order_repetition_and_what_is_no_word():
    places = torch.tensor([3, 3, 0, 1, 2])  # ids 0 and 1 are special
    tokens = torch.tensor([[0, 2, 2, 4, 1], [0, 4, 2, 1, 1], [0, 1, 1, 1, 1]])
    assert word_bag(tokens, places, 3).long().tolist() == [[1, 0, 1], [1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("topk", [0, 1, 3, 7])
def test_sparsified_one_row_at_a_time(topk):
    queries, _, bag, _ = case()
    assert torch.equal(sparsified(queries, bag, topk), kept(queries, bag, topk))
    alone = sparsified(queries, None, topk)
    assert torch.equal(alone, kept(queries, torch.zeros_like(bag), topk))
    assert (alone > 0).sum(dim=1).tolist() == [topk] * 3


def test_vdr_by_hand():
    queries, passages, query_bag, passage_bag = case()
    terms = vocabulary_contrast(queries, passages, query_bag, passage_bag, topk=2)
    torch.testing.assert_close(terms["weights"], symmetric(kept(queries, query_bag, 2), passages) / 2)
    torch.testing.assert_close(terms["words"], symmetric(query_bag.float(), passages) / 2)
    alone = vocabulary_contrast(queries, passages, query_bag, passage_bag, topk=2, lexical=False)
    assert list(alone) == ["weights"]
    torch.testing.assert_close(alone["weights"], 2 * terms["weights"])


def test_svdr_by_hand():
    queries, passages, query_bag, passage_bag = case()
    terms = vocabulary_contrast(queries, passages, query_bag, passage_bag, topk=2, semi=True)
    weights = symmetric(kept(queries, query_bag, 2), passages) + symmetric(queries, kept(passages, passage_bag, 2))
    words = symmetric(query_bag.float(), passages) + symmetric(queries, passage_bag.float())
    torch.testing.assert_close(terms["weights"], weights / 4)
    torch.testing.assert_close(terms["words"], words / 4)
    images = vocabulary_contrast(
        queries, passages, query_bag, torch.zeros_like(passage_bag), topk=2, semi=True, lexical_passages=False
    )
    torch.testing.assert_close(images["words"], symmetric(query_bag.float(), passages) / 3)


def test_dealt_words_by_hand():
    present = torch.tensor([False, True, False, False, True, False])
    assert dealt_words(2, present).long().tolist() == [[1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 1]]


def test_contrastive_mask_by_hand():
    queries, passages, query_bag, passage_bag = case()
    terms = vocabulary_contrast(queries, passages, query_bag, passage_bag, topk=2, contrastive_mask=True)
    plain = vocabulary_contrast(queries, passages, query_bag, passage_bag, topk=2)
    torch.testing.assert_close(terms["weights"], plain["weights"])
    present = query_bag.any(dim=0) | passage_bag.any(dim=0)
    assert not present[-2:].any()
    bag, seen = query_bag.float(), passages.clone()
    for word in range(7):
        if not present[word]:
            bag[word % 3, word] = 1.0
            seen[word % 3, word] = 0.0
    torch.testing.assert_close(terms["words"], symmetric(bag, seen) / 2)
    # a word that nobody says is pushed down in the passages of the other rows, and left alone in its own
    (slope,) = torch.autograd.grad(terms["words"], passages)
    assert slope[5 % 3, 5] == 0
    assert (slope[[0, 1], 5] > 0).all()


def test_unit_bags():
    queries, passages, query_bag, passage_bag = case()
    terms = vocabulary_contrast(queries, passages, query_bag, passage_bag, topk=2, unit=True, temperature=0.5)
    expected = symmetric(normalize(query_bag.float(), dim=1) / 0.5, passages) / 2
    torch.testing.assert_close(terms["words"], expected)


def test_gradient_of_queries_passes_the_kept_weights_alone():
    queries, passages, query_bag, passage_bag = case()
    terms = vocabulary_contrast(queries, passages, query_bag, passage_bag, topk=2)
    slope, other = torch.autograd.grad(terms["weights"], (queries, passages))
    assert torch.equal(slope != 0, kept(queries, query_bag, 2) > 0)
    assert (other[:3] != 0).any()
    assert terms["words"].requires_grad
    assert torch.autograd.grad(
        vocabulary_contrast(queries, passages, query_bag, passage_bag, topk=2)["words"], queries, allow_unused=True
    ) == (None,)
