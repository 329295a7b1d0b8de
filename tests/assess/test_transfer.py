"""Transfer Score: each part worked out by hand, its bounds and invariances, and everything it refuses."""

import numpy as np
import pytest
import torch

from nolabel.assess.adaptation import (
    CRITERIA,
    Outputs,
    batch_nuclear_norm,
    negative_entropy,
    soft_neighbourhood_density,
    source_accuracy,
)
from nolabel.assess.transfer import (
    TransferScore,
    angular_uniformity,
    as_probabilities,
    hopkins,
    mutual_information,
    transfer_score,
)


def clusters(n=400, d=5, k=4, spread=0.02, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % k
    return rng.normal(size=(k, d))[codes] + spread * rng.normal(size=(n, d)), codes


def simplex(k):
    """k vectors whose angles are all arccos(-1 / (k - 1))."""
    return np.eye(k) - 1 / k


@pytest.mark.parametrize("k", [2, 3, 7])
def test_a_simplex_is_uniform_at_any_length(k):
    rng = np.random.default_rng(0)
    weight = simplex(k) * rng.uniform(0.1, 9, (k, 1))
    assert angular_uniformity(weight) == pytest.approx(0, abs=1e-12)
    turned, _ = np.linalg.qr(rng.normal(size=(k, k)))
    assert angular_uniformity(weight @ turned) == pytest.approx(0, abs=1e-12)


def test_uniformity_by_hand():
    ideal = np.arccos(-0.5)  # of three classes: 120 degrees
    weight = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])  # 90, 180 and 90 degrees
    expected = (2 * (np.pi / 2 - ideal) ** 2 + (np.pi - ideal) ** 2) / 3
    assert angular_uniformity(weight) == pytest.approx(expected)
    assert angular_uniformity(torch.tensor(weight, dtype=torch.float32)) == pytest.approx(expected, rel=1e-6)


def test_parallel_weights_are_no_nan():
    row = np.full((1, 7), 0.1)  # its cosine with itself is rounded to above 1
    assert angular_uniformity(np.repeat(row, 3, axis=0)) == pytest.approx(np.arccos(-0.5) ** 2)
    opposite = np.concatenate([row, -row])
    assert angular_uniformity(opposite) == pytest.approx(0, abs=1e-12)


def test_hopkins_by_brute_force():
    x = clusters(60, 3)[0]
    rng = np.random.default_rng([4, 20])
    probes = x.min(axis=0) + np.ptp(x, axis=0) * rng.random((9, 3))
    rows = rng.choice(60, 9, replace=False)
    assert len(set(rows)) == 9
    a = [min(np.linalg.norm(p - q) for q in x) for p in probes]
    b = [min(np.linalg.norm(x[i] - x[j]) for j in range(60) if j != i) for i in rows]
    assert hopkins(x, 9, repeats=1, random_state=4) == pytest.approx(sum(a) / (sum(a) + sum(b)))


def test_hopkins_tells_clusters_from_noise_from_a_grid():
    rng = np.random.default_rng(1)
    assert hopkins(rng.random((3000, 3))) == pytest.approx(0.5, abs=0.03)
    assert hopkins(clusters()[0]) > 0.9
    axis = np.arange(15.0)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    assert hopkins(grid) < 0.35
    x = clusters()[0]
    assert hopkins(7 * x + 3) == pytest.approx(hopkins(x), rel=1e-6)
    assert hopkins(x) == hopkins(x)
    assert hopkins(x, random_state=1) != hopkins(x)


def test_hopkins_of_equal_rows_is_that_of_points():
    twice = np.repeat([[0.0, 0.0], [1.0, 1.0]], 30, axis=0)
    assert hopkins(twice) == 1.0  # every row has another in its place
    flat = np.concatenate([np.random.default_rng(0).random((60, 1)), np.zeros((60, 1))], axis=1)
    assert 0 < hopkins(flat) < 1  # one axis without extent is no collapse


def test_the_mean_over_draws_is_steadier():
    x = np.random.default_rng(0).random((200, 2))
    one, ten = (np.std([hopkins(x, repeats=r, random_state=s) for s in range(20)]) for r in (1, 10))
    assert ten < one / 2


