import functools
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nolabel.ops.info_nce import cosine_pair_losses, info_nce_losses, pairwise_logsumexp


def vectors(n, d=5, seed=0, dtype=torch.float64):
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return torch.nn.functional.normalize(z, dim=1)


def slow_loss(anchor, candidates, positive, temperature):
    """-log softmax at the positive, written out for one anchor."""
    logits = [float(anchor @ c) / temperature for c in candidates]
    top = max(logits)
    return top + math.log(sum(math.exp(x - top) for x in logits)) - logits[positive]


def slow_losses(form, queries, keys, negatives, temperature):
    n = len(queries)
    if form == "queue":
        return [slow_loss(q, [key, *negatives], 0, temperature) for q, key in zip(queries, keys)]
    if form == "views":
        z = [*queries, *keys]
        losses = []
        for i in range(2 * n):
            others = [j for j in range(2 * n) if j != i]
            losses.append(slow_loss(z[i], [z[j] for j in others], others.index((i + n) % (2 * n)), temperature))
        return losses
    losses = [slow_loss(queries[i], keys, i, temperature) for i in range(n)]
    if form == "symmetric":
        losses += [slow_loss(keys[i], queries, i, temperature) for i in range(n)]
    return losses


def tiled(form, queries, keys, negatives, temperature, tile):
    if form == "views":
        return info_nce_losses(torch.cat([queries, keys]), temperature=temperature, tile=tile)
    return info_nce_losses(
        queries,
        keys,
        temperature=temperature,
        negatives=negatives if form == "queue" else None,
        symmetric=form == "symmetric",
        tile=tile,
    )


def plain(form, queries, keys, negatives, temperature):
    """The same losses from the whole matrix, for autograd to differentiate."""
    labels = torch.arange(len(queries))
    scaled = queries / temperature
    if form == "queue":
        positive = (scaled * keys).sum(dim=1, keepdim=True)
        logits, labels = torch.cat([positive, scaled @ negatives.T], dim=1), torch.zeros_like(labels)
    elif form == "views":
        z = torch.cat([queries, keys])
        logits = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
        labels = torch.cat([labels + len(queries), labels])
    else:
        logits = scaled @ keys.T
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    if form == "symmetric":
        other = torch.nn.functional.cross_entropy(logits.T, labels, reduction="none")
        return torch.cat([losses, other])
    return losses


FORMS = ["one way", "symmetric", "views", "queue"]
forms = pytest.mark.parametrize("form", FORMS)
# 6 pairs: one tile, tiles that divide, tiles that do not, and single entries
tiles = pytest.mark.parametrize("tile", [None, 3, 4, 1])


@forms
@tiles
def test_losses_equal_the_slow_recomputation(form, tile):
    queries, keys, negatives = vectors(6, seed=1), vectors(6, seed=2), vectors(9, seed=3)
    losses = tiled(form, queries, keys, negatives, 0.2, tile)
    assert losses.tolist() == pytest.approx(slow_losses(form, queries, keys, negatives, 0.2), abs=1e-12)


def test_losses_by_hand():
    eye = torch.eye(2, dtype=torch.float64)
    one_way = math.log(math.e + 1) - 1  # logits (1, 0)
    assert info_nce_losses(eye, eye, temperature=1.0).tolist() == pytest.approx([one_way] * 2)
    views = math.log(math.e + 2) - 1  # logits (1, 0, 0), itself left out
    assert info_nce_losses(torch.cat([eye, eye]), temperature=1.0).tolist() == pytest.approx([views] * 4)
    queue = info_nce_losses(eye, eye, negatives=-eye[:1], temperature=0.5)  # logits (2, -2) and (2, 0)
    assert queue.tolist() == pytest.approx([math.log1p(math.exp(-4)), math.log1p(math.exp(-2))])


