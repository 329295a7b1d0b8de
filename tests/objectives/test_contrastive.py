import math

import pytest
import torch
from torch.nn.functional import normalize

from nolabel.objectives import contrastive
from nolabel.objectives.contrastive import info_nce, nt_xent, simple_contrastive


def vectors(n, d=6, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def cosine(a, b):
    return float(a @ b / a.norm() / b.norm())


def slow_nt_xent(z1, z2, temperature):
    z, n = [*z1, *z2], len(z1)
    total = 0.0
    for i in range(2 * n):
        exponentials = {j: math.exp(cosine(z[i], z[j]) / temperature) for j in range(2 * n) if j != i}
        total -= math.log(exponentials[(i + n) % (2 * n)] / sum(exponentials.values()))
    return total / (2 * n)


def slow_info_nce(queries, keys, temperature, negatives=None):
    total = 0.0
    for i in range(len(queries)):
        others = [key for j, key in enumerate(keys) if j != i] if negatives is None else negatives
        positive = math.exp(cosine(queries[i], keys[i]) / temperature)
        total -= math.log(positive / (positive + sum(math.exp(cosine(queries[i], x) / temperature) for x in others)))
    return total / len(queries)


def test_nt_xent_equals_the_slow_recomputation():
    z1, z2 = vectors(7, seed=1), vectors(7, seed=2)
    assert float(nt_xent(z1, z2, temperature=0.3)) == pytest.approx(slow_nt_xent(z1, z2, 0.3))


def test_info_nce_equals_the_slow_recomputation():
    queries, keys, queue = vectors(7, seed=1), vectors(7, seed=2), vectors(9, seed=3)
    one_way, other_way = slow_info_nce(queries, keys, 0.3), slow_info_nce(keys, queries, 0.3)
    assert float(info_nce(queries, keys, temperature=0.3)) == pytest.approx(one_way)
    both = float(info_nce(queries, keys, temperature=0.3, symmetric=True))
    assert both == pytest.approx((one_way + other_way) / 2)
    queued = float(info_nce(queries, keys, temperature=0.3, negatives=queue))
    assert queued == pytest.approx(slow_info_nce(queries, keys, 0.3, queue))


def test_identical_and_orthogonal_views_by_hand():
    eye = torch.eye(4)
    # positive logit 1, two rows each of 3 other images: 6 logits of 0
    assert float(nt_xent(eye, eye, temperature=1.0)) == pytest.approx(math.log(math.e + 6) - 1)
    assert float(info_nce(eye, eye, temperature=1.0)) == pytest.approx(math.log(math.e + 3) - 1)


def test_a_collapse_costs_the_logarithm_of_the_candidates():
    z = torch.ones(8, 3)
    assert float(nt_xent(z, z)) == pytest.approx(math.log(15), rel=1e-5)
    assert float(info_nce(z, z)) == pytest.approx(math.log(8), rel=1e-5)
    assert float(info_nce(z, z, negatives=torch.ones(20, 3))) == pytest.approx(math.log(21), rel=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"hard_fraction": 0.5}, {"negatives": vectors(9, seed=3)}, {"symmetric": True}]
)
def test_reductions_of_the_losses_of_the_queries(options):
    queries, keys = vectors(7, seed=1), vectors(7, seed=2)
    each = info_nce(queries, keys, reduction="none", **options)
    assert each.shape == (14 if options.get("symmetric") else 7,)
    assert float(info_nce(queries, keys, **options)) == pytest.approx(float(each.mean()))
    assert float(info_nce(queries, keys, reduction="sum", **options)) == pytest.approx(float(each.sum()))
    swapped = info_nce(queries.flip(0), keys.flip(0), reduction="none", **options)
    torch.testing.assert_close(swapped[:7], each[:7].flip(0))


