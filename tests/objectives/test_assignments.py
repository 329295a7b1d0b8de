import math

import pytest
import torch

from nolabel.objectives.assignments import assignment_agreement, sharpened
from nolabel.ops import sinkhorn


def scores(count, b=12, k=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(b, k, generator=generator) * 2 - 1 for _ in range(count)]


def softmax(row, temperature):
    powers = [math.exp(float(s) / temperature) for s in row]
    return [power / sum(powers) for power in powers]


def slow(anchors, targets, temperature, target_temperature, iterations):
    """Every pair of views, every sample and every prototype in a loop."""
    b, k = anchors[0].shape
    total, pairs, used = 0.0, 0, [0.0] * k
    predictions = [[softmax(row, temperature) for row in view] for view in anchors]
    for i, target in enumerate(targets):
        assigned = [softmax(row, target_temperature) for row in target]
        if iterations:  # equal up to a factor a row, which the last scaling takes away
            logits = torch.tensor(assigned, dtype=torch.float64).log()
            assigned = sinkhorn(logits, epsilon=1.0, iterations=iterations).tolist()
        for v, view in enumerate(predictions):
            if v == i:
                continue
            pairs += 1
            for sample in range(b):
                total -= sum(assigned[sample][q] * math.log(view[sample][q]) for q in range(k)) / b
    for view in predictions:
        for row in view:
            used = [u + p / (b * len(anchors)) for u, p in zip(used, row)]
    return total / pairs, math.log(k) + sum(u * math.log(u) for u in used)


@pytest.mark.parametrize(("views", "targets"), [(2, 2), (5, 2), (4, 1), (3, 3)])
@pytest.mark.parametrize("iterations", [0, 3])
def test_equals_the_slow_recomputation(views, targets, iterations):
    anchors, aims = scores(views), scores(targets, seed=1)
    found = assignment_agreement(anchors, aims, temperature=0.3, target_temperature=0.1, iterations=iterations)
    expected = slow(anchors, aims, 0.3, 0.1, iterations)
    assert [float(term) for term in found] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_by_hand():
    """Targets at a temperature near 0 are the prototypes 0 and 1; a prediction has the logits 1 and 0."""
    views = [torch.eye(2), torch.eye(2)]
    agreement, unevenness = assignment_agreement(views, views, temperature=1.0, target_temperature=0.01)
    assert float(agreement) == pytest.approx(math.log(math.e + 1) - 1)
    assert float(unevenness) == pytest.approx(0, abs=1e-6)
    one_sided = [torch.tensor([[50.0, 0.0]] * 4)] * 2
    _, unevenness = assignment_agreement(one_sided, one_sided, temperature=1.0)
    assert float(unevenness) == pytest.approx(math.log(2), abs=1e-6)  # one of two prototypes is used
    _, unevenness = assignment_agreement([torch.zeros(4, 7)] * 2, [torch.zeros(4, 7)] * 2)
    assert float(unevenness) == pytest.approx(0, abs=1e-6)


def test_sharpened_by_hand():
    """At half the temperature probabilities are squared."""
    found = sharpened(torch.tensor([[math.log(2.0), 0.0]]), temperature=0.5, iterations=0)
    torch.testing.assert_close(found, torch.tensor([[0.8, 0.2]]))
    even = sharpened(scores(1, b=40, k=4)[0], temperature=0.2, iterations=50)
    torch.testing.assert_close(even.sum(dim=1), torch.ones(40))
    torch.testing.assert_close(even.sum(dim=0), torch.full((4,), 10.0), rtol=1e-3, atol=1e-3)
    uneven = sharpened(scores(1, b=40, k=4)[0], temperature=0.2, iterations=0)
    assert (uneven.sum(dim=0) - 10).abs().max() > 0.5


def test_gradients_reach_the_predictions_and_stop_at_the_targets():
    anchors = [s.requires_grad_() for s in scores(3)]
    targets = [s.requires_grad_() for s in scores(2, seed=1)]
    torch.stack(assignment_agreement(anchors, targets)).sum().backward()
    assert all(anchor.grad.abs().max() > 0 for anchor in anchors)
    assert all(target.grad is None for target in targets)


def test_a_view_is_not_asked_to_predict_itself():
    """With one target among two views, the first view's own scores do not matter for the agreement."""
    anchors, targets = scores(2), scores(1, seed=1)
    before, _ = assignment_agreement(anchors, targets)
    anchors[0] = anchors[0].flip(0)
    after, _ = assignment_agreement(anchors, targets)
    assert torch.equal(before, after)
    anchors[1] = anchors[1].flip(0)
    assert not torch.equal(before, assignment_agreement(anchors, targets)[0])


def test_low_precision_and_many_prototypes_stay_finite():
    anchors = [s.bfloat16() for s in scores(2, k=500)]
    terms = assignment_agreement(anchors, anchors, temperature=0.01, target_temperature=0.001)
    assert all(term.dtype == torch.float32 and torch.isfinite(term) for term in terms)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: assignment_agreement(scores(1), scores(1)), "anchors must hold at least 2 views, got 1"),
        (lambda: assignment_agreement(scores(2), scores(3)), "targets must be from 1 to 2 of the views, got 3"),
        (lambda: assignment_agreement(scores(2), []), "targets must be from 1 to 2 of the views, got 0"),
        (
            lambda: assignment_agreement(scores(2), scores(1, k=4)),
            r"must share one shape \(b, k\), got \[\(12, 5\), \(12, 4\)\]",
        ),
        (lambda: assignment_agreement(scores(2), scores(1), temperature=0.0), "temperature must be above 0, got 0.0"),
        (lambda: sharpened(scores(1)[0], temperature=-1.0), "temperature must be above 0, got -1.0"),
        (lambda: sharpened(scores(1)[0], iterations=-1), "iterations must be at least 0, got -1"),
        (lambda: sharpened(torch.zeros(3, 1)), r"k >= 2 prototypes\), got shape \(3, 1\)"),
        (lambda: sharpened(torch.full((3, 2), torch.nan)), "non-finite prototype scores"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
