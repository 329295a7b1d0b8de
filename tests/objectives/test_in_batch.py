import math

import pytest
import torch

from nolabel.objectives import info_nce
from nolabel.objectives.in_batch import false_negatives, in_batch_softmax


def vectors(n, m, d=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator)


def by_hand(queries, passages, temperature, symmetric, ignored=None):
    """Numbers one at a time."""
    n, m = len(queries), len(passages)
    s = [[float(queries[i] @ passages[j]) / temperature for j in range(m)] for i in range(n)]

    def left(i, j):
        return i == j or ignored is None or not ignored[i, j]

    rows = [math.log(sum(math.exp(s[i][j]) for j in range(m) if left(i, j))) - s[i][i] for i in range(n)]
    columns = [math.log(sum(math.exp(s[i][j]) for i in range(n) if left(i, j))) - s[j][j] for j in range(n)]
    loss = sum(rows) / n
    return (loss + sum(columns) / n) / 2 if symmetric else loss


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("m", [3, 5])
def test_against_numbers_one_at_a_time(symmetric, m):
    queries, passages = vectors(3, m)
    ignored = torch.zeros(3, m, dtype=torch.bool)
    ignored[0, 1] = ignored[2, m - 1] = True
    for out in (None, ignored):
        found = in_batch_softmax(queries, passages, temperature=0.7, symmetric=symmetric, ignored=out)
        assert float(found) == pytest.approx(by_hand(queries, passages, 0.7, symmetric, out), rel=1e-5)


def test_equals_info_nce_for_unit_vectors_without_further_passages():
    queries, passages = (torch.nn.functional.normalize(z, dim=1) for z in vectors(6, 6))
    found = in_batch_softmax(queries, passages, temperature=0.1, symmetric=True)
    torch.testing.assert_close(found, info_nce(queries, passages, temperature=0.1, symmetric=True))


def test_own_passage_counts_though_ignored():
    queries, passages = vectors(2, 2)
    found = in_batch_softmax(queries, passages, ignored=torch.ones(2, 2, dtype=torch.bool))
    assert float(found) == 0.0


def test_gradient_reaches_queries_passages_and_temperature_but_not_what_is_ignored():
    queries, passages = (z.requires_grad_() for z in vectors(2, 4))
    temperature = torch.tensor(0.5, requires_grad=True)
    ignored = torch.zeros(2, 4, dtype=torch.bool)
    ignored[:, 3] = True
    in_batch_softmax(queries, passages, temperature=temperature, ignored=ignored).backward()
    assert queries.grad.abs().sum() > 0
    assert passages.grad[:3].abs().sum(dim=1).min() > 0
    assert not passages.grad[3].any()
    assert float(temperature.grad) != 0


def test_log_q_by_hand():
    """Scores less log q, of the own passage too; one constant for all changes nothing, and it has no part in the other half."""
    queries, passages = vectors(2, 3)
    log_q = torch.tensor([0.5, 0.2, 0.3]).log()
    scores = queries @ passages.T / 0.5 - log_q
    expected = -scores.log_softmax(dim=1).diagonal().mean()
    torch.testing.assert_close(in_batch_softmax(queries, passages, temperature=0.5, log_q=log_q), expected)
    plain = in_batch_softmax(queries, passages, temperature=0.5)
    torch.testing.assert_close(
        in_batch_softmax(queries, passages, temperature=0.5, log_q=torch.full((3,), -7.0)), plain
    )
    back = 2 * in_batch_softmax(queries, passages, temperature=0.5, symmetric=True) - plain
    both = in_batch_softmax(queries, passages, temperature=0.5, symmetric=True, log_q=log_q)
    torch.testing.assert_close(both, (expected + back) / 2)


def test_false_negatives():
    found = false_negatives(torch.tensor([3, 4, 3]), torch.tensor([10, 11, 12, 11, 13]))
    # query 0 and 2 are the same question with two answers; passage 3 is passage 1 again
    assert found.long().tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 1, 0, 0]]


def test_bad_input():
    queries, passages = vectors(3, 5)
    with pytest.raises(ValueError, match=r"must be \(n, d\) and \(m >= n, d\), got \(3, 4\) and \(2, 4\)"):
        in_batch_softmax(queries, passages[:2])
    with pytest.raises(ValueError, match=r"got \(3, 4\) and \(5, 3\)"):
        in_batch_softmax(queries, passages[:, :3])
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        in_batch_softmax(queries, passages, temperature=0.0)
    with pytest.raises(ValueError, match=r"ignored must be \(3, 5\), got \(3, 3\)"):
        in_batch_softmax(queries, passages, ignored=torch.zeros(3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"log_q must be \(5,\), got \(3,\)"):
        in_batch_softmax(queries, passages, log_q=torch.zeros(3))