def test_swapping_views_scaling_rows_and_permuting_pairs_do_not_matter():
    z1, z2 = vectors(9, seed=1), vectors(9, seed=2)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    scale = torch.arange(1.0, 10.0).unsqueeze(1)
    for loss in (nt_xent, lambda a, b: info_nce(a, b, symmetric=True)):
        wanted = float(loss(z1, z2))
        for same in (loss(z2, z1), loss(z1[order], z2[order]), loss(scale * z1, z2 / scale)):
            assert float(same) == pytest.approx(wanted)


def test_gradients():
    z1, z2, queue = (vectors(4, 3, seed).requires_grad_() for seed in (1, 2, 3))
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b, t: nt_xent(a, b, temperature=t), (z1, z2, temperature))
    assert torch.autograd.gradcheck(
        lambda a, b, c, t: info_nce(a, b, temperature=t, negatives=c), (z1, z2, queue, temperature)
    )


def test_descent_separates_the_pairs():
    z1, z2 = (vectors(16, 8, seed, torch.float32).requires_grad_() for seed in (1, 2))
    optimiser = torch.optim.SGD([z1, z2], lr=5)
    start = float(nt_xent(z1, z2).detach())
    for _ in range(50):
        optimiser.zero_grad()
        nt_xent(z1, z2).backward()
        optimiser.step()
    similarity = normalize(z1.detach(), dim=1) @ normalize(z2.detach(), dim=1).T
    assert float(nt_xent(z1, z2).detach()) < 0.2 * start
    assert similarity.argmax(dim=1).tolist() == list(range(16))


def test_bfloat16_projections_lose_no_more_than_their_own_rounding():
    z1, z2 = vectors(32, seed=1).bfloat16(), vectors(32, seed=2).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = nt_xent(z1, z2)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(nt_xent(z1.double(), z2.double())), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda: nt_xent(torch.ones(4, 2), torch.ones(3, 2)), r"one shape \(n, d\), got \(4, 2\) and \(3, 2\)"),
        (lambda: nt_xent(torch.ones(4), torch.ones(4)), r"z1 must be .* got torch.float32 \(4,\)"),
        (lambda: nt_xent(torch.ones(1, 2), torch.ones(1, 2)), "at least 2 items"),
        (lambda: nt_xent(torch.ones(4, 2), torch.ones(4, 2), temperature=0), "temperature must be above 0, got 0"),
        (lambda: info_nce(torch.ones(4, 2), torch.ones(4, 3)), "keys must have the shape"),
        (lambda: info_nce(torch.ones(4, 2), torch.ones(4, 2, dtype=torch.int64)), "keys must be a floating-point"),
        (lambda: info_nce(torch.ones(4, 2), torch.ones(4, 2), negatives=torch.ones(2)), "negatives must be"),
        (lambda: info_nce(torch.ones(4, 2), torch.ones(4, 2), temperature=-1.0), "temperature must be above 0"),
    ],
)
def test_bad_input(loss, message):
    with pytest.raises(ValueError, match=message):
        loss()


# Hard negatives, one view's negatives, no temperature ------------------------------------------------------------------


def slow_hard(anchor, positive, negatives, temperature, kept):
    """One anchor's hard InfoNCE, from sorted cosines."""
    hardest = sorted((cosine(anchor, x) for x in negatives), reverse=True)[:kept]
    own = math.exp(cosine(anchor, positive) / temperature)
    return -math.log(own / (own + sum(math.exp(s / temperature) for s in hardest)))


def without(rows, *left_out):
    return [row for i, row in enumerate(rows) if i not in left_out]