def test_information_by_hand_and_at_its_bounds():
    p = np.array([[0.9, 0.1], [0.3, 0.7]])
    h = lambda q: -sum(v * np.log(v) for v in q)  # noqa: E731
    assert mutual_information(p) == pytest.approx(h([0.6, 0.4]) - (h(p[0]) + h(p[1])) / 2)
    assert mutual_information(np.eye(5)) == pytest.approx(np.log(5))
    assert mutual_information(np.full((4, 3), 1 / 3)) == pytest.approx(0, abs=1e-12)
    assert mutual_information(np.eye(3)[[1, 1, 1]]) == 0  # sure, but of one class


def test_information_of_batches_is_their_mean_and_biased_low():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(6), 70)
    expected = np.mean([mutual_information(p[:32]), mutual_information(p[32:64])])  # the last six are left out
    assert mutual_information(p, batch=32) == pytest.approx(expected)
    even = np.eye(10)[np.arange(100) % 10]
    assert mutual_information(even, batch=4) == pytest.approx(np.log(4))
    assert mutual_information(even) == pytest.approx(np.log(10))


def test_the_score_is_the_sum_of_its_parts():
    z, codes = clusters()
    logits = 3 * np.eye(4)[codes] + np.random.default_rng(0).normal(size=(400, 4))
    weight = np.random.default_rng(2).normal(size=(4, 5))
    score = transfer_score(z, logits, head_weight=weight)
    p = torch.tensor(logits).softmax(dim=1).numpy()
    assert score.uniformity == pytest.approx(angular_uniformity(weight))
    assert score.hopkins == pytest.approx(hopkins(z))
    assert score.mutual_information == pytest.approx(mutual_information(p) / np.log(4))
    assert score.total == pytest.approx(score.hopkins + score.mutual_information - score.uniformity)
    assert transfer_score(z, probabilities=p, head_weight=weight).total == pytest.approx(score.total)
    assert score == TransferScore(**score.to_dict())
    assert list(score.to_dict()) == ["total", "uniformity", "hopkins", "mutual_information"]
    order = np.random.default_rng(5).permutation(4)  # classes under other numbers
    other = transfer_score(z, logits[:, order], head_weight=weight[order])
    assert other.total == pytest.approx(score.total)
    batched = transfer_score(z, logits, head_weight=weight, mi_batch=32)
    assert batched.mutual_information == pytest.approx(mutual_information(p, batch=32) / np.log(4))


def test_fewer_rows_and_fewer_dimensions():
    z, codes = clusters(30)
    p, weight = np.eye(4)[codes], simplex(4)
    weight = np.pad(weight, ((0, 0), (0, 1)))
    assert transfer_score(z, probabilities=p, head_weight=weight, hopkins_points=5).hopkins == hopkins(z, 5)
    rng = np.random.default_rng(0)
    wide = rng.random((300, 64))
    told, weight = np.eye(2)[np.arange(300) % 2], rng.normal(size=(2, 64))
    whole = transfer_score(wide, probabilities=told, head_weight=weight)
    few = transfer_score(wide, probabilities=told, head_weight=weight, components=2)
    assert abs(few.hopkins - 0.5) < 0.25  # without structure, and 64 dimensions do not say more than that
    assert whole.uniformity == few.uniformity


