"""The contrastive loss that knows labels."""

import math

import pytest
import torch

from nolabel.objectives import info_nce
from nolabel.objectives.label_aware import label_contrast


def vectors(n, d=5, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_against_the_plain_formula():
    a, b = vectors(4), vectors(6, seed=1)
    of_a, of_b = torch.tensor([0, 1, 2, 7]), torch.tensor([0, 0, 1, 1, 1, 2])
    losses = []
    for i in range(3):  # the last anchor has no positive
        scores = [float(torch.cosine_similarity(a[i], b[j], dim=0)) / 0.3 for j in range(6)]
        total = math.log(sum(map(math.exp, scores)))
        own = [total - scores[j] for j in range(6) if of_b[j] == of_a[i]]
        losses.append(sum(own) / len(own))
    found = label_contrast(a, b, of_a, of_b, temperature=0.3)
    assert float(found) == pytest.approx(sum(losses) / 3, abs=1e-5)


def test_labels_that_differ_make_it_info_nce():
    a, b, labels = vectors(5), vectors(5, seed=1), torch.arange(5)
    torch.testing.assert_close(label_contrast(a, b, labels, labels, temperature=0.2), info_nce(a, b, temperature=0.2))


def test_it_does_not_see_lengths_names_of_classes_or_the_order_of_candidates():
    a, b, labels = vectors(5), vectors(5, seed=1), torch.tensor([0, 1, 1, 2, 0])
    expected = label_contrast(a, b, labels, labels)
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(label_contrast(3 * a, 0.1 * b, labels + 7, labels + 7), expected)
    torch.testing.assert_close(label_contrast(a, b[order], labels, labels[order]), expected)


def test_anchors_move_towards_their_class():
    a, b = vectors(4).requires_grad_(), vectors(4, seed=1).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1])
    label_contrast(a, b, labels, labels).backward()
    assert a.grad.abs().sum() > 0
    assert b.grad.abs().sum() > 0
    with torch.no_grad():
        closer = label_contrast(a - 0.1 * a.grad, b, labels, labels)
    assert closer < label_contrast(a, b, labels, labels)


def test_no_positives_at_all():
    assert float(label_contrast(vectors(2), vectors(2), torch.tensor([0, 1]), torch.tensor([2, 3]))) == 0.0


@pytest.mark.parametrize(
    ("a", "b", "of_a", "of_b", "temperature", "message"),
    [
        (2, 2, 2, 2, 0.0, "temperature must be above 0, got 0"),
        (2, 2, 3, 2, 0.2, r"anchor_labels must be \(2,\), one a row, got \(3,\)"),
        (2, 3, 2, 2, 0.2, r"candidate_labels must be \(3,\), one a row, got \(2,\)"),
    ],
)
def test_bad_input(a, b, of_a, of_b, temperature, message):
    with pytest.raises(ValueError, match=message):
        label_contrast(vectors(a), vectors(b), torch.zeros(of_a), torch.zeros(of_b), temperature=temperature)


def test_widths_must_agree():
    with pytest.raises(ValueError, match="must have one width, got 5 and 4"):
        label_contrast(vectors(2), vectors(2, 4), torch.zeros(2), torch.zeros(2))