def test_hard_info_nce_equals_the_slow_recomputation():
    q, k, queue = vectors(8, seed=1), vectors(8, seed=2), vectors(21, seed=3)
    # 7 other keys: ceil(0.3 * 7) = 3; a queue of 21: ceil(0.3 * 21) = 7
    one_way = sum(slow_hard(q[i], k[i], without(k, i), 0.4, 3) for i in range(8)) / 8
    other_way = sum(slow_hard(k[i], q[i], without(q, i), 0.4, 3) for i in range(8)) / 8
    queued = sum(slow_hard(q[i], k[i], queue, 0.4, 7) for i in range(8)) / 8
    assert float(info_nce(q, k, temperature=0.4, hard_fraction=0.3)) == pytest.approx(one_way)
    both = float(info_nce(q, k, temperature=0.4, hard_fraction=0.3, symmetric=True))
    assert both == pytest.approx((one_way + other_way) / 2)
    assert float(info_nce(q, k, temperature=0.4, hard_fraction=0.3, negatives=queue)) == pytest.approx(queued)


def test_hard_nt_xent_equals_the_slow_recomputation():
    z = [*vectors(6, seed=1), *vectors(6, seed=2)]
    z1, z2 = torch.stack(z[:6]), torch.stack(z[6:])
    # all: ceil(0.25 * 10) = 3 of the 10 views of other images; same view: ceil(0.25 * 5) = 2 of 5
    both = [slow_hard(z[i], z[(i + 6) % 12], without(z, i, (i + 6) % 12), 0.4, 3) for i in range(12)]
    assert float(nt_xent(z1, z2, temperature=0.4, hard_fraction=0.25)) == pytest.approx(sum(both) / 12)
    views = [z[:6], z[6:]]
    own = [slow_hard(views[v][i], views[1 - v][i], without(views[v], i), 0.4, 2) for v in (0, 1) for i in range(6)]
    found = float(nt_xent(z1, z2, temperature=0.4, hard_fraction=0.25, negatives="same_view"))
    assert found == pytest.approx(sum(own) / 12)


def test_same_view_equals_the_slow_recomputation():
    views = vectors(7, seed=1), vectors(7, seed=2)
    anchors = [(views[v][i], views[1 - v][i], without(views[v], i)) for v in (0, 1) for i in range(7)]
    for temperature in (0.05, 0.3, 5.0):
        plain = sum(slow_hard(*anchor, temperature, 6) for anchor in anchors) / 14
        assert float(nt_xent(*views, temperature=temperature, negatives="same_view")) == pytest.approx(plain)


def test_same_view_does_not_see_what_the_views_have_in_common():
    """A style that all of one view share lets the negatives of the other view be told by it; there are none."""
    content = torch.eye(6, 8, dtype=torch.float64)
    alike = nt_xent(content, content, temperature=1.0, negatives="same_view")
    assert float(alike) == pytest.approx(math.log(math.e + 5) - 1)
    first, second = content.clone(), content.clone()
    first[:, 6], second[:, 7] = 1.0, 1.0  # cosine of two views: 1/2 of the same content, 0 of another; in a view 1/2
    styled = nt_xent(first, second, temperature=1.0, negatives="same_view")
    assert float(styled) == pytest.approx(math.log(math.exp(0.5) + 5 * math.exp(0.5)) - 0.5)
    assert float(nt_xent(second, first, temperature=1.0, negatives="same_view")) == pytest.approx(float(styled))
    # with all negatives those of the other style are easy: 5 at cosine 1/2, 5 at 0
    easy = nt_xent(first, second, temperature=1.0)
    assert float(easy) == pytest.approx(math.log(6 * math.exp(0.5) + 5) - 0.5)


def test_keeping_all_negatives_is_the_plain_loss():
    z1, z2, queue = vectors(9, seed=1), vectors(9, seed=2), vectors(30, seed=3)
    for options in ({}, {"negatives": "same_view"}):
        plain, kept = nt_xent(z1, z2, **options), nt_xent(z1, z2, hard_fraction=1.0, **options)
        assert float(kept) == pytest.approx(float(plain))
    for options in ({}, {"symmetric": True}, {"negatives": queue}):
        assert float(info_nce(z1, z2, hard_fraction=1.0, **options)) == pytest.approx(
            float(info_nce(z1, z2, **options))
        )


