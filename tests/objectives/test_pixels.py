import math

import pytest
import torch
from torch import nn

from nolabel.objectives.pixels import location_centres, pixel_consistency, pixel_contrast, pixel_positives, propagate

WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def maps(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def boxes(n, seed=0, *, least=0.3):
    """Rectangles in [0, 1], some of them mirrored either way."""
    generator = torch.Generator().manual_seed(seed)
    extent = least + (1 - least) * torch.rand(n, 2, generator=generator)
    start = torch.rand(n, 2, generator=generator) * (1 - extent)
    ends = torch.stack((start, start + extent), 1)  # (n, 2, 2): start and end of x and y
    mirrored = torch.rand(n, 2, generator=generator) < 0.4
    ends = torch.where(mirrored[:, None], ends.flip(1), ends)
    return ends.flatten(1)


def cosine(a, b):
    return float(a @ b / a.norm() / b.norm())


def slow_centre(box, size, row, column):
    x0, y0, x1, y1 = box.tolist()
    return x0 + (column + 0.5) * (x1 - x0) / size[1], y0 + (row + 0.5) * (y1 - y0) / size[0]


def slow_positives(box, other, size, other_size, threshold):
    """A list of lists, one location after the other."""

    def diagonal(b, s):
        return math.hypot(float(b[2] - b[0]) / s[1], float(b[3] - b[1]) / s[0])

    largest = max(diagonal(box, size), diagonal(other, other_size))
    found = []
    for i in range(size[0] * size[1]):
        x, y = slow_centre(box, size, *divmod(i, size[1]))
        row = []
        for j in range(other_size[0] * other_size[1]):
            u, v = slow_centre(other, other_size, *divmod(j, other_size[1]))
            row.append(math.hypot(x - u, y - v) / largest < threshold)
        found.append(row)
    return found


# Positive pairs -------------------------------------------------------------------------------------------------------


def test_locations_by_hand():
    crop = torch.tensor([[0.2, 0.4, 0.6, 0.8]])
    expected = [[0.3, 0.5], [0.5, 0.5], [0.3, 0.7], [0.5, 0.7]]  # x and y, row by row
    torch.testing.assert_close(location_centres(crop, (2, 2))[0], torch.tensor(expected))
    mirrored = location_centres(torch.tensor([[0.6, 0.4, 0.2, 0.8]]), (2, 2))[0]
    torch.testing.assert_close(mirrored, torch.tensor([expected[i] for i in (1, 0, 3, 2)]))


@pytest.mark.parametrize(("size", "other_size"), [((4, 4), (4, 4)), ((3, 5), (2, 6))])
@pytest.mark.parametrize("threshold", [0.35, 0.7, 1.3])
def test_positives_equal_the_slow_recomputation(size, other_size, threshold):
    one, other = boxes(12, seed=1), boxes(12, seed=2)
    found = pixel_positives(one, other, size, other_size, threshold=threshold)
    expected = [slow_positives(a, b, size, other_size, threshold) for a, b in zip(one, other)]
    assert found.tolist() == expected
    assert 0 < found.float().mean() < 0.9
    swapped = pixel_positives(other, one, other_size, size, threshold=threshold)
    assert torch.equal(swapped.mT, found)


def squares(n, seed=0):
    """Square rectangles: a cell's nearest neighbour is then 0.7071 diagonals away."""
    crop = boxes(n, seed=seed)
    crop[:, 3] = crop[:, 1] + (crop[:, 2] - crop[:, 0])
    return crop


def test_equal_square_crops_pair_each_location_with_itself():
    crop = squares(5, seed=3)
    assert torch.equal(pixel_positives(crop, crop, (6, 6), (6, 6)), torch.eye(36, dtype=torch.bool).expand(5, -1, -1))
    wider = pixel_positives(WHOLE, WHOLE, (3, 3), (3, 3), threshold=0.72)  # neighbours are 0.7071 away
    assert wider.sum(2).tolist() == [[3, 4, 3, 4, 5, 4, 3, 4, 3]]


def test_crops_that_do_not_meet_have_no_pair():
    left, right = torch.tensor([[0.0, 0.0, 0.3, 1.0]]), torch.tensor([[0.7, 0.0, 1.0, 1.0]])
    assert not pixel_positives(left, right, (4, 4), (4, 4)).any()


# Propagation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("layers", [0, 1])
def test_propagation_equals_the_slow_recomputation(sharpness, layers):
    torch.manual_seed(0)
    transform = nn.Conv2d(5, 3, 1, dtype=torch.float64) if layers else None
    x = maps(2, 5, 3, 4)
    values = (transform(x) if layers else x).flatten(2)
    found = propagate(x, sharpness=sharpness, transform=transform).flatten(2)
    flat = x.flatten(2)
    for n in range(2):
        for i in range(12):
            total = torch.zeros(3 if layers else 5, dtype=torch.float64)
            for j in range(12):
                weight = max(cosine(flat[n, :, i], flat[n, :, j]), 0) + (1e-6 if sharpness < 1 else 0)
                total += weight**sharpness * values[n, :, j] / values[n, :, j].norm()
            torch.testing.assert_close(found[n, :, i], total.detach() if layers else total)


def test_sharpness_goes_from_all_locations_to_one():
    x = maps(2, 5, 3, 4)
    unit = x / x.norm(dim=1, keepdim=True)
    torch.testing.assert_close(propagate(x, sharpness=0.0), unit.sum((2, 3), keepdim=True).expand_as(x))
    torch.testing.assert_close(propagate(x, sharpness=1e4), unit)


def test_propagation_knows_no_order_and_no_length():
    x = maps(2, 5, 3, 4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    moved = x.flatten(2)[:, :, order].unflatten(2, (3, 4))
    expected = propagate(x).flatten(2)[:, :, order]
    torch.testing.assert_close(propagate(moved).flatten(2), expected)
    lengths = torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.1
    torch.testing.assert_close(propagate(x * lengths), propagate(x))


# Losses ---------------------------------------------------------------------------------------------------------------


def slow_consistency(queries, keys, one, other, threshold):
    size, other_size = queries.shape[2:], keys.shape[2:]
    total = 0.0
    for n in range(len(queries)):
        positive = slow_positives(one[n], other[n], size, other_size, threshold)
        cosines = [
            cosine(queries[n].flatten(1)[:, i], keys[n].flatten(1)[:, j])
            for i, row in enumerate(positive)
            for j, hit in enumerate(row)
            if hit
        ]
        total += sum(cosines) / (len(cosines) + 1e-6)
    return -2 * total / len(queries)


def slow_contrast(queries, keys, one, other, threshold, temperature):
    size, other_size = queries.shape[2:], keys.shape[2:]
    losses = []
    for n in range(len(queries)):
        for i, row in enumerate(slow_positives(one[n], other[n], size, other_size, threshold)):
            shares = [
                math.exp(cosine(queries[n].flatten(1)[:, i], keys[n].flatten(1)[:, j]) / temperature)
                for j in range(len(row))
            ]
            own = sum(share for share, hit in zip(shares, row) if hit)
            losses += [-math.log(own / sum(shares))] if any(row) else []
    return sum(losses) / len(losses)


def crops():
    """Boxes of six images in two views; those of the last do not meet."""
    one, other = boxes(6, seed=4), boxes(6, seed=5)
    one[-1], other[-1] = torch.tensor([0.0, 0.0, 0.3, 1.0]), torch.tensor([0.7, 0.0, 1.0, 1.0])
    return one, other


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_consistency_equals_the_slow_recomputation(threshold):
    queries, keys, (one, other) = maps(6, 4, 3, 4, seed=1), maps(6, 4, 4, 2, seed=2), crops()
    expected = slow_consistency(queries, keys, one, other, threshold)
    assert abs(expected) > 0.01
    found = pixel_consistency(queries, keys, one, other, threshold=threshold)
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_contrast_equals_the_slow_recomputation():
    queries, keys, (one, other) = maps(6, 4, 3, 4, seed=1), maps(6, 4, 4, 2, seed=2), crops()
    for threshold, temperature in ((0.7, 0.3), (0.5, 1.0)):
        expected = slow_contrast(queries, keys, one, other, threshold, temperature)
        found = pixel_contrast(queries, keys, one, other, threshold=threshold, temperature=temperature)
        assert float(found) == pytest.approx(expected, rel=1e-6)


def test_bounds_of_the_losses():
    x, crop = maps(3, 4, 3, 3), squares(3, seed=6)
    assert float(pixel_consistency(x, x, crop, crop)) == pytest.approx(-2, abs=1e-5)
    assert float(pixel_consistency(-x, x, crop, crop)) == pytest.approx(2, abs=1e-5)
    same = torch.ones(3, 4, 3, 3)  # a collapse: 9 candidates alike, one of them positive
    assert float(pixel_contrast(same, same, crop, crop)) == pytest.approx(math.log(9), rel=1e-5)


def test_each_image_counts_alike_however_many_pairs_it_has():
    """One image with 4 pairs that agree, one with a pair that does not, one without any: -2 (1 - 1 + 0) / 3."""
    x = torch.eye(4).view(1, 4, 2, 2)
    corner = torch.tensor([[0.5, 0.5, 1.5, 1.5]])  # only its first cell meets the last of the whole
    away = torch.tensor([[3.0, 3.0, 4.0, 4.0]])
    other = torch.cat((x, x.roll(1, 1), x))
    other[1, :, 0, 0] = -x[0, :, 1, 1]
    assert pixel_positives(WHOLE, corner, (2, 2), (2, 2)).nonzero().tolist() == [[0, 3, 0]]
    loss = pixel_consistency(x.expand(3, -1, -1, -1), other, WHOLE.expand(3, -1), torch.cat((WHOLE, corner, away)))
    assert float(loss) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("loss", [pixel_consistency, pixel_contrast])
def test_mirroring_a_view_with_its_box_changes_nothing(loss):
    queries, keys, (one, other) = maps(6, 4, 3, 4, seed=1), maps(6, 4, 3, 4, seed=2), crops()
    wanted = float(loss(queries, keys, one, other))
    left_right, upside_down = one[:, [2, 1, 0, 3]], other[:, [0, 3, 2, 1]]
    assert float(loss(queries.flip(3), keys.flip(2), left_right, upside_down)) == pytest.approx(wanted, rel=1e-5)
    assert float(loss(queries.flip(3), keys, one, other)) != pytest.approx(wanted, rel=1e-2)
    assert float(loss(3 * queries, keys / 5, one, other)) == pytest.approx(wanted)


@pytest.mark.parametrize("loss", [pixel_consistency, pixel_contrast])
def test_gradients_reach_the_queries_only(loss):
    queries, keys = maps(3, 3, 2, 2, seed=1).requires_grad_(), maps(3, 3, 2, 2, seed=2).requires_grad_()
    one, other = (each[-3:] for each in crops())  # the last image has no pair
    assert torch.autograd.gradcheck(lambda q: loss(q, keys.detach(), one, other), (queries,))
    loss(queries, keys, one, other).backward()
    assert keys.grad is None
    assert queries.grad[:2].abs().max() > 0
    assert queries.grad[2].abs().max() == 0


def test_gradients_of_the_propagation():
    x = maps(2, 3, 2, 2, seed=3).requires_grad_()
    for sharpness in (0.5, 1.0, 2.0):
        assert torch.autograd.gradcheck(lambda each, s=sharpness: propagate(each, sharpness=s), (x,))
    apart = torch.eye(2).view(1, 2, 1, 2).requires_grad_()  # cosines of exactly 0
    propagate(apart, sharpness=0.5).sum().backward()
    assert apart.grad.isfinite().all()


@pytest.mark.parametrize("loss", [pixel_consistency, pixel_contrast])
def test_no_pair_at_all_costs_nothing(loss):
    queries = maps(1, 4, 2, 2).requires_grad_()
    value = loss(queries, maps(1, 4, 2, 2, seed=1), WHOLE, WHOLE + 5)
    value.backward()
    assert float(value.detach()) == 0
    assert queries.grad.abs().max() == 0


@pytest.mark.parametrize("loss", [pixel_consistency, pixel_contrast, lambda q, k, *rest: propagate(q).sum()])
def test_bfloat16_maps_lose_no_more_than_their_own_rounding(loss):
    queries, keys, (one, other) = maps(6, 4, 3, 4, seed=1).bfloat16(), maps(6, 4, 3, 4, seed=2).bfloat16(), crops()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(queries, keys, one, other)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(loss(queries.double(), keys.double(), one, other)), rel=1e-4)


X, DEGENERATE = torch.ones(2, 3, 2, 2), torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.2, 0.5, 0.9]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pixel_positives(WHOLE, WHOLE, (2, 2), (2, 2), threshold=0), "threshold must be above 0, got 0"),
        (
            lambda: pixel_positives(WHOLE, WHOLE[:, :3], (2, 2), (2, 2)),
            r"one shape \(n, 4\), got \(1, 4\) and \(1, 3\)",
        ),
        (lambda: pixel_positives(WHOLE[0], WHOLE[0], (2, 2), (2, 2)), r"boxes must have shape \(n, 4\), got \(4,\)"),
        (
            lambda: pixel_consistency(X, X, WHOLE.expand(2, -1), DEGENERATE),
            r"other_boxes: degenerate crop rectangle at index 1: x0, y0, x1, y1 are \[0.5, 0.2, 0.5, 0.9\]",
        ),
        (
            lambda: pixel_positives(WHOLE * math.nan, WHOLE, (2, 2), (2, 2)),
            "boxes: degenerate crop rectangle at index 0",
        ),
        (lambda: propagate(X, sharpness=-1), "sharpness must be at least 0, got -1"),
        (lambda: propagate(X[0]), r"maps must be floating-point maps \(n, d, h, w\), got torch.float32 \(3, 2, 2\)"),
        (lambda: propagate(X.int()), "maps must be floating-point maps .* got torch.int32"),
        (lambda: pixel_consistency(X, X[:, :2], WHOLE, WHOLE), r"same n and d, got \(2, 3, 2, 2\) and \(2, 2, 2, 2\)"),
        (lambda: pixel_contrast(X, X[0], WHOLE, WHOLE), "keys must be floating-point maps"),
        (lambda: pixel_contrast(X, X, WHOLE, WHOLE), r"query_boxes must be .* \(2, 4\), got \(1, 4\)"),
        (lambda: pixel_contrast(X, X, WHOLE, WHOLE, temperature=0.0), "temperature must be above 0, got 0.0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