def test_a_collapsed_classifier_scores_low():
    z, codes = clusters()
    weight = np.pad(simplex(4), ((0, 0), (0, 1)))
    good = transfer_score(z, 9 * np.eye(4)[codes], head_weight=weight)
    one = transfer_score(z, 9 * np.eye(4)[0 * codes], head_weight=weight)
    assert one.total < good.total - 0.5
    assert negative_entropy(as_probabilities(99 * np.eye(4)[0 * codes], None)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.ones((50, 1)), "head_weight": np.ones((1, 3))}, "logits: at least 2 classes.*shape"),
        ({"head_weight": np.array([[1.0, 0, 0], [0, 0, 0]])}, "head_weight: the weights of class 1 are all 0"),
        ({"head_weight": None}, r"head_weight: the weights \(2, 3\) of the last layer were expected, got None"),
        ({"head_weight": np.ones((3, 2))}, r"shape \(2, 3\).* got \(3, 2\); it seems transposed: give head_weight.T"),
        ({"head_weight": np.ones((4, 4))}, r"got \(4, 4\)$"),
        ({"features": np.ones((50, 3))}, "all rows are equal.*the model has collapsed"),
        ({"features": np.full((50, 3), np.nan)}, "features: row 0 has non-finite values"),
        ({"logits": np.full((50, 2), np.inf)}, "logits: row 0 has non-finite values"),
        ({"head_weight": np.full((2, 3), np.nan)}, "head_weight: row 0 has non-finite values"),
        ({"logits": np.ones((49, 2))}, "features and logits: the same rows were expected in both, got 50 and 49"),
        ({"probabilities": np.full((50, 2), 0.5)}, "logits, probabilities: one of the two was expected, got both"),
        ({"logits": None}, "logits, probabilities: one of the two was expected, got neither"),
        ({"logits": None, "probabilities": np.full((50, 2), 0.51)}, "row 0 has a sum of 1.02"),
        ({"logits": None, "probabilities": np.tile([1.5, -0.5], (50, 1))}, "row 0 has negative values"),
        ({"hopkins_fraction": 0.0}, r"hopkins_fraction: a share in \(0, 1\] was expected, got 0.0"),
        ({"hopkins_points": 51}, r"points: an integer in \[1, 50\] was expected \(there are 50 rows\), got 51"),
        ({"hopkins_repeats": 0}, "repeats: an integer at least 1 was expected, got 0"),
        ({"mi_batch": 51}, r"batch: an integer in \[1, 50\] was expected"),
        ({"components": 4}, r"components: an integer in \[1, 3\] was expected"),
    ],
)
def test_bad_input(change, message):
    rng = np.random.default_rng(0)
    given = {"features": rng.random((50, 3)), "logits": rng.random((50, 2)), "head_weight": rng.random((2, 3))}
    with pytest.raises(ValueError, match=message):
        transfer_score(**{**given, **change})


def test_few_rows_are_refused_unless_points_are_named():
    x = np.random.default_rng(0).random((39, 2))
    with pytest.raises(ValueError, match="wants at least 40 rows, got 39; with fewer, say how many points to draw"):
        hopkins(x)
    assert 0 < hopkins(x, 4) < 1
    with pytest.raises(ValueError, match="at least 2 rows"):
        angular_uniformity(np.ones((1, 4)))


def test_baselines_by_hand():
    p = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])
    assert negative_entropy(p) == pytest.approx(np.mean([sum(v * np.log(v) for v in row) for row in p]))
    values = np.linalg.svd(p, compute_uv=False)
    assert batch_nuclear_norm(p) == pytest.approx(values.sum() / np.sqrt(3 * 2))
    assert batch_nuclear_norm(np.eye(3)[np.arange(9) % 3]) == pytest.approx(1)
    unit = p / np.linalg.norm(p, axis=1, keepdims=True)
    spread = []
    for i in range(3):
        s = np.array([unit[i] @ unit[j] for j in range(3) if j != i]) / 0.2
        q = np.exp(s) / np.exp(s).sum()
        spread.append(-(q * np.log(q)).sum())
    assert soft_neighbourhood_density(p, temperature=0.2) == pytest.approx(np.mean(spread))
    assert source_accuracy([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]], [1, 1, 1]) == pytest.approx(2 / 3)


def test_density_does_not_depend_on_its_tiles(monkeypatch):
    p = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    whole = soft_neighbourhood_density(p)
    monkeypatch.setattr("nolabel.assess.adaptation.TILE", 7)
    assert soft_neighbourhood_density(p) == pytest.approx(whole)


def test_all_criteria_take_the_same():
    z, codes = clusters()
    logits, weight = 4 * np.eye(4)[codes], np.pad(simplex(4), ((0, 0), (0, 1)))
    outputs = Outputs(z, logits, weight, source_logits=logits[:8], source_codes=codes[:8])
    found = {name: criterion(outputs) for name, criterion in CRITERIA.items()}
    assert all(np.isfinite(value) for value in found.values())
    assert found["source_accuracy"] == 1.0
    assert found["transfer_score"] == transfer_score(z, logits, head_weight=weight).total
    with pytest.raises(ValueError, match="source_accuracy: source_logits and source_codes were expected, got None"):
        CRITERIA["source_accuracy"](Outputs(z, logits, weight))
    with pytest.raises(ValueError, match="at least 2 rows were expected, got 1"):
        soft_neighbourhood_density([[0.5, 0.5]])
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        soft_neighbourhood_density([[0.5, 0.5]] * 3, temperature=0)
    with pytest.raises(ValueError, match="one label a row"):
        source_accuracy([[1.0, 0.0]], [1, 2])