@pytest.mark.parametrize(("fraction", "kept"), [(1e-9, 1), (0.07, 7), (0.071, 8), (0.29, 29), (1.0, 100)])
def test_exactly_the_share_rounded_up_is_kept_whatever_the_ties(fraction, kept):
    q = torch.tensor([[1.0, 0.0]])
    ties = torch.tensor([[0.0, 1.0]]).expand(100, 2)  # 100 negatives at cosine 0
    loss = info_nce(q, q, temperature=1.0, negatives=ties, hard_fraction=fraction)
    assert float(loss) == pytest.approx(math.log(math.e + kept) - 1)


def test_only_the_hardest_negatives_are_pushed():
    q, k, queue = vectors(5, seed=1), vectors(5, seed=2), vectors(40, seed=3).requires_grad_()
    hardest = (normalize(q, dim=1) @ normalize(queue.detach(), dim=1).T).topk(4, dim=1).indices  # ceil(0.1 * 40)
    for loss in (info_nce, simple_contrastive):
        (gradient,) = torch.autograd.grad(loss(q, k, negatives=queue, hard_fraction=0.1), queue)
        assert set(gradient.abs().sum(dim=1).nonzero().flatten().tolist()) == set(hardest.flatten().tolist())


def test_gradients_of_the_hard_losses_and_of_same_view():
    z1, z2, queue = (vectors(5, 3, seed).requires_grad_() for seed in (1, 2, 3))
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    for options in ({"negatives": "same_view"}, {"hard_fraction": 0.4}):
        assert torch.autograd.gradcheck(
            lambda a, b, t, o=options: nt_xent(a, b, temperature=t, **o), (z1, z2, temperature)
        )
    assert torch.autograd.gradcheck(
        lambda a, b, c, t: info_nce(a, b, temperature=t, negatives=c, hard_fraction=0.4), (z1, z2, queue, temperature)
    )
    for fraction in (None, 0.4):
        assert torch.autograd.gradcheck(
            lambda a, b, c, f=fraction: simple_contrastive(a, b, negatives=c, hard_fraction=f), (z1, z2, queue)
        )


def test_chunks_do_not_change_the_hard_loss(monkeypatch):
    def found():
        q, k = vectors(23, seed=1).requires_grad_(), vectors(23, seed=2).requires_grad_()
        loss = info_nce(q, k, hard_fraction=0.2)
        return loss.detach(), *torch.autograd.grad(loss, (q, k))

    whole = found()
    monkeypatch.setattr(contrastive, "_CHUNK", 50)  # two rows at a time
    for value, wanted in zip(found(), whole, strict=True):
        torch.testing.assert_close(value, wanted)


def test_simple_equals_the_slow_recomputation():
    q, k, bank = vectors(7, seed=1), vectors(7, seed=2), vectors(20, seed=3)
    for others in (None, bank):
        for fraction in (None, 0.4):
            slow = 0.0
            for i in range(7):
                negatives = without(k, i) if others is None else list(others)
                cosines = sorted((cosine(q[i], x) for x in negatives), reverse=True)
                kept = cosines if fraction is None else cosines[: math.ceil(0.4 * len(cosines))]
                slow += 0.6 * sum(kept) / len(kept) - cosine(q[i], k[i])
            found = simple_contrastive(q, k, weight=0.6, negatives=others, hard_fraction=fraction)
            assert float(found) == pytest.approx(slow / 7)


def test_simple_is_the_limit_of_high_temperatures():
    """t * (InfoNCE - log n) tends to -positive + mean over all candidates, which is (n - 1) / n of the simple loss."""
    q, k = vectors(9, seed=1), vectors(9, seed=2)
    limit = 1e5 * (float(info_nce(q, k, temperature=1e5)) - math.log(9))
    assert limit == pytest.approx(8 / 9 * float(simple_contrastive(q, k)), rel=1e-3)