@forms
@tiles
def test_derivatives_equal_finite_differences(form, tile):
    inputs = [vectors(4, seed=1), vectors(4, seed=2), vectors(5, seed=3), torch.tensor(0.3, dtype=torch.float64)]
    inputs = [x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(lambda *x: tiled(form, *x, tile), inputs)


@forms
@pytest.mark.parametrize("temperature", [0.5, 0.07, 0.02])
def test_float32_gradients_equal_the_plain_formula(form, temperature):
    gradients = []
    small_tiles = functools.partial(tiled, tile=32)
    for losses, dtype in ((plain, torch.float64), (plain, torch.float32), (small_tiles, torch.float32)):
        queries = vectors(100, 16, seed=1)
        keys = torch.nn.functional.normalize(queries + 0.2 * vectors(100, 16, seed=2), dim=1)
        inputs = [queries, keys, vectors(70, 16, seed=3), torch.tensor(temperature)]
        inputs = [x.to(dtype, copy=True).requires_grad_() for x in inputs]
        losses(form, *inputs).mean().backward()
        gradients.append([x.grad.double() for x in inputs if x.grad is not None])
    for wanted, float32, got in zip(*gradients, strict=True):
        rounding = (float32 - wanted).norm()  # what the plain formula itself loses; much at a low temperature
        assert (got - wanted).norm() <= 1e-5 * wanted.norm() + 4 * rounding


@forms
def test_the_size_of_tiles_does_not_change_the_result(form):
    inputs = vectors(50, seed=1), vectors(50, seed=2), vectors(33, seed=3)
    whole = tiled(form, *inputs, 0.1, 1000)
    for tile in (7, 25, 50, 51):
        torch.testing.assert_close(tiled(form, *inputs, 0.1, tile), whole, rtol=1e-12, atol=1e-12)


@forms
def test_permuting_the_pairs_permutes_the_losses(form):
    queries, keys, negatives = vectors(20, seed=1), vectors(20, seed=2), vectors(9, seed=3)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(4))
    losses = tiled(form, queries, keys, negatives, 0.1, 8)
    permuted = tiled(form, queries[order], keys[order], negatives.flip(0), 0.1, 8)
    both = torch.cat([order, order + 20]) if len(losses) == 40 else order
    torch.testing.assert_close(permuted, losses[both], rtol=1e-12, atol=1e-12)