def test_low_temperatures_see_the_hardest_negative_alone():
    """t * loss tends to max(0, hardest - positive)."""
    q, k = vectors(9, seed=1), vectors(9, seed=2)
    similarity = normalize(q, dim=1) @ normalize(k, dim=1).T
    positive = similarity.diagonal().clone()
    similarity.fill_diagonal_(-2)
    triplet = float((similarity.amax(dim=1) - positive).clamp(min=0).mean())
    for fraction in (None, 0.1):  # one of eight
        loss = float(info_nce(q, k, temperature=1e-4, hard_fraction=fraction))
        assert 1e-4 * loss == pytest.approx(triplet, rel=1e-3)


def test_hard_losses_are_computed_in_float32_under_autocast():
    z1, z2 = vectors(32, seed=1).bfloat16(), vectors(32, seed=2).bfloat16()
    for loss in (
        lambda a, b: nt_xent(a, b, temperature=0.05, hard_fraction=0.1),
        lambda a, b: nt_xent(a, b, temperature=0.05, negatives="same_view"),
        lambda a, b: info_nce(a, b, temperature=0.05, hard_fraction=0.1),
        lambda a, b: simple_contrastive(a, b, hard_fraction=0.1),
        simple_contrastive,
    ):
        with torch.autocast("cpu", torch.bfloat16):
            found = loss(z1, z2)
        assert found.dtype == torch.float32
        assert float(found) == pytest.approx(float(loss(z1.double(), z2.double())), rel=1e-5)


def test_not_a_number_is_not_hidden():
    z = vectors(4)
    z[1, 2] = math.nan
    for loss in (nt_xent, info_nce, simple_contrastive):
        assert math.isnan(loss(z, z, hard_fraction=0.5))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda z: nt_xent(z, z, hard_fraction=0.0), r"hard_fraction must lie in \(0, 1\], got 0.0"),
        (lambda z: info_nce(z, z, hard_fraction=1.5), r"hard_fraction must lie in \(0, 1\], got 1.5"),
        (lambda z: simple_contrastive(z, z, hard_fraction=-1), r"hard_fraction must lie in \(0, 1\], got -1"),
        (lambda z: info_nce(z, z, reduction="max"), "reduction must be 'mean', 'sum' or 'none', got 'max'"),
        (lambda z: nt_xent(z, z, negatives="other"), "negatives must be 'all' or 'same_view', got 'other'"),
        (lambda z: nt_xent(z, z, negatives="same_view", temperature=0.0), "temperature must be above 0, got 0.0"),
        (lambda z: info_nce(z, z, hard_fraction=0.5, temperature=0.0), "temperature must be above 0, got 0.0"),
        (lambda z: info_nce(z, z, hard_fraction=0.5, temperature=torch.ones(2)), r"a scalar tensor, got shape \(2,\)"),
        (lambda z: nt_xent(z[:1], z[:1], negatives="same_view"), "views of at least 2 items, got 1"),
        (lambda z: info_nce(z[:1], z[:1], hard_fraction=0.5), "at least 2 rows to have negatives, got 1"),
        (
            lambda z: info_nce(z, z[:3], hard_fraction=0.5),
            r"keys must have the shape of queries \(4, 6\), got \(3, 6\)",
        ),
        (
            lambda z: info_nce(z, z, hard_fraction=0.5, negatives=z[:, :2]),
            r"negatives must be \(m >= 1, 6\), got \(4, 2\)",
        ),
        (lambda z: info_nce(z, z, hard_fraction=0.5, negatives=z, symmetric=True), "symmetric must be False"),
        (lambda z: simple_contrastive(z, z[:, :2]), "keys must have the shape"),
        (lambda z: simple_contrastive(z, z, weight=0.0), "weight must be above 0, got 0.0"),
    ],
)
def test_bad_input_of_the_hard_losses(loss, message):
    with pytest.raises(ValueError, match=message) as caught:
        loss(vectors(4))
    assert "\n" not in str(caught.value)