class LargestTensor(TorchDispatchMode):
    """Watch every operation, the backward pass included, for the largest tensor it returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def largest(losses, form):
    inputs = [vectors(400, 4, seed).requires_grad_() for seed in (1, 2, 3)]
    with LargestTensor() as watch:
        losses(form, *inputs).mean().backward()
    return watch.elements


@forms
def test_no_tensor_is_larger_than_a_tile_or_the_input(form):
    assert largest(lambda form, *x: plain(form, *x, 0.1), form) >= 400 * 400  # the watch does see the plain matrix
    assert largest(lambda form, *x: tiled(form, *x, 0.1, 60), form) <= 60 * 60


def test_pairwise_logsumexp_never_holds_all_pairs():
    z = vectors(400, 4).requires_grad_()
    with LargestTensor() as watch:
        pairwise_logsumexp(z, tile=60).sum().backward()
    assert watch.elements <= 60 * 60


@forms
def test_extreme_logits_stay_finite(form):
    inputs = [(30 * vectors(10, seed=seed)).float().requires_grad_() for seed in (1, 2, 3)]
    losses = tiled(form, *inputs, 1e-3, 4)  # logits of order 1e6
    losses.sum().backward()
    assert losses.isfinite().all()
    assert all(x.grad.isfinite().all() for x in inputs if x.grad is not None)


@forms
def test_autocast_and_half_precision_compute_in_float32(form):
    inputs = [vectors(20, seed=seed).bfloat16().requires_grad_() for seed in (1, 2, 3)]
    expected = tiled(form, *(x.float() for x in inputs), 0.1, 8)
    with torch.autocast("cpu", torch.bfloat16):
        losses = tiled(form, *inputs, 0.1, 8)
        losses.mean().backward()
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, expected)
    assert inputs[0].grad.dtype == torch.bfloat16


def test_a_gradient_is_computed_only_where_it_is_asked_for():
    queries, keys, queue = vectors(6, seed=1).requires_grad_(), vectors(6, seed=2), vectors(9, seed=3)
    info_nce_losses(queries, keys, negatives=queue, temperature=0.1).mean().backward()
    assert queries.grad.norm() > 0
    assert keys.grad is None
    keys.requires_grad_()
    info_nce_losses(queries.detach(), keys, temperature=0.1, tile=4).mean().backward()
    assert keys.grad.norm() > 0


def test_one_tensor_may_be_queries_and_keys():
    z = vectors(6)
    assert info_nce_losses(z, z, temperature=1.0).tolist() == pytest.approx(slow_losses("one way", z, z, None, 1.0))


@tiles
def test_pairwise_logsumexp(tile):
    z = 3 * vectors(7)
    others = (z @ z.T)[~torch.eye(7, dtype=torch.bool)].reshape(7, 6)
    torch.testing.assert_close(pairwise_logsumexp(z, tile=tile), others.logsumexp(dim=1))
    assert torch.autograd.gradcheck(lambda x: pairwise_logsumexp(x, tile=tile), z.requires_grad_())


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([torch.zeros(4)], {}, r"queries must be .* \(n, d\) matrix, got torch.float32 \(4,\)"),
        ([torch.zeros(4, 2, dtype=torch.int64)], {}, "floating-point"),
        ([torch.zeros(2, 2)], {}, "two views of at least 2 items, got 2"),
        ([torch.zeros(5, 2)], {}, "two views .* got 5"),
        ([torch.zeros(4, 2)], {"symmetric": True}, "need keys"),
        ([torch.zeros(4, 2)], {"negatives": torch.zeros(4, 2)}, "need keys"),
        ([torch.zeros(4, 2), torch.zeros(4, 3)], {}, r"keys must have the shape of queries \(4, 2\), got \(4, 3\)"),
        ([torch.zeros(4, 2), torch.zeros(3, 2)], {}, "keys must have the shape"),
        ([torch.zeros(1, 2), torch.zeros(1, 2)], {}, "at least 2 rows"),
        ([torch.zeros(4, 2)] * 2, {"negatives": torch.zeros(5, 3)}, r"negatives must be \(m >= 1, 2\), got \(5, 3\)"),
        ([torch.zeros(4, 2)] * 2, {"negatives": torch.zeros(0, 2)}, "m >= 1"),
        ([torch.zeros(4, 2)] * 2, {"negatives": torch.zeros(5, 2), "symmetric": True}, "symmetric must be False"),
        ([torch.zeros(4, 2)] * 2, {"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ([torch.zeros(4, 2)] * 2, {"temperature": torch.tensor(-1.0)}, "temperature must be above 0, got -1.0"),
        ([torch.zeros(4, 2)] * 2, {"temperature": torch.ones(4)}, r"a scalar tensor, got shape \(4,\)"),
        ([torch.zeros(4, 2)] * 2, {"tile": 0}, "tile must be at least 1, got 0"),
    ],
)
def test_bad_input(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        info_nce_losses(*arguments, **({"temperature": 0.1} | options))


def test_pairwise_logsumexp_needs_two_vectors():
    with pytest.raises(ValueError, match="vectors must have at least 2 rows, got 1"):
        pairwise_logsumexp(torch.zeros(1, 3))


# Cosines of pairs -----------------------------------------------------------------------------------------------------


def pairs(n=6, d=5, dtype=torch.float64):
    """Vectors of many lengths."""
    lengths = torch.linspace(0.1, 9, n, dtype=dtype).unsqueeze(1)
    return vectors(n, d, 1, dtype) * lengths, vectors(n, d, 2, dtype) * lengths.flip(0)


def plain_cosines(first, second, temperature, smoothing):
    """The same losses from the whole matrix."""
    unit = [torch.nn.functional.normalize(x, dim=1) for x in (first, second)]
    logits, own = unit[0] @ unit[1].T / temperature, torch.arange(len(first))
    return torch.cat(
        [
            torch.nn.functional.cross_entropy(each, own, label_smoothing=smoothing, reduction="none")
            for each in (logits, logits.T)
        ]
    )


def test_cosine_losses_by_hand():
    first, second = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[0.6, 0.8], [5.0, 0.0]])
    # cosines [[1, 0.6], [0.8, 0]]; at temperature 0.5 logits [[2, 1.2], [1.6, 0]]
    exact = [
        math.log1p(math.exp(-0.8)),
        math.log1p(math.exp(1.6)),
        math.log1p(math.exp(-0.4)),
        math.log1p(math.exp(1.2)),
    ]
    found = cosine_pair_losses(first, second, temperature=0.5)
    assert found.tolist() == pytest.approx(exact, rel=1e-5)
    # smoothing gives each candidate 0.1 of the target: the positive's logit moves to 0.9 of itself and 0.1 of the other
    spread = [0.1 * gap for gap in (0.8, -1.6, 0.4, -1.2)]
    smoothed = cosine_pair_losses(first, second, temperature=0.5, label_smoothing=0.2)
    assert smoothed.tolist() == pytest.approx([a + b for a, b in zip(exact, spread)], rel=1e-5)


@tiles
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cosine_losses_and_derivatives_equal_the_plain_formula(tile, smoothing):
    inputs = [x.requires_grad_() for x in (*pairs(), torch.tensor(0.3, dtype=torch.float64))]
    found = cosine_pair_losses(*inputs[:2], temperature=inputs[2], label_smoothing=smoothing, tile=tile)
    expected = plain_cosines(*inputs, smoothing)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.linspace(0.5, 2, 12, dtype=torch.float64)  # of both directions and of each anchor
    gradients = [torch.autograd.grad(losses @ weights, inputs) for losses in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-12)


@tiles
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_pairs_of_one_group_are_no_candidates_of_each_other(tile, smoothing):
    inputs = [x.requires_grad_() for x in (*pairs(), torch.tensor(0.3, dtype=torch.float64))]
    groups = torch.tensor([4, 0, 4, 9, 4, 0])
    found = cosine_pair_losses(*inputs[:2], temperature=inputs[2], label_smoothing=smoothing, groups=groups, tile=tile)
    units = [torch.nn.functional.normalize(x, dim=1) for x in inputs[:2]]
    logits = units[0] @ units[1].T / inputs[2]
    expected = []
    for side in (logits, logits.T):
        for row in range(6):
            kept = [j for j in range(6) if j == row or groups[j] != groups[row]]
            p = side[row, kept].log_softmax(dim=0)
            expected.append(-(1 - smoothing) * p[kept.index(row)] - smoothing * p.mean())
    expected = torch.stack(expected)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.linspace(0.5, 2, 12, dtype=torch.float64)
    gradients = [torch.autograd.grad(losses @ weights, inputs) for losses in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-12)


def test_lengths_do_not_matter_to_cosines():
    first, second = pairs()
    losses = cosine_pair_losses(first, second, temperature=0.1)
    torch.testing.assert_close(cosine_pair_losses(7 * first, second / 3, temperature=0.1), losses)
    units = [torch.nn.functional.normalize(x, dim=1) for x in (first, second)]
    torch.testing.assert_close(info_nce_losses(*units, temperature=0.1, symmetric=True), losses)


class LargeStorages(TorchDispatchMode):
    """All memory of at least so many elements that operations return, kept, so that no address comes twice."""

    def __init__(self, elements):
        super().__init__()
        self.elements, self.kept = elements, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().nbytes() >= self.elements * 8:
                self.kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return out


def test_cosines_never_hold_the_matrix_nor_a_copy_of_the_vectors():
    first, second = (vectors(300, 64, seed).requires_grad_() for seed in (1, 2))
    temperature = torch.tensor(0.1, requires_grad=True)
    with LargeStorages(300 * 64) as watch:
        losses = cosine_pair_losses(first, second, temperature=temperature, label_smoothing=0.1, tile=60)
        gradients = torch.autograd.grad(losses.mean(), (first, second, temperature))
    held = {x.untyped_storage().data_ptr() for x in (first, second, *gradients[:2])}
    assert set(watch.kept) == held


def test_only_the_gradients_of_cosines_that_are_asked_for():
    first, second = pairs()
    temperature = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    alone = torch.autograd.grad(cosine_pair_losses(first, second, temperature=temperature).sum(), temperature)
    expected = torch.autograd.grad(plain_cosines(first, second, temperature, 0.0).sum(), temperature)
    torch.testing.assert_close(alone, expected)
    second.requires_grad_()
    (found,) = torch.autograd.grad(cosine_pair_losses(first, second, temperature=0.2).sum(), second)
    torch.testing.assert_close(found, torch.autograd.grad(plain_cosines(first, second, 0.2, 0.0).sum(), second)[0])


def test_cosines_of_zeros_extreme_temperatures_and_half_precision():
    first, second = (x.float() for x in pairs())
    first[2] = 0
    first.requires_grad_()
    losses = cosine_pair_losses(first, second, temperature=1e-4, tile=4)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert first.grad.isfinite().all()
    half = [x.detach().bfloat16().requires_grad_() for x in (first, second)]
    with torch.autocast("cpu", torch.bfloat16):
        losses = cosine_pair_losses(*half, temperature=0.1)
        losses.mean().backward()
    torch.testing.assert_close(losses, cosine_pair_losses(*(x.float() for x in half), temperature=0.1))
    assert (losses.dtype, half[1].grad.dtype) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            [torch.zeros(4, 2), torch.zeros(4, 3)],
            {},
            r"must be alike, got torch.float32 \(4, 2\) and torch.float32 \(4, 3\)",
        ),
        ([torch.zeros(4, 2), torch.zeros(4, 2).double()], {}, "must be alike"),
        ([torch.zeros(1, 2)] * 2, {}, "first must have at least 2 rows"),
        ([torch.zeros(4, 2)] * 2, {"label_smoothing": 1.0}, r"label_smoothing must lie in \[0, 1\), got 1.0"),
        ([torch.zeros(4, 2)] * 2, {"temperature": -1.0}, "temperature must be above 0, got -1.0"),
        ([torch.zeros(4, 2)] * 2, {"tile": 0}, "tile must be at least 1, got 0"),
    ],
)
def test_bad_pairs(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        cosine_pair_losses(*arguments, **({"temperature": 0.1} | options))
